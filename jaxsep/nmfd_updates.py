"""The updates of convolutive factorisation, as those of an ordinary one whose activations are shifted copies."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsep.beta_divergence import h_terms, multiplied, update_weights, w_terms

__all__ = ["NMFDState", "advanced_lags", "factors", "stacked_lags", "stepper", "template_sum"]


class NMFDState(NamedTuple):
    """The two factors, all that the next step needs."""

    w: Float[Array, "*batch freq component lag"]  # templates
    h: Float[Array, "*batch component frame"]  # activations


def factors(state: NMFDState) -> tuple[Array, Array]:
    """The model as a product of two matrices: templates side by side, and activations of every lag."""
    return beside(state.w), stacked_lags(state.h, state.w.shape[-1])


def beside(w: Float[Array, "*batch freq component lag"]) -> Float[Array, "*batch freq component*lag"]:
    """Templates as the columns of one matrix."""
    return w.reshape((*w.shape[:-2], -1))


def stacked_lags(
    h: Float[Array, "*batch component frame"], n_lags: int
) -> Float[Array, "*batch component*lag frame"]:
    """The activations shifted by every lag, in the order of the columns of `beside`; zeros enter."""
    n_frames = h.shape[-1]
    padded = jnp.pad(h, [(0, 0)] * (h.ndim - 1) + [(n_lags - 1, 0)])
    shifts = [padded[..., n_lags - 1 - lag : n_lags - 1 - lag + n_frames] for lag in range(n_lags)]
    return jnp.stack(shifts, axis=-2).reshape((*h.shape[:-2], -1, n_frames))


def advanced_lags(
    x: Float[Array, "*batch component*lag frame"], n_lags: int
) -> Float[Array, "*batch component lag frame"]:
    """The reverse of the shifts in `stacked_lags`: row ``l`` of each component ``l`` frames earlier."""
    n_frames = x.shape[-1]
    x = x.reshape((*x.shape[:-2], -1, n_lags, n_frames))
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n_lags - 1)])
    return jnp.stack([padded[..., lag, lag : lag + n_frames] for lag in range(n_lags)], axis=-2)


def template_sum(w: Float[Array, "*batch freq component lag"]) -> Float[Array, "*batch 1 component 1"]:
    """What divides templates to unit sum; 1 for silent ones."""
    total = w.sum(axis=(-3, -1), keepdims=True)
    return jnp.where(total > 0, total, jnp.ones_like(total))


def stepper(
    beta: float, rule: str, update_w: bool, update_h: bool, penalties: tuple[Array, Array] | None
) -> Callable[..., NMFDState]:
    """One step in units of the level; what holds components back is applied as soon as a factor has moved."""
    sparsity, decorrelation = (0.0, 0.0) if penalties is None else penalties

    def multiplicative(
        v: Array,
        state: NMFDState,
        unit: Array,
        settle_w: Callable[[Array], Array] | None,
        settle_h: Callable[[Array], Array] | None,
    ) -> NMFDState:
        w, h = state
        n_lags = w.shape[-1]
        if update_w:
            terms = w_terms(v, beside(w), stacked_lags(h, n_lags), beta)
            others = decorrelation * beside(w.sum(axis=-1, keepdims=True) - w)
            penalty = None if penalties is None else (others, 0.0)
            w = multiplied(beside(w), *terms, beta, penalty).reshape(w.shape)
            if settle_w is not None:
                w = settle_w(w)
            elif penalties is not None:
                total = template_sum(w)
                w, h = w / total, h * total[..., 0, :, :]
        if update_h:
            terms = h_terms(v, beside(w), stacked_lags(h, n_lags), beta)
            shape = (*h.shape[:-2], h.shape[-2] * n_lags, h.shape[-1])
            terms = (advanced_lags(jnp.broadcast_to(t, shape), n_lags).sum(axis=-2) for t in terms)
            h = multiplied(h, *terms, beta, None if penalties is None else (sparsity, 0.0))
            h = h if settle_h is None else settle_h(h)
        return NMFDState(w, h)

    def averaged(
        v: Array,
        state: NMFDState,
        unit: Array,
        settle_w: Callable[[Array], Array] | None,
        settle_h: Callable[[Array], Array] | None,
    ) -> NMFDState:
        w, h = state
        n_lags = w.shape[-1]
        tiny = jnp.finfo(v.dtype).tiny
        stacked = stacked_lags(h, n_lags)
        # The ratio of data to model is taken once, before both updates.
        ratio, _ = update_weights(v, beside(w) @ stacked, 1)
        if update_w:
            moved = beside(w) * (ratio @ stacked.mT) / jnp.maximum(stacked.sum(axis=-1)[..., None, :], tiny)
            w = moved.reshape(w.shape)
            w = w if settle_w is None else settle_w(w)
        if update_h:
            advanced = advanced_lags(beside(w).mT @ ratio, n_lags)
            h = h * (advanced / jnp.maximum(w.sum(axis=-3)[..., None], tiny)).mean(axis=-2)
            h = h if settle_h is None else settle_h(h)
        if update_w and settle_w is None:
            w = w / template_sum(w)
        return NMFDState(w, h)

    return averaged if rule == "averaged" else multiplicative
