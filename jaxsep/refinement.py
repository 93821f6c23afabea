"""Heuristics around the Wiener filter: better models of the sources going in, sharper filters coming out."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, Inexact

from jaxsep.planes import Planes, sum_along

__all__ = ["compress_filter", "reduce_interferences", "residual_model", "smooth"]


def residual_model(
    v_sources: Float[Array, "*batch source #channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
    *,
    alpha: float = 1.0,
    autoscale: bool = False,
) -> Float[Array, "*batch source_and_residual channel freq frame"]:
    """Append a model of what the sources leave of the mixture, ``max(0, |x|^alpha - sum_j v_j)``.

    Args:
        v_sources: nonnegative models in the unit of ``|x|^alpha``. One channel stands for all.
        x: the mixture's STFT.
        alpha: 1 for magnitudes, 2 for powers; positive.
        autoscale: first scale the models, by one gain a channel and frequency common to all sources, to the
            least-squares fit of their sum to the mixture.

    Returns:
        The models (scaled, in as many channels as the mixture) and, last, the residual's.

    Example:
        >>> v = jnp.array([1.0, 0.5]).reshape(2, 1, 1, 1)
        >>> residual_model(v, jnp.full((1, 1, 1), 2j)).ravel()
        Array([1. , 0.5, 0.5], dtype=float32)
    """
    v_sources, x = jnp.asarray(v_sources), jnp.asarray(x)
    if not alpha > 0:
        raise ValueError(f"expected alpha > 0, got {alpha}")
    if v_sources.ndim != x.ndim + 1:
        raise ValueError(
            f"expected v_sources with one axis more than the mixture, got {v_sources.shape} beside {x.shape}"
        )
    power = Planes.of(x).power()
    # Twice `where`: a power below 1 has an infinite slope at 0.
    observed = jnp.where(power > 0, jnp.where(power > 0, power, 1.0) ** (alpha / 2), 0.0)
    v_sources = jnp.broadcast_to(v_sources, (*v_sources.shape[:-3], *x.shape[-3:]))
    total = sum_along(v_sources, -4)
    if autoscale:
        eps = jnp.finfo(total.dtype).eps
        fit = jnp.sum(observed * total, axis=-1, keepdims=True)
        gain = fit / (eps + jnp.sum(total**2, axis=-1, keepdims=True))
        v_sources, total = v_sources * gain[..., None, :, :, :], total * gain
    residual = jnp.maximum(0.0, observed - total)
    return jnp.concatenate([v_sources, residual[..., None, :, :, :]], axis=-4)


def smooth(
    v: Float[Array, "*axes"], *, width: float = 1.0, truncate: float = 4.0, axes: tuple[int, ...] = (-2, -1)
) -> Float[Array, "*axes"]:
    """Gaussian blur along each of the axes: ``sum_n k[n] v[t - n]``, ``k[n] ~ exp(-n^2 / (2 width^2))``.

    Beyond the ends the array is mirrored, its first and last entries repeated.

    Args:
        v: what is blurred; frequency and time are its last two axes.
        width: standard deviation, in bins and frames; positive.
        truncate: where the Gaussian is cut, in standard deviations; positive.
        axes: the axes blurred: ``(-1,)`` blurs along time alone.

    Returns:
        An array like `v`.

    Example:
        >>> smooth(jnp.array([[0.0, 0.0, 4.0, 0.0, 0.0]]), width=0.5, axes=(-1,)).sum()
        Array(4., dtype=float32)
    """
    v = jnp.asarray(v)
    if not (width > 0 and truncate > 0):
        raise ValueError(f"expected width > 0 and truncate > 0, got {width} and {truncate}")
    radius = int(truncate * width + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / width) ** 2)
    kernel = jnp.asarray(kernel / kernel.sum(), v.dtype)
    for axis in axes:
        v = jnp.moveaxis(_convolve_rows(jnp.moveaxis(v, axis, -1), kernel), -1, axis)
    return v


def _convolve_rows(v: Array, kernel: Array) -> Array:
    """Convolve the last axis, mirrored beyond its ends, with a symmetric kernel of odd length."""
    radius = kernel.size // 2
    padded = jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(radius, radius)], mode="symmetric")
    rows = padded.reshape(-1, 1, padded.shape[-1])
    blurred = lax.conv_general_dilated(
        rows, kernel[None, None], (1,), "VALID", precision=lax.Precision.HIGHEST
    )
    return blurred.reshape(v.shape)


def reduce_interferences(
    v_sources: Float[Array, "*batch source channel freq frame"],
    *,
    threshold: float = 0.4,
    slope: float = 15.0,
    smoothed: Float[Array, "*batch source channel freq frame"] | None = None,
) -> Float[Array, "*batch source channel freq frame"]:
    """Attenuate each source where, all around, it is a small part of the whole.

    ``v_j sigmoid(slope (s_j / sum_k s_k - threshold))`` with ``s`` the blurred ``v``.

    Args:
        v_sources: nonnegative models.
        threshold: the share of the sum, 0 to 1, that is halved.
        slope: how sharp the step is, positive.
        smoothed: the blurred models ``s``, when not ``smooth(v_sources, width=10.0)``.

    Returns:
        Models no larger than those given.

    Example:
        >>> v = jnp.ones((2, 1, 8, 8)) * jnp.array([9.0, 1.0]).reshape(2, 1, 1, 1)
        >>> reduce_interferences(v)[:, 0, 0, 0].round(3)
        Array([8.995001, 0.011   ], dtype=float32)

    References:
        T. Prätzlich, R. Bittner, A. Liutkus and M. Müller, "Kernel additive modeling for interference
        reduction in multi-channel music recordings", ICASSP 2015.
    """
    v_sources = jnp.asarray(v_sources)
    smoothed = smooth(v_sources, width=10.0) if smoothed is None else jnp.asarray(smoothed)
    # The same in double precision: this is the level of silence, not of rounding.
    eps = jnp.finfo(jnp.float32).eps
    share = smoothed / (eps + sum_along(smoothed, -4)[..., None, :, :, :])
    return v_sources * jax.nn.sigmoid(slope * (share - threshold))


def compress_filter(
    gain: Inexact[Array, "*bins channel channel"], *, threshold: float = 0.6, slope: float = 15.0
) -> Inexact[Array, "*bins channel channel"]:
    """Sharpen a separation filter towards all or nothing, and keep the directions that it looks at.

    ``W sigmoid(slope (g - threshold)) / g``: the filter is taken as a beamformer times a mask, its mean gain
    ``g = trace(W) / n_channels``, and the mask is compressed. A mask alone is a filter of one channel:
    ``compress_filter(mask[..., None, None])[..., 0, 0]``.

    Args:
        gain: filters, such as those of :func:`jaxsep.filtering.wiener_gain`: their trace is nonnegative.
        threshold: the mean gain, 0 to 1, that becomes 0.5. Closer to 1: less interference, more distortion.
        slope: how sharp the step is, positive.

    Returns:
        Filters with the same ratios between their entries.

    Example:
        >>> compress_filter(jnp.array([0.1, 0.6, 0.9]).reshape(3, 1, 1)).ravel().round(3)
        Array([0.001, 0.5  , 0.989], dtype=float32)
    """
    gain = jnp.asarray(gain)
    if gain.ndim < 2 or gain.shape[-1] != gain.shape[-2]:
        raise ValueError(f"expected filters of shape (..., channel, channel), got {gain.shape}")
    mean = jnp.trace(gain, axis1=-2, axis2=-1).real / gain.shape[-1]
    factor = jax.nn.sigmoid(slope * (mean - threshold)) / (jnp.finfo(mean.dtype).eps + mean)
    return gain * factor[..., None, None]
