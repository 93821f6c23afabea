r"""Non-negative matrix factorisation of a stream: a few frames at a time, with templates that keep learning.

What a batch of frames says about the templates is added to running sums that slowly forget:

.. math::
    a \leftarrow \rho a + w^{1/\gamma} \odot (v\, \hat v^{\beta-2}) h^T, \quad
    b \leftarrow \rho b + \hat v^{\beta-1} h^T, \quad w \leftarrow (a / b)^\gamma

with the exponent of :func:`jaxsep.nmf.step`. A song that does not fit into memory can be factorised so, or a
whole collection; and long ones take fewer passes, because the templates move with each batch.

References:
    A. Lefèvre, F. Bach, C. Févotte: Online algorithms for nonnegative matrix factorization with the
    Itakura-Saito divergence. WASPAA 2011.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsep import nmf
from jaxsep.beta_divergence import (
    as_magnitude,
    h_terms,
    in_units,
    level,
    mm_exponent,
    model_divergence,
    multiplied,
    w_terms,
)
from jaxsep.descent import check_nonnegative, check_steps, over_batch, run
from jaxsep.nmf import NMFInfo, NMFState

__all__ = ["OnlineState", "fit", "init", "step"]


class OnlineState(NamedTuple):
    """The templates, and what is remembered of the frames so far."""

    w: Float[Array, "freq component"]  # templates
    numerator: Float[Array, "freq component"]  # a
    denominator: Float[Array, "freq component"]  # b
    unit: Float[Array, "1 1"]  # the loudness by which every batch is divided


def init(v: Float[Array, "freq frame"], w: Float[Array, "freq component"]) -> OnlineState:
    """Templates that have heard nothing yet, and the loudness that counts as ordinary.

    Args:
        v: magnitudes (freq, frame) that are about as loud as the whole, the first batch say, ≥ 0.
        w: templates to start from (freq, component), ≥ 0; see :func:`jaxsep.nmf.init`.

    Returns:
        The state, in the dtype of ``v`` (float32 for integers).

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together, a negative, infinite or NaN value.

    Example:
        >>> init(jnp.ones((5, 7)), jnp.ones((5, 2))).denominator.shape
        (5, 2)
    """
    v = as_magnitude(v)
    w = jnp.asarray(w, v.dtype)
    if v.ndim != 2 or w.ndim != 2 or len(w) != len(v):
        raise ValueError(f"v and w must be (freq, frame) and (freq, component), got {v.shape} and {w.shape}")
    check_nonnegative(v=v, w=w)
    return OnlineState(w, w, jnp.ones_like(w), level(v))


def step(
    v: Float[Array, "freq frame"],
    h: Float[Array, "component frame"],
    state: OnlineState,
    *,
    beta: float = 1.0,
    memory: float = 0.7,
    n_h_steps: int = 1,
) -> tuple[Float[Array, "component frame"], OnlineState]:
    """Hear a batch of frames: update its activations, and then the templates.

    Args:
        v: the batch, magnitudes (freq, frame), ≥ 0. Batches of one size compile once; silent frames with
            activations of 0 at the end of a shorter one change nothing.
        h: activations of the batch (component, frame), ≥ 0: those of the last pass, or ``init``'s.
        state: the templates so far.
        beta: which divergence, see :func:`jaxsep.nmf.divergence`.
        memory: what is left of the past after this batch, 0 to 1.
        n_h_steps: updates of the activations before the templates move; several where the batch is new.

    Returns:
        The activations of the batch and the next state.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together.

    Example:
        >>> v = jnp.outer(jnp.arange(1.0, 4.0), jnp.arange(1.0, 5.0))
        >>> h, state = step(v, jnp.ones((1, 4)), init(v, jnp.ones((3, 1))), n_h_steps=2)
        >>> h.shape, state.w.shape
        ((1, 4), (3, 1))
    """
    v = as_magnitude(v)
    h = jnp.asarray(h, v.dtype)
    if v.ndim != 2 or h.shape != (state.w.shape[1], v.shape[1]) or len(v) != len(state.w):
        raise ValueError(
            f"v and h must be (freq, frame) and (component, frame) with {len(state.w)} bins and "
            f"{state.w.shape[1]} components, got {v.shape} and {h.shape}"
        )
    unit = state.unit
    h, state = _heard(in_units(v, unit, beta), h / unit, state, beta=beta, memory=memory, n_h_steps=n_h_steps)
    return h * unit, state


def fit(
    v: Float[Array, "*batch freq frame"],
    state: NMFState,
    *,
    beta: float = 1.0,
    batch_frames: int = 1024,
    n_passes: int = 20,
    tol: float | None = None,
    memory: float = 0.7,
    divergence_every: int = 1,
) -> tuple[NMFState, NMFInfo]:
    """Factorise one or many spectrograms in batches of frames, over and over.

    Args:
        v: magnitudes (..., freq, frame), finite, ≥ 0.
        state: factors to start from, w (..., freq, component) and h (..., component, frame), finite, ≥ 0.
            Leading dims broadcast.
        beta: which divergence, see :func:`jaxsep.nmf.divergence`.
        batch_frames: frames in a batch, 1 or more; the last batch of a pass may be shorter.
        n_passes: passes over the frames at most.
        tol: stop early, see :func:`jaxsep.nmf.fit`; measured by passes.
        memory: what is left of the past after a whole pass, 0 to 1.
        divergence_every: measure the divergence after every so many passes and after the last.

    Returns:
        The state, and the divergence after each pass with the number of passes made. Unlike that of
        :func:`jaxsep.nmf.fit` it may rise now and then.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together, negative, infinite or NaN values in concrete arrays, or
            options out of range.

    Example:
        >>> v = jnp.outer(jnp.arange(1.0, 4.0), jnp.arange(1.0, 9.0))
        >>> state, info = fit(v, nmf.init(v, 1, key=jax.random.key(0)), batch_frames=3, n_passes=9)
        >>> bool(jnp.allclose(nmf.reconstruct(state), v, rtol=1e-2))
        True
    """
    v, state = nmf.as_problem(v, state)
    check_steps(n_passes, divergence_every, tol, 1.0)
    check_nonnegative(v=v, w=state.w, h=state.h)
    if batch_frames < 1:
        raise ValueError(f"batch_frames must be 1 or more, got {batch_frames}")
    if not isinstance(memory, jax.core.Tracer) and not 0 <= memory <= 1:
        raise ValueError(f"memory must be within 0 and 1, got {memory}")
    batch_frames = min(batch_frames, v.shape[-1])
    return _fit(
        v,
        state,
        memory,
        tol,
        beta=float(beta),
        batch_frames=batch_frames,
        n_passes=n_passes,
        divergence_every=divergence_every,
    )


@partial(jax.jit, static_argnames=("beta", "batch_frames", "n_passes", "divergence_every"))
def _fit(
    v: Array,
    state: NMFState,
    memory: float | Array,
    tol: float | Array | None,
    *,
    beta: float,
    batch_frames: int,
    n_passes: int,
    divergence_every: int,
) -> tuple[NMFState, NMFInfo]:
    n_frames = v.shape[-1]
    n_batches = -(-n_frames // batch_frames)
    memory = memory ** (batch_frames / n_frames)

    def one(v: Array, w: Array, h: Array) -> tuple[NMFState, Array, Array]:
        unit = level(v)
        v, h = in_units(v, unit, beta), h / unit
        # Frames without activations say nothing about the templates: the last batch is filled up with them.
        missing = [(0, 0), (0, n_batches * batch_frames - n_frames)]
        batches = _batches(jnp.pad(v, missing, constant_values=1), n_batches)

        def heard(state: OnlineState, batch: tuple[Array, Array]) -> tuple[OnlineState, Array]:
            h, state = _heard(*batch, state, beta=beta, memory=memory, n_h_steps=1)
            return state, h

        def one_pass(carry: tuple[OnlineState, Array], _: Array) -> tuple[OnlineState, Array]:
            state, h = carry
            return lax.scan(heard, state, (batches, h))

        def objective(carry: tuple[OnlineState, Array]) -> Float[Array, ""]:
            return model_divergence(v, carry[0].w, _joined(carry[1], n_frames), beta)

        start = OnlineState(w, w, jnp.ones_like(w), unit), _batches(jnp.pad(h, missing), n_batches)
        (state, h), curve, n_done = run(
            one_pass, objective, start, n_steps=n_passes, tol=tol, divergence_every=divergence_every
        )
        return NMFState(state.w, _joined(h, n_frames) * unit), curve * unit[0, 0] ** beta, n_done

    state, curve, n_done = over_batch(one, (v, state.w, state.h), (2, 2, 2))
    return state, NMFInfo(curve, n_done)


def _heard(
    v: Array, h: Array, state: OnlineState, *, beta: float, memory: float | Array, n_h_steps: int
) -> tuple[Array, OnlineState]:
    """One batch, in units of the level."""
    w, numerator, denominator, unit = state
    for _ in range(n_h_steps):
        h = multiplied(h, *h_terms(v, w, h, beta), beta)
    more, pull = w_terms(v, w, h, beta)
    exponent = mm_exponent(beta)
    numerator = memory * numerator + more * (w if exponent == 1 else w ** (1 / exponent))
    denominator = memory * denominator + pull
    ratio = numerator / jnp.maximum(denominator, jnp.finfo(w.dtype).tiny)
    return h, OnlineState(ratio if exponent == 1 else ratio**exponent, numerator, denominator, unit)


def _batches(x: Float[Array, "row frame"], n: int) -> Float[Array, "batch row _"]:
    return jnp.moveaxis(x.reshape((len(x), n, -1)), 1, 0)


def _joined(x: Float[Array, "batch row _"], n_frames: int) -> Float[Array, "row frame"]:
    return jnp.moveaxis(x, 0, 1).reshape((x.shape[1], -1))[:, :n_frames]
