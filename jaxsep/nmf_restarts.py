"""The best of several factorisations: local minima are many, and one start may end in a poor one."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsep import nmf
from jaxsep.beta_divergence import as_magnitude
from jaxsep.descent import check_nonnegative
from jaxsep.nmf import NMFInfo, NMFState
from jaxsep.nmf_init import start

__all__ = ["fit_restarts"]


def fit_restarts(
    v: Float[Array, "*batch freq frame"],
    n_components: int,
    *,
    key: Array,
    n_restarts: int,
    strategy: str = "random",
    **options: Any,
) -> tuple[NMFState, NMFInfo]:
    """Factorise from several starts and keep, for each spectrogram, the one with the lowest divergence.

    Args:
        v: magnitudes (..., freq, frame), finite, ≥ 0.
        n_components: number of components.
        key: PRNG key.
        n_restarts: number of starts, 1 or more.
        strategy: as for :func:`jaxsep.nmf.init`.
        **options: as for :func:`jaxsep.nmf.fit`.

    Returns:
        The best state and its info.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: as :func:`jaxsep.nmf.init` and :func:`jaxsep.nmf.fit`, or no restarts.

    Example:
        >>> state, info = fit_restarts(jnp.ones((5, 7)), 2, key=jax.random.key(0), n_restarts=3, n_steps=4)
        >>> state.w.shape, info.divergence.shape
        ((5, 2), (4,))
    """
    if n_restarts < 1:
        raise ValueError(f"n_restarts must be 1 or more, got {n_restarts}")
    if options.get("n_steps", 1) < 1:
        raise ValueError(f"n_steps must be 1 or more, got {options['n_steps']}")
    v = as_magnitude(v)
    check_nonnegative(v=v)
    keys = jax.random.split(key, n_restarts)
    starts = jax.vmap(lambda key: NMFState(*start(v, n_components, key=key, strategy=strategy)))(keys)
    state, info = nmf.fit(v, starts, **options)
    best = jnp.argmin(info.divergence[..., -1], axis=0)

    def pick(x: Array) -> Array:
        index = best.reshape((1, *best.shape) + (1,) * (x.ndim - 1 - best.ndim))
        return jnp.take_along_axis(x, index, axis=0)[0]

    return jax.tree.map(pick, (state, info))
