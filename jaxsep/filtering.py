"""Multichannel Wiener filter: from the magnitudes of the sources to stems, refined by EM.

The model and its filters are in :mod:`jaxsep.gaussian`, heuristics around them in :mod:`jaxsep.refinement`;
all their names are here too. Everything but one gain is independent from one frequency to the next, and
:func:`wiener` uses that to stay in the CPU's cache.

References:
    S. Uhlich et al., "Improving music source separation based on deep neural networks through data
    augmentation and network blending", ICASSP 2017: from a network's magnitudes to stems.
    A. Liutkus et al., "Kernel additive models for source separation", IEEE TSP 62(16), 2014: the simplified
    EM, which takes the covariance of the estimates without that of their errors.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxsep.cache_blocks import in_blocks
from jaxsep.gaussian import (
    amplify,
    apply_filter,
    channels,
    em_step,
    local_gaussian_model,
    matrices,
    mix_covariance,
    wiener_gain,
)
from jaxsep.planes import Planes, sum_along
from jaxsep.refinement import compress_filter, reduce_interferences, residual_model, smooth

__all__ = [
    "apply_filter",
    "compress_filter",
    "expectation_maximization",
    "local_gaussian_model",
    "mix_covariance",
    "mixture_phase_estimate",
    "reduce_interferences",
    "residual_model",
    "smooth",
    "softmask_estimate",
    "wiener",
    "wiener_gain",
]

# Complex numbers of the estimate in one turn of the loop of `_in_frequency_blocks`: 2 MB in single precision.
# Anything between 0.5 and 4 MB takes the same time; all frequencies at once takes twice as long and, beside
# the result, three times its memory.
_BLOCK_ELEMENTS = 2**18


def wiener(
    v_sources: Float[Array, "*batch source #channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
    *,
    n_iters: int = 1,
    softmask: bool = False,
    residual: bool = False,
    scale_factor: float = 10.0,
    eps: float = 1e-10,
) -> Complex[Array, "*batch source_out channel freq frame"]:
    """Separate a mixture, given the magnitude of each source.

    ``y_j = v_j x / |x|`` (or the softmask ``x v_j / (eps + sum_k v_k)``) starts the EM iterations of
    :func:`expectation_maximization`, on ``x`` and ``y`` divided by ``max(1, max|x| / scale_factor)``: `eps`
    is absolute, so loud input is scaled down first. Each batch element is scaled by its own maximum.

    A bin where the mixture is exactly zero is zero in every source and adds nothing to any covariance. A
    window padded with frames of zero mixture therefore gives the result of the window alone: no mask needed.

    Args:
        v_sources: magnitudes, real and nonnegative, in the unit of ``|x|``. One channel stands for all.
        x: the mixture's STFT.
        n_iters: EM iterations; 0 returns the first estimate.
        softmask: start from the ratio mask. Gentler where the magnitudes are poor.
        residual: append one source, what the first estimates leave of the mixture.
        scale_factor: the largest ``|x|`` that is left as it is, positive.
        eps: regularisation, positive; see :func:`expectation_maximization`.

    Returns:
        The sources' STFTs; ``source_out`` is one more than ``source`` with a residual.

    Raises:
        TypeError: if `x` is not complex, or `v_sources` not real.
        ValueError: if the shapes do not fit, or an option is out of range.

    Example:
        >>> x = jnp.full((2, 5, 3), 3.0 + 4.0j)
        >>> y = wiener(jnp.ones((4, 2, 5, 3)), x)
        >>> y.shape, bool(jnp.allclose(y.sum(axis=0), x, rtol=1e-5))
        ((4, 2, 5, 3), True)
    """
    v_sources, x = jnp.asarray(v_sources), jnp.asarray(x)
    _check_mixture(x)
    _check_models(v_sources, x)
    _check_options(n_iters, 0, eps)
    if not scale_factor > 0:
        raise ValueError(f"expected scale_factor > 0, got {scale_factor}")
    return _wiener(v_sources, x, n_iters, softmask, residual, scale_factor, eps)


@partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _wiener(v_sources, x, n_iters, softmask, residual, scale_factor, eps):
    def estimate(v_sources, x):
        y = softmask_estimate(v_sources, x, eps=eps) if softmask else mixture_phase_estimate(v_sources, x)
        if not residual:
            return y
        return jnp.concatenate([y, _per_source(x - sum_along(y, -4))], axis=-4)

    def separate(v_sources, x, max_abs):
        # Taken apart once, or every loop that reads the mixture would do it anew.
        x = lax.optimization_barrier(Planes.of(x))
        y = channels(Planes.of(estimate(v_sources, x.join())) * (1 / _per_source(max_abs)))
        y, _, _ = _iterate(y, channels(x * (1 / max_abs)), n_iters, eps)
        return _join([plane * max_abs for plane in y])

    if n_iters == 0:
        return estimate(v_sources, x)
    loudest = jnp.max(jnp.abs(x), axis=(-3, -2, -1), keepdims=True, initial=0.0)
    return _in_frequency_blocks(separate, v_sources, x, jnp.maximum(1.0, loudest / scale_factor))


def expectation_maximization(
    y: Complex[Array, "*batch source channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
    *,
    n_iters: int = 2,
    eps: float = 1e-10,
) -> tuple[
    Complex[Array, "*batch source channel freq frame"],
    Float[Array, "*batch source freq frame"],
    Complex[Array, "*batch source freq channel channel"],
]:
    """Refine estimates of the sources: model them, filter the mixture with the model, repeat.

    Each iteration is :func:`local_gaussian_model`, then ``y_j = psd_j cov_j C^-1 x`` with the mixture model
    ``C = sum_k psd_k cov_k + sqrt(eps) I``. What the sources leave of the mixture is the share of that white
    noise, ``x - sum_j y_j = sqrt(eps) C^-1 x``, in norm at most ``sqrt(eps) / (sqrt(eps) + m)`` times ``x``,
    where ``m`` is the smallest eigenvalue of ``sum_k psd_k cov_k`` in that bin.

    Args:
        y: first estimates of the sources.
        x: the mixture's STFT. Bring it near full scale 1...10 beforehand: `eps` is absolute.
        n_iters: iterations, at least 1.
        eps: keeps divisions safe: added to the weight of each spatial covariance, and its square root to the
            diagonal of the mixture's. Positive.

    Returns:
        The refined estimates, and the power spectral densities and spatial covariances that made them.

    Raises:
        TypeError: if `x` or `y` is not complex.
        ValueError: if the shapes do not fit, or an option is out of range.

    Example:
        >>> x = jnp.full((1, 5, 3), 2.0, jnp.complex64)
        >>> y, psd, cov = expectation_maximization(jnp.stack([0.75 * x, 0.25 * x]), x, n_iters=1)
        >>> psd[:, 0, 0], cov.shape  # the powers are 1.5 ** 2 and 0.5 ** 2
        (Array([2.25, 0.25], dtype=float32), (2, 5, 1, 1))
    """
    y, x = jnp.asarray(y), jnp.asarray(x)
    _check_mixture(x)
    _check_estimates(y, x)
    _check_options(n_iters, 1, eps)
    return _expectation_maximization(y, x, n_iters, eps)


@partial(jax.jit, static_argnums=(2, 3))
def _expectation_maximization(y, x, n_iters, eps):
    y, psd, cov = _iterate(channels(Planes.of(y)), channels(Planes.of(x)), n_iters, eps)
    return _join(y), psd, matrices(cov)


def _iterate(y: list[Planes], x: list[Planes], n_iters: int, eps: float) -> tuple[list[Planes], Array, list]:
    """One iteration or more.

    A loop, so that the estimates are held between two iterations. XLA would compute them anew for each moment of a
    covariance, each time with other rounding errors, and where channels are all but equal the covariance would not be
    positive semidefinite.
    """
    shapes = jax.eval_shape(partial(em_step, eps=eps), y, x)
    start = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return lax.fori_loop(0, n_iters, lambda _, state: em_step(state[0], x, eps=eps), (y, *start[1:]))


def _join(y: list[Planes]) -> Complex[Array, "*batch source channel freq frame"]:
    """The channels in one complex array."""
    return jnp.stack([plane.join() for plane in y], axis=-3)


def softmask_estimate(
    v_sources: Float[Array, "*batch source #channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
    *,
    eps: float = 1e-10,
) -> Complex[Array, "*batch source channel freq frame"]:
    """Share the mixture out in proportion to the models, ``x v_j / (eps + sum_k v_k)``, channel by channel.

    Args:
        v_sources: nonnegative models: magnitudes, powers or anything between.
        x: the mixture's STFT.
        eps: what is added to the sum of the models, positive.

    Returns:
        Estimates that sum to the mixture wherever the models' sum is much larger than `eps`.

    Example:
        >>> softmask_estimate(jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1), jnp.full((1, 1, 1), 4j)).ravel()
        Array([0.+1.j, 0.+3.j], dtype=complex64)
    """
    v_sources, x = jnp.asarray(v_sources), jnp.asarray(x)
    return amplify(_per_source(x), v_sources / (eps + _per_source(sum_along(v_sources, -4))))


def mixture_phase_estimate(
    v_sources: Float[Array, "*batch source #channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
) -> Complex[Array, "*batch source channel freq frame"]:
    """Give the sources' magnitudes the phase of the mixture, ``v_j x / |x|``, and 0 where the mixture is 0.

    Args:
        v_sources: magnitudes, nonnegative.
        x: the mixture's STFT.

    Returns:
        Estimates with the given magnitudes; they need not sum to the mixture.

    Example:
        >>> mixture_phase_estimate(jnp.ones((2, 1, 1, 1)), jnp.full((1, 1, 1), -5j)).ravel()
        Array([-0.-1.j, -0.-1.j], dtype=complex64)
    """
    v_sources, x = jnp.asarray(v_sources), jnp.asarray(x)
    power = Planes.of(x).power()
    # The inner `where` keeps the gradient finite: rsqrt has none at 0, and 0 times inf is no number.
    silent = power == 0
    per_magnitude = jnp.where(silent, 0.0, lax.rsqrt(jnp.where(silent, 1.0, power)))
    return amplify(_per_source(amplify(x, per_magnitude)), v_sources)


def _in_frequency_blocks(function: Callable, v_sources: Array, x: Array, max_abs: Array) -> Array:
    """``function(v_sources, x, max_abs)`` for a function that treats each frequency by itself."""
    n_freqs = x.shape[-2]
    block = max(1, _BLOCK_ELEMENTS // max(1, v_sources.size // v_sources.shape[-3] * x.shape[-3] // n_freqs))

    def part(start: Array, v_sources: Array, x: Array, max_abs: Array) -> Array:
        cut = (lax.dynamic_slice_in_dim(a, start, block, axis=a.ndim - 2) for a in (v_sources, x))
        return function(*cut, max_abs)

    return in_blocks(function, part, v_sources, x, max_abs, block=block, axis=-2)


def _per_source(x: Array) -> Array:
    return x[..., None, :, :, :]


def _check_mixture(x: Array) -> None:
    if not jnp.iscomplexobj(x):
        raise TypeError(f"expected a complex mixture, got {x.dtype}")
    if x.ndim < 3 or 0 in x.shape[-3:-1]:
        raise ValueError(f"expected a mixture of shape (..., channel, freq, frame), got {x.shape}")


def _check_models(v_sources: Array, x: Array) -> None:
    if jnp.iscomplexobj(v_sources):
        raise TypeError(f"expected real magnitudes in v_sources, got {v_sources.dtype}")
    *batch, channels, freqs, frames = x.shape
    fits = v_sources.ndim == x.ndim + 1 and v_sources.shape[-4] > 0 and v_sources.shape[-3] in (1, channels)
    if not fits or v_sources.shape[:-4] != tuple(batch) or v_sources.shape[-2:] != (freqs, frames):
        raise ValueError(
            f"expected v_sources of shape {_shape(*batch, 'source', f'1 or {channels}', freqs, frames)} "
            f"beside a mixture of shape {x.shape}, got {v_sources.shape}"
        )


def _check_estimates(y: Array, x: Array) -> None:
    if not jnp.iscomplexobj(y):
        raise TypeError(f"expected complex estimates y, got {y.dtype}")
    *batch, channels, freqs, frames = x.shape
    if y.ndim != x.ndim + 1 or y.shape[:-4] + y.shape[-3:] != x.shape or y.shape[-4] == 0:
        raise ValueError(
            f"expected y of shape {_shape(*batch, 'source', channels, freqs, frames)} "
            f"beside a mixture of shape {x.shape}, got {y.shape}"
        )


def _check_options(n_iters: int, least: int, eps: float) -> None:
    if isinstance(n_iters, bool) or not hasattr(n_iters, "__index__"):
        raise TypeError(f"expected an integer n_iters, got {n_iters!r}")
    if n_iters < least:
        raise ValueError(f"expected n_iters >= {least}, got {n_iters}")
    if not eps > 0:
        raise ValueError(f"expected eps > 0, got {eps}")


def _shape(*sizes: object) -> str:
    return f"({', '.join(str(size) for size in sizes)})"
