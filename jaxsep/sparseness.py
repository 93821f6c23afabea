r"""Factors of a wanted sparseness: between all alike (0) and one entry alone (1).

.. math::
    s(x) = \frac{\sqrt{n} - \|x\|_1 / \|x\|_2}{\sqrt{n} - 1}

References:
    P. O. Hoyer: Non-negative matrix factorization with sparseness constraints. Journal of Machine Learning
    Research 5, 2004 (the measure, and projections on it).
    M. Thom, G. Palm: Sparse activity and sparse connectivity in supervised learning. Journal of Machine
    Learning Research 14, 2013 (the projection is a soft threshold, sections 2.2 and 2.3).
"""

from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["Sparseness", "sparseness", "with_sparseness"]

State = TypeVar("State")  # NMFState or NMFDState: anything with fields w and h


@dataclass(frozen=True)
class Sparseness:
    """A constraint for `nmf.fit` and `nmfd.fit`: components of a wanted sparseness.

    Before each step every component is replaced by the nearest one of the old norm whose sparseness has come the
    share ``(step + 1) / n_steps`` of the way to the wanted one. Multiplications do not bring back what is zero:
    entries are to be given up late, when it has shown which are of use. The last update moves the factors a
    little; :func:`with_sparseness` makes the result exact. Meant for beta 2, as in the paper: for lower betas a
    template that is 0 where the spectrogram is not costs much.

    Attributes:
        w: sparseness of each template, over bins and lags; 0 to 1, None leaves the templates free.
        h: sparseness of each activation over frames, likewise.

    Example:
        >>> Sparseness(h=0.6)
        Sparseness(w=None, h=0.6)
    """

    w: float | None = None
    h: float | None = None

    def __post_init__(self) -> None:
        for name in ("w", "h"):
            target = getattr(self, name)
            if target is not None and not 0 <= target <= 1:
                raise ValueError(f"{name} must be within 0 and 1, got {target}")

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state with sparser (or less sparse) components."""
        share = (step + 1) / n_steps

        def drawn(rows: Float[Array, "component n"], target: float) -> Float[Array, "component n"]:
            now = jnp.clip(sparseness(rows), 0, 1)
            return with_sparseness(rows, now + share * (target - now))

        if self.w is not None:
            templates = jnp.moveaxis(state.w, 1, 0)
            rows = drawn(templates.reshape((len(templates), -1)), self.w)
            state = state._replace(w=jnp.moveaxis(rows.reshape(templates.shape), 0, 1))
        if self.h is not None:
            state = state._replace(h=drawn(state.h, self.h))
        return state


def sparseness(x: Float[Array, "... n"]) -> Float[Array, "..."]:
    """How few entries hold how much of a vector.

    Args:
        x: vectors along the last axis, of two entries or more.

    Returns:
        0 (all entries alike) to 1 (one alone is not zero) per vector; 0 for vectors of zeros.

    Raises:
        ValueError: fewer than two entries.

    Example:
        >>> sparseness(jnp.array([[1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0]])).tolist()
        [0.0, 1.0]
    """
    x = _as_vectors(x)
    root = x.shape[-1] ** 0.5
    size = jnp.linalg.norm(x, axis=-1)
    concentration = jnp.abs(x).sum(axis=-1) / jnp.where(size > 0, size, 1)
    return jnp.where(size > 0, (root - concentration) / (root - 1), 0)


def with_sparseness(x: Float[Array, "... n"], target: float | Float[Array, "..."]) -> Float[Array, "... n"]:
    """The nearest non-negative vectors of a given sparseness that have the norms of the given ones.

    A constant is taken from all entries, what falls below zero is cut, and the rest is scaled: of all constants
    the one that gives the sparseness, found among the sorted entries without iterations.

    Args:
        x: vectors along the last axis, ≥ 0, of two entries or more.
        target: 0 to 1, one number or one for each vector.

    Returns:
        The vectors, in the shape of `x`. Where equal entries are the largest, only they are left if that is less
        sparse than `target`; so vectors whose entries are all alike remain as they are.

    Raises:
        ValueError: `target` is not within 0 and 1, or fewer than two entries.

    Example:
        >>> sparse = with_sparseness(jnp.array([4.0, 3.0, 2.0, 1.0]), 0.7)
        >>> round(float(sparseness(sparse)), 4), round(float(jnp.linalg.norm(sparse) ** 2), 4)
        (0.7, 30.0)
    """
    x = _as_vectors(x)
    if not isinstance(target, jax.core.Tracer) and not bool(jnp.all((target >= 0) & (target <= 1))):
        raise ValueError(f"target must be within 0 and 1, got {target}")
    return _with_sparseness(x, jnp.asarray(target, x.dtype))


@jax.jit
@partial(jnp.vectorize, signature="(n),()->(n)")
def _with_sparseness(x: Float[Array, " n"], target: Float[Array, ""]) -> Float[Array, " n"]:
    root = len(x) ** 0.5
    size, largest = jnp.linalg.norm(x), x.max()
    # Over the largest entry: squares of quiet ones would vanish.
    x = x / jnp.where(largest > 0, largest, 1)
    ordered = -jnp.sort(-x)
    count = jnp.arange(1, len(x) + 1, dtype=x.dtype)
    mean = jnp.cumsum(ordered) / count
    # Welford's sums: a difference of sums of squares would round away the deviation of entries that are alike.
    before = jnp.append(jnp.zeros(1, x.dtype), mean[:-1])
    deviation = jnp.sqrt(jnp.cumsum((ordered - before) * (ordered - mean)) / count)
    concentration = root - target * (root - 1)  # the wanted ratio of the two norms
    # With the largest k entries left, their norms have that ratio when this much is taken from each.
    room = (jnp.sqrt(count) - root + target * (root - 1)) * (jnp.sqrt(count) + concentration)  # k - ratio^2
    taken = mean - concentration * deviation / jnp.sqrt(jnp.where(room > 0, room, 1))
    # It fits if it cuts all others and none of these.
    fits = (room > 0) & (taken >= jnp.append(ordered[1:], -jnp.inf)) & (taken < ordered)
    rest = jnp.maximum(x - taken[jnp.argmax(fits)], 0)
    # Nothing fits where that leaves less than the largest entry, or all entries that are equal to it.
    rest = jnp.where(fits.any(), rest, (x == x.max()).astype(x.dtype))
    rest = jnp.where(target * (root - 1) <= jnp.finfo(x.dtype).eps * root, jnp.ones_like(x), rest)
    return jnp.where(largest > 0, size / jnp.linalg.norm(rest) * rest, x)


def _as_vectors(x: Array) -> Array:
    x = jnp.asarray(x)
    if x.ndim < 1 or x.shape[-1] < 2:
        raise ValueError(f"x must have two entries or more along its last axis, got shape {x.shape}")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
