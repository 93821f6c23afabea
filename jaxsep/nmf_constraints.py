"""Soft constraints: pure functions ``(state, step, n_steps) -> state`` for `nmf.fit` and `nmfd.fit`.

Each is applied before every step, draws the activations towards a wanted shape, and leaves the rest to the
updates. The classes hold settings and are called like functions; equal settings are equal constraints, so
that compiled code is reused. Any function of the same signature does as well, and :class:`Chain` applies
several.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsep.median_filter import median_filter

__all__ = [
    "Chain",
    "Diagonality",
    "Mosaic",
    "PercussiveActivations",
    "Smoothness",
    "diagonal_sum",
    "exponential_decay",
    "percussiveness",
]

State = TypeVar("State")  # NMFState or NMFDState: anything with fields w and h


@dataclass(frozen=True)
class Chain:
    """Several constraints, one after the other.

    Example:
        >>> Chain((Smoothness(3), Diagonality(5))).constraints[0].size
        3
    """

    constraints: tuple[Callable[[State, Int[Array, ""], int], State], ...]

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state after all constraints."""
        for constraint in self.constraints:
            state = constraint(state, step, n_steps)
        return state


@dataclass(frozen=True)
class Diagonality:
    """Favours activations in which one component follows the other: sums h along its diagonals.

    Attributes:
        length: components and frames in a diagonal, 1 or more.

    References:
        J. Driedger, T. Prätzlich, M. Müller: Let it Bee – towards NMF-inspired audio mosaicing. ISMIR 2015.
    """

    length: int

    def __post_init__(self) -> None:
        _require("length", self.length, 1)

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state with smoothed activations."""
        return state._replace(h=diagonal_sum(state.h, self.length))


@dataclass(frozen=True)
class Smoothness:
    """Favours sustained activations: a running median of h over frames, zeros beyond the ends.

    Attributes:
        size: frames in the median, 1 or more.
    """

    size: int

    def __post_init__(self) -> None:
        _require("size", self.size, 1)

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state with smoothed activations."""
        return state._replace(h=median_filter(state.h, self.size, axis=-1, mode="constant"))


@dataclass(frozen=True)
class PercussiveActivations:
    """Makes activations of percussive templates decay, and those of harmonic ones sustain.

    ``h = (1 - p) median(h) + p decay(h)`` with the :func:`percussiveness` p of each template, which needs
    templates of two stacked spectrograms, the percussive one below the harmonic one.

    Attributes:
        size: frames in the median, 1 or more.
        decay: see :func:`exponential_decay`, 0 to 1.

    References:
        C. Dittmar, P. López-Serrano, M. Müller: Unifying local and global methods for harmonic-percussive
        source separation. ICASSP 2018, sections 2.3 and 2.4.
    """

    size: int
    decay: float = 0.75

    def __post_init__(self) -> None:
        _require("size", self.size, 1)
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be within 0 and 1, got {self.decay}")

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state with shaped activations."""
        share = percussiveness(state.w, w_ndim=state.w.ndim)[:, None]
        sustained = median_filter(state.h, self.size, axis=-1, mode="constant")
        return state._replace(h=(1 - share) * sustained + share * exponential_decay(state.h, self.decay))


@dataclass(frozen=True)
class Mosaic:
    """Diagonal factorisation for audio mosaicing: few source frames at a time, played in their order.

    Every so many steps, with a factor ``1 - (step + 1) / n_steps`` that falls to 0: activations that are not
    the largest among their neighbours are damped, then in each frame all but the loudest few; then h is
    summed along diagonals. To be used with templates that are the (normalised) frames of the source sound,
    ``nmf.fit(..., update_w=False)``.

    Attributes:
        polyphony: components per frame that are not damped, 1 or more.
        length: components and frames in a diagonal, 1 or more.
        every: steps from one application to the next, 1 or more.
        neighbourhood: odd numbers of components and of frames among which an activation must be the largest,
            counted along its column and its row; (1, 1) for none.

    References:
        J. Driedger, T. Prätzlich, M. Müller: Let it Bee – towards NMF-inspired audio mosaicing. ISMIR 2015.
    """

    polyphony: int = 5
    length: int = 10
    every: int = 5
    neighbourhood: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("polyphony", "length", "every"):
            _require(name, getattr(self, name), 1)
        if any(n < 1 or n % 2 == 0 for n in self.neighbourhood):
            raise ValueError(f"neighbourhood must be two odd numbers, got {self.neighbourhood}")

    def __call__(self, state: State, step: Int[Array, ""], n_steps: int) -> State:
        """The state with activations that are sparser and more diagonal."""
        factor = 1 - (step + 1) / n_steps

        def shaped(h: Float[Array, "component frame"]) -> Float[Array, "component frame"]:
            if self.neighbourhood != (1, 1):
                h = jnp.where(h == _largest_neighbour(h, self.neighbourhood), h, factor * h)
            if self.polyphony < h.shape[0]:
                loudness = h * (state.w**2).sum(axis=0)[:, None]
                _, loudest = lax.top_k(loudness.T, self.polyphony)
                kept = jnp.zeros(h.shape, bool).at[loudest, jnp.arange(h.shape[1])[:, None]].set(True)
                h = jnp.where(kept, h, factor * h)
            return diagonal_sum(h, self.length)

        return state._replace(h=lax.cond(step % self.every == 0, shaped, lambda h: h, state.h))


def diagonal_sum(
    h: Float[Array, "*batch component frame"], length: int
) -> Float[Array, "*batch component frame"]:
    """Sum of h along its diagonals: `length` neighbours, as many before as after (one more before if even).

    Args:
        h: activations (..., component, frame).
        length: neighbours in a sum, 1 or more.

    Returns:
        The sums, in the shape of `h`; zeros count beyond the borders.

    Example:
        >>> diagonal_sum(jnp.zeros((3, 3)).at[1, 1].set(1.0), 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    before = length // 2
    n_components, n_frames = h.shape[-2:]
    margin = (before, length - 1 - before)
    padded = jnp.pad(h, [(0, 0)] * (h.ndim - 2) + [margin, margin])
    return sum(padded[..., i : i + n_components, i : i + n_frames] for i in range(length))


def exponential_decay(
    h: Float[Array, "*batch component frame"], decay: float | Float[Array, "#component"]
) -> Float[Array, "*batch component frame"]:
    """Lets peaks fall off exponentially: ``y[n] = max(x[n], decay y[n-1] + (1 - decay) x[n])``.

    Args:
        h: activations (..., component, frame).
        decay: 0 (nothing happens) to 1 (peaks last, kept just below 1), one number or one per component.

    Returns:
        The smoothed activations, nowhere smaller than `h`.

    Example:
        >>> exponential_decay(jnp.array([[0.0, 1.0, 0.0, 0.0]]), 0.5).tolist()
        [[0.0, 1.0, 0.5, 0.25]]

    References:
        C. Dittmar, P. López-Serrano, M. Müller: Unifying local and global methods for harmonic-percussive
        source separation. ICASSP 2018, equation 3.
    """
    h = jnp.asarray(h)
    decay = jnp.broadcast_to(jnp.clip(jnp.asarray(decay, h.dtype), 0, 0.9999999), h.shape[:-1])

    return _decaying(h, decay)


@jax.jit
def _decaying(
    h: Float[Array, "*batch component frame"], decay: Float[Array, "*batch component"]
) -> Float[Array, "*batch component frame"]:
    def forward(last: Array, x: Array) -> tuple[Array, Array]:
        y = jnp.maximum(x, decay * last + (1 - decay) * x)
        return y, y

    first = h[..., 0]
    _, rest = lax.scan(forward, first, jnp.moveaxis(h[..., 1:], -1, 0))
    return jnp.concatenate([first[..., None], jnp.moveaxis(rest, 0, -1)], axis=-1)


def percussiveness(w: Float[Array, "..."], *, w_ndim: int = 2) -> Float[Array, "*batch component"]:
    """Share of each template in the lower half of the bins, for templates of stacked spectrograms.

    Args:
        w: templates (..., freq, component) or (..., freq, component, lag) whose lower half of bins is a
            percussive and upper half a harmonic spectrogram.
        w_ndim: 2 for templates without, 3 for templates with lags.

    Returns:
        0 (harmonic) to 1 (percussive) per component; 1/2 for silent templates.

    Example:
        >>> percussiveness(jnp.array([[3.0, 0.0], [1.0, 2.0]])).tolist()
        [0.75, 0.0]

    References:
        C. Dittmar, P. López-Serrano, M. Müller: Unifying local and global methods for harmonic-percussive
        source separation. ICASSP 2018, equation 4.
    """
    if w_ndim == 3:
        w = w.sum(axis=-1)
    lower, total = w[..., : w.shape[-2] // 2, :].sum(axis=-2), w.sum(axis=-2)
    return jnp.where(total > 0, lower / jnp.where(total > 0, total, 1), 0.5)


def _largest_neighbour(
    h: Float[Array, "component frame"], size: tuple[int, int]
) -> Float[Array, "component frame"]:
    """The largest value in the cross of the given height and width around each entry."""
    rows, columns = size
    down = lax.reduce_window(h, -jnp.inf, lax.max, (rows, 1), (1, 1), "SAME")
    along = lax.reduce_window(h, -jnp.inf, lax.max, (1, columns), (1, 1), "SAME")
    return jnp.maximum(down, along)


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
