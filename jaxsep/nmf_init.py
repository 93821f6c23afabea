"""Where factorisations start when nothing is known: random numbers or singular vectors."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["nndsvd", "start"]

_STRATEGIES = ("random", "uniform", "nndsvd", "nndsvda", "nndsvdar")


@partial(jax.jit, static_argnames=("n_components", "strategy"))
def start(
    v: Float[Array, "*batch freq frame"], n_components: int, *, key: Array, strategy: str
) -> tuple[Float[Array, "*batch freq component"], Float[Array, "*batch component frame"]]:
    """The factors that :func:`jaxsep.nmf.init` returns, which also explains the strategies.

    Raises:
        ValueError: no components, an unknown strategy, or more components than an SVD gives.
    """
    if n_components < 1:
        raise ValueError(f"n_components must be 1 or more, got {n_components}")
    if strategy not in _STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(_STRATEGIES)}, got {strategy!r}")
    *batch, n_freq, n_frames = v.shape
    w_shape, h_shape = (*batch, n_freq, n_components), (*batch, n_components, n_frames)
    scale = jnp.sqrt(v.mean(axis=(-2, -1), keepdims=True) / n_components)
    if strategy == "uniform":
        return jnp.broadcast_to(scale, w_shape), jnp.broadcast_to(scale, h_shape)
    key_w, key_h = jax.random.split(key)
    normal_w = jnp.abs(jax.random.normal(key_w, w_shape, v.dtype))
    normal_h = jnp.abs(jax.random.normal(key_h, h_shape, v.dtype))
    if strategy == "random":
        return scale * normal_w, scale * normal_h
    return nndsvd(v, n_components, key=key, fill=strategy.removeprefix("nndsvd"))


def nndsvd(
    v: Float[Array, "*batch freq frame"], n_components: int, *, key: Array, fill: str = ""
) -> tuple[Float[Array, "*batch freq component"], Float[Array, "*batch component frame"]]:
    """Non-negative double singular value decomposition.

    Each pair of singular vectors, ``v ≈ sum_j s_j x_j y_j'``, gives one component: its positive or its
    negative part, whichever product is larger.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        n_components: number of components, at most the number of bins and of frames.
        key: PRNG key of the randomised SVD and of the fill.
        fill: what replaces zeros: "" nothing, "a" the mean of ``v``, "ar" small random numbers.

    Returns:
        w (..., freq, component) and h (..., component, frame).

    Raises:
        ValueError: more components than bins or frames.

    Example:
        >>> w, h = nndsvd(jnp.ones((5, 7)), 2, key=jax.random.key(0), fill="a")
        >>> bool((w > 0).all() and (h > 0).all())
        True

    References:
        C. Boutsidis, E. Gallopoulos: SVD based initialization: a head start for nonnegative matrix
        factorization. Pattern Recognition 41(4), 2008.
        N. Halko, P.-G. Martinsson, J. A. Tropp: Finding structure with randomness. SIAM Review 53(2), 2011
        (algorithm 4.4).
    """
    if n_components > min(v.shape[-2:]):
        raise ValueError(
            f"NNDSVD gives at most {min(v.shape[-2:])} components for {v.shape}, got {n_components}"
        )
    key_svd, key_w, key_h = jax.random.split(key, 3)
    x, s, y = _leading_singular_triplets(v, n_components, key_svd)
    x = x.mT  # a row per component, as in y
    parts = [(jnp.maximum(sign * x, 0), jnp.maximum(sign * y, 0)) for sign in (1, -1)]
    norms = [tuple(jnp.linalg.norm(part, axis=-1, keepdims=True) for part in pair) for pair in parts]
    take_positive = norms[0][0] * norms[0][1] >= norms[1][0] * norms[1][1]
    x, y = (jnp.where(take_positive, *pair) for pair in zip(*parts, strict=True))
    x_norm, y_norm = (jnp.where(take_positive, *pair) for pair in zip(*norms, strict=True))
    # sqrt(s |x| |y|) x / |x|: each factor takes half of the component's energy.
    tiny = jnp.finfo(v.dtype).tiny
    s = s[..., :, None]
    w = (jnp.sqrt(s * y_norm / jnp.maximum(x_norm, tiny)) * x).mT
    h = jnp.sqrt(s * x_norm / jnp.maximum(y_norm, tiny)) * y
    mean = v.mean(axis=(-2, -1), keepdims=True)
    if fill == "a":
        w, h = jnp.where(w == 0, mean, w), jnp.where(h == 0, mean, h)
    elif fill == "ar":
        w = jnp.where(w == 0, mean / 100 * jnp.abs(jax.random.normal(key_w, w.shape, w.dtype)), w)
        h = jnp.where(h == 0, mean / 100 * jnp.abs(jax.random.normal(key_h, h.shape, h.dtype)), h)
    return w, h


def _leading_singular_triplets(v: Array, n: int, key: Array, n_powers: int = 7) -> tuple[Array, Array, Array]:
    """The first `n` singular vectors and values: a random subspace, turned to them by power iterations."""
    width = min(n + 10, *v.shape[-2:])
    basis, _ = jnp.linalg.qr(v @ jax.random.normal(key, (*v.shape[:-2], v.shape[-1], width), v.dtype))

    def turned(_: int, basis: Array) -> Array:
        across, _ = jnp.linalg.qr(v.mT @ basis)
        return jnp.linalg.qr(v @ across)[0]

    basis = lax.fori_loop(0, n_powers, turned, basis)
    x, s, y = jnp.linalg.svd(basis.mT @ v, full_matrices=False)
    return (basis @ x)[..., :n], s[..., :n], y[..., :n, :]
