"""Masks, which divide a mixture spectrogram among its sources; harmonic-percussive separation.

The masks of a set sum to one, so that masked spectrograms sum to the mixture, with two exceptions: margins
above 1 leave a residual, and of two equal magnitudes an infinite power gives the bin to neither.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxsep.beta_divergence import as_magnitude
from jaxsep.median_filter import median_filter
from jaxsep.planes import sum_along

# Compiled, a median needs no copies of its input. But its comparisons grow with the square of its length: 63
# compile in a second, 101 in more than a minute. Longer ones go operation by operation.
_LONGEST_COMPILED = 63

__all__ = ["alpha_wiener", "binary", "hpss", "hpss_kernel_additive", "softmask"]


def softmask(
    x: Float[Array, "..."],
    x_ref: Float[Array, "..."],
    *,
    power: float = 1.0,
    margin: float = 1.0,
    split_zeros: bool = True,
) -> Float[Array, "..."]:
    """How much of a mixture is `x` rather than `x_ref`.

    ``x^p / (x^p + (margin x_ref)^p)``; with an infinite power 1 where ``x > margin x_ref`` and 0 elsewhere.

    Args:
        x: magnitudes of the wanted part, ≥ 0, any shape.
        x_ref: magnitudes of the rest, same shape.
        power: > 0; 1 divides by amplitude, 2 by energy (Wiener), ``math.inf`` decides.
        margin: how far `x` must stand out, ≥ 1. Above 1 the masks of `x` and `x_ref` leave a residual.
        split_zeros: the mask is 1/2 where both are silent, so that the masks of `x` and `x_ref` sum to one;
            else 0.

    Returns:
        The mask, 0 to 1, in the dtype of `x` (float32 for integers). For margin 1 it sums to one with the mask
        of `x_ref`, but for equal magnitudes under an infinite power, where both masks are 0.

    Raises:
        ValueError: the shapes differ, `power` is not positive, or `margin` is below 1.

    Example:
        >>> softmask(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), power=2).tolist()
        [0.8999999761581421, 0.5]
    """
    x, x_ref = _as_floating(x), _as_floating(x_ref)
    if x.shape != x_ref.shape:
        raise ValueError(f"x and x_ref must have the same shape, got {x.shape} and {x_ref.shape}")
    _check_power(power)
    if not margin >= 1:
        raise ValueError(f"margin must be 1 or more, got {margin}")
    x_ref = margin * x_ref
    if power == jnp.inf:
        return (x > x_ref).astype(x.dtype)
    # Over the larger of the two, a power neither overflows nor turns both into 0.
    largest = jnp.maximum(x, x_ref)
    silent = largest < jnp.finfo(x.dtype).tiny
    largest = jnp.where(silent, 1, largest)
    mine, other = (x / largest) ** power, (x_ref / largest) ** power
    mask = mine / jnp.where(silent, 1, mine + other)
    return jnp.where(silent, 0.5 if split_zeros else 0.0, mask)


def alpha_wiener(
    magnitudes: Float[Array, "..."], *, alpha: float = 1.2, axis: int = -4
) -> Float[Array, "..."]:
    """Generalised Wiener masks of several sources, ``a_j^alpha / sum_i a_i^alpha``.

    Args:
        magnitudes: estimated magnitudes (..., source, channel, freq, frame), ≥ 0.
        alpha: > 0; 1 for amplitudes that add up, 2 for energies (the classical Wiener filter).
        axis: where the sources are; -3 for components (..., component, freq, frame).

    Returns:
        Masks of the same shape (float32 for integers), which sum to one over the sources; equal shares where all
        are silent.

    Raises:
        ValueError: `alpha` is not positive, or there is no such axis.

    Example:
        >>> masks = alpha_wiener(jnp.array([[[3.0]], [[1.0]]]), alpha=1.0, axis=-3)
        >>> masks.ravel().tolist()
        [0.75, 0.25]

    References:
        A. Liutkus, R. Badeau: Generalized Wiener filtering with fractional power spectrograms. ICASSP 2015.
    """
    magnitudes = _as_floating(magnitudes)
    _check_axis(axis, magnitudes)
    _check_power(alpha)
    # Over the largest source: powers of quiet magnitudes would vanish.
    largest = jnp.expand_dims(reduce(jnp.maximum, jnp.unstack(magnitudes, axis=axis)), axis)
    silent = largest < jnp.finfo(magnitudes.dtype).tiny
    powers = jnp.where(silent, 1, magnitudes / jnp.where(silent, 1, largest)) ** alpha
    return powers / jnp.expand_dims(sum_along(powers, axis), axis)


def binary(magnitudes: Float[Array, "..."], *, axis: int = -4) -> Float[Array, "..."]:
    """Masks that give every bin to its loudest source (the first of equals).

    Args:
        magnitudes: estimated magnitudes (..., source, channel, freq, frame), ≥ 0.
        axis: where the sources are; -3 for components (..., component, freq, frame).

    Returns:
        Masks of the same shape and dtype, one 1 per bin and else 0.

    Raises:
        ValueError: there is no such axis.

    Example:
        >>> binary(jnp.array([[[3.0]], [[1.0]]]), axis=-3).ravel().tolist()
        [1.0, 0.0]

    References:
        Ö. Yılmaz, S. Rickard: Blind separation of speech mixtures via time-frequency masking. IEEE
        Transactions on Signal Processing 52(7), 2004.
    """
    magnitudes = jnp.asarray(magnitudes)
    _check_axis(axis, magnitudes)
    loudest = jnp.argmax(magnitudes, axis=axis, keepdims=True)
    shape = [1] * magnitudes.ndim
    shape[axis] = -1
    index = jnp.arange(magnitudes.shape[axis]).reshape(shape)
    return (index == loudest).astype(magnitudes.dtype)


def hpss(
    magnitude: Float[Array, "*batch freq frame"],
    *,
    kernel_size: int | tuple[int, int] = 31,
    power: float = 2.0,
    margin: float | tuple[float, float] = 1.0,
) -> tuple[Float[Array, "*batch freq frame"], Float[Array, "*batch freq frame"]]:
    """Masks of the harmonic and the percussive part, by median filters along time and along frequency.

    ``softmask(time_median, margin * freq_median)`` and the reverse.

    Args:
        magnitude: magnitudes (..., freq, frame), ≥ 0.
        kernel_size: length of the filters in frames and in bins, ≥ 1: one number, or (harmonic, percussive).
        power: exponent of the masks, see :func:`softmask`.
        margin: how far a part must stand out, ≥ 1: one number, or (harmonic, percussive). Above 1 a residual
            remains that is neither.

    Returns:
        The harmonic and the percussive mask, each (..., freq, frame); they sum to one for margin 1 and a finite
        power.

    Raises:
        TypeError: `magnitude` is complex.
        ValueError: fewer than two dimensions, or options out of range.

    Example:
        >>> steady = jnp.zeros((40, 40)).at[10, :].set(1.0)
        >>> harmonic, percussive = hpss(steady + steady.T)
        >>> harmonic[10, 30].item(), percussive[30, 10].item()
        (1.0, 1.0)

    References:
        D. FitzGerald: Harmonic/percussive separation using median filtering. DAFx 2010.
        J. Driedger, M. Müller, S. Disch: Extending harmonic-percussive separation of audio signals. ISMIR
        2014 (margins).
    """
    magnitude = as_magnitude(magnitude)
    frames, bins = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    margins = margin if isinstance(margin, tuple) else (margin, margin)
    if min(margins) < 1:
        raise ValueError(f"margins must be 1 or more, got {margins}")
    _check_power(power)
    # Compiled apart from the masks: in one program XLA computes the medians anew for each mask.
    harmonic, percussive = (
        (_compiled_median_filter if size <= _LONGEST_COMPILED else median_filter)(magnitude, size, axis=axis)
        for size, axis in ((frames, -1), (bins, -2))
    )
    return _both_masks(harmonic, percussive, power=float(power), margins=margins)


def hpss_kernel_additive(
    magnitude: Float[Array, "*batch freq frame"],
    *,
    n_iters: int = 1,
    kernel_size: int = 17,
    median: bool = False,
    alpha: float = 1.0,
) -> tuple[Float[Array, "*batch freq frame"], Float[Array, "*batch freq frame"]]:
    """Masks of the harmonic and the percussive part by kernel additive modelling.

    Smooths the harmonic estimate along time and the percussive one along frequency, shares the mixture out by
    alpha-Wiener masks, and repeats with the two estimates. Both start as the mixture; beyond its borders
    there is silence.

    Args:
        magnitude: magnitudes (..., freq, frame), ≥ 0.
        n_iters: number of rounds, 1 or more.
        kernel_size: length of the smoothers in frames and in bins, 3 or more.
        median: smooth by medians instead of means under a Hann window.
        alpha: exponent of the masks.

    Returns:
        The harmonic and the percussive mask, each (..., freq, frame), which sum to one.

    Raises:
        TypeError: `magnitude` is complex.
        ValueError: fewer than two dimensions, or options out of range.

    Example:
        >>> harmonic, percussive = hpss_kernel_additive(jnp.ones((9, 9)).at[4].set(5.0), kernel_size=5)
        >>> bool(harmonic[4, 4] > percussive[4, 4])
        True

    References:
        D. FitzGerald, A. Liutkus, Z. Rafii, B. Pardo, L. Daudet: Harmonic/percussive separation using kernel
        additive modelling. Irish Signals and Systems Conference 2014.
    """
    magnitude = as_magnitude(magnitude)
    if n_iters < 1 or kernel_size < 3:
        raise ValueError(f"n_iters must be 1 and kernel_size 3 or more, got {n_iters} and {kernel_size}")
    is_long = median and kernel_size > _LONGEST_COMPILED
    return (_kernel_additive if is_long else _compiled_kernel_additive)(
        magnitude, n_iters=n_iters, kernel_size=kernel_size, median=median, alpha=float(alpha)
    )


def _kernel_additive(
    magnitude: Float[Array, "*batch freq frame"],
    *,
    n_iters: int,
    kernel_size: int,
    median: bool,
    alpha: float,
) -> tuple[Float[Array, "*batch freq frame"], Float[Array, "*batch freq frame"]]:
    def smoothed(x: Array, axis: int) -> Array:
        if median:
            return median_filter(x, kernel_size, axis=axis, mode="constant")
        return _hann_smoothed(x, kernel_size, axis)

    def masks_of(harmonic: Array, percussive: Array) -> Array:
        return alpha_wiener(
            jnp.stack([smoothed(harmonic, -1), smoothed(percussive, -2)]), alpha=alpha, axis=0
        )

    masks = masks_of(magnitude, magnitude)
    masks = lax.fori_loop(1, n_iters, lambda _, m: masks_of(m[0] * magnitude, m[1] * magnitude), masks)
    return masks[0], masks[1]


_compiled_kernel_additive = jax.jit(
    _kernel_additive, static_argnames=("n_iters", "kernel_size", "median", "alpha")
)


def _hann_smoothed(x: Float[Array, "..."], size: int, axis: int) -> Float[Array, "..."]:
    """Mean under a symmetric Hann window of unit sum, zeros beyond the ends."""
    window = np.hanning(size)
    window = window / window.sum()
    x = jnp.moveaxis(x, axis, -1)
    length = x.shape[-1]
    before = size // 2
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)])
    # A sum of shifted copies: the window is short, and its first and last weight are 0.
    total = sum(float(weight) * padded[..., i : i + length] for i, weight in enumerate(window) if weight)
    return jnp.moveaxis(total, -1, axis)


_compiled_median_filter = jax.jit(median_filter, static_argnames=("size", "axis", "mode"))


@partial(jax.jit, static_argnames=("power", "margins"))
def _both_masks(
    harmonic: Float[Array, "..."],
    percussive: Float[Array, "..."],
    *,
    power: float,
    margins: tuple[float, float],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    split_zeros = margins == (1, 1)
    return (
        softmask(harmonic, percussive, power=power, margin=margins[0], split_zeros=split_zeros),
        softmask(percussive, harmonic, power=power, margin=margins[1], split_zeros=split_zeros),
    )


def _as_floating(magnitudes: Array) -> Array:
    magnitudes = jnp.asarray(magnitudes)
    return magnitudes if jnp.issubdtype(magnitudes.dtype, jnp.inexact) else magnitudes.astype(jnp.float32)


def _check_power(power: float) -> None:
    if not power > 0:
        raise ValueError(f"the exponent must be above 0, got {power}")


def _check_axis(axis: int, magnitudes: Array) -> None:
    if not -magnitudes.ndim <= axis < magnitudes.ndim:
        raise ValueError(f"axis {axis} of the sources must exist in magnitudes, got shape {magnitudes.shape}")
