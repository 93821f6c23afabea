"""Masks, which divide a mixture spectrogram among its sources, and signals from magnitudes.

Every mask of a set sums to one with the others, so that masked spectrograms sum to the mixture.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxsep.median_filter import median_filter
from jaxsep.stft import frame_count, istft, stft

__all__ = ["alpha_wiener", "binary", "griffin_lim", "hpss", "hpss_kernel_additive", "softmask"]


def softmask(
    x: Float[Array, "..."], x_ref: Float[Array, "..."], *, power: float = 1.0, split_zeros: bool = True
) -> Float[Array, "..."]:
    """How much of a mixture is `x` rather than `x_ref`.

    ``x^p / (x^p + x_ref^p)``; with an infinite power 1 where ``x > x_ref`` and 0 elsewhere.

    Args:
        x: magnitudes of the wanted part, ≥ 0, any shape.
        x_ref: magnitudes of the rest, same shape.
        power: > 0; 1 divides by amplitude, 2 by energy (Wiener), ``math.inf`` decides.
        split_zeros: the mask is 1/2 where both are silent, so that the masks of `x` and `x_ref` sum to one;
            else 0.

    Returns:
        The mask, 0 to 1. For a margin, hand in ``margin * x_ref``.

    Raises:
        ValueError: the shapes differ, or `power` is not positive.

    Example:
        >>> softmask(jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), power=2).tolist()
        [0.8999999761581421, 0.5]
    """
    x, x_ref = jnp.asarray(x), jnp.asarray(x_ref)
    if x.shape != x_ref.shape:
        raise ValueError(f"x and x_ref must have the same shape, got {x.shape} and {x_ref.shape}")
    _check_power(power)
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
        Masks of the same shape, which sum to one over the sources; equal shares where all are silent.

    Raises:
        ValueError: `alpha` is not positive, or there is no such axis.

    Example:
        >>> masks = alpha_wiener(jnp.array([[[3.0]], [[1.0]]]), alpha=1.0, axis=-3)
        >>> masks.ravel().tolist()
        [0.75, 0.25]

    References:
        A. Liutkus, R. Badeau: Generalized Wiener filtering with fractional power spectrograms. ICASSP 2015.
    """
    magnitudes = jnp.asarray(magnitudes)
    _check_axis(axis, magnitudes)
    _check_power(alpha)
    # Over the largest source: powers of quiet magnitudes would vanish.
    largest = magnitudes.max(axis=axis, keepdims=True)
    silent = largest < jnp.finfo(magnitudes.dtype).tiny
    powers = jnp.where(silent, 1, magnitudes / jnp.where(silent, 1, largest)) ** alpha
    return powers / powers.sum(axis=axis, keepdims=True)


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
        The harmonic and the percussive mask, each (..., freq, frame); they sum to one for margin 1.

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
    magnitude = _as_magnitude(magnitude)
    frames, bins = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    margins = margin if isinstance(margin, tuple) else (margin, margin)
    if min(margins) < 1:
        raise ValueError(f"margins must be 1 or more, got {margins}")
    split_zeros = margins == (1, 1)
    harmonic = median_filter(magnitude, frames, axis=-1)
    percussive = median_filter(magnitude, bins, axis=-2)
    return (
        softmask(harmonic, margins[0] * percussive, power=power, split_zeros=split_zeros),
        softmask(percussive, margins[1] * harmonic, power=power, split_zeros=split_zeros),
    )


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
    magnitude = _as_magnitude(magnitude)
    if n_iters < 1 or kernel_size < 3:
        raise ValueError(f"n_iters must be 1 and kernel_size 3 or more, got {n_iters} and {kernel_size}")

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


def griffin_lim(
    spectrogram: Float[Array, "*batch freq frame"] | Complex[Array, "*batch freq frame"],
    *,
    n_fft: int = 4096,
    hop_length: int = 1024,
    length: int,
    n_iters: int = 50,
) -> Float[Array, "*batch time"]:
    """A signal whose spectrogram has given magnitudes, by alternating projections.

    ``x = istft(X)``, ``X = |spectrogram| exp(i angle(stft(x)))``, repeated; the mean squared difference
    between ``|stft(x)|`` and the given magnitudes never rises.

    Args:
        spectrogram: complex (..., freq, frame), whose phase is the start, or real magnitudes, which start
            with phase 0; ``n_fft // 2 + 1`` bins, centred frames as :func:`jaxsep.stft.stft` makes them.
        n_fft: window length in samples.
        hop_length: samples between frames.
        length: samples to return; its centred STFT must have as many frames as `spectrogram`.
        n_iters: number of rounds, 0 or more.

    Returns:
        The signal (..., length).

    Raises:
        ValueError: shapes that do not fit together, or `n_iters` is negative.

    Example:
        >>> x = jnp.sin(0.3 * jnp.arange(400.0))
        >>> magnitude = jnp.abs(stft(x, n_fft=64, hop_length=16))
        >>> griffin_lim(magnitude, n_fft=64, hop_length=16, length=400, n_iters=3).shape
        (400,)

    References:
        D. W. Griffin, J. S. Lim: Signal estimation from modified short-time Fourier transform. IEEE
        Transactions on Acoustics, Speech, and Signal Processing 32(2), 1984.
    """
    spectrogram = jnp.asarray(spectrogram)
    n_frames = frame_count(length, n_fft=n_fft, hop_length=hop_length)
    if spectrogram.shape[-1] != n_frames:
        raise ValueError(f"{length} samples have {n_frames} frames, got a spectrogram {spectrogram.shape}")
    if n_iters < 0:
        raise ValueError(f"n_iters must be 0 or more, got {n_iters}")
    magnitude = jnp.abs(spectrogram)

    def signal(x: Array) -> Array:
        return istft(x, n_fft=n_fft, hop_length=hop_length, length=length)

    def round_trip(_: int, x: Array) -> Array:
        x = stft(signal(x), n_fft=n_fft, hop_length=hop_length)
        size = jnp.abs(x)
        # Where the round trip is silent, phase 0.
        return magnitude * jnp.where(size > 0, x / jnp.where(size > 0, size, 1), 1)

    start = spectrogram.astype(jnp.result_type(magnitude.dtype, jnp.complex64))
    return signal(lax.fori_loop(0, n_iters, round_trip, start))


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


def _as_magnitude(magnitude: Array) -> Array:
    magnitude = jnp.asarray(magnitude)
    if jnp.iscomplexobj(magnitude):
        raise TypeError(f"expected real magnitudes, got {magnitude.dtype}: take jnp.abs first")
    if magnitude.ndim < 2:
        raise ValueError(f"expected magnitudes (..., freq, frame), got shape {magnitude.shape}")
    return magnitude if jnp.issubdtype(magnitude.dtype, jnp.floating) else magnitude.astype(jnp.float32)


def _check_power(power: float) -> None:
    if not power > 0:
        raise ValueError(f"the exponent must be above 0, got {power}")


def _check_axis(axis: int, magnitudes: Array) -> None:
    if not -magnitudes.ndim <= axis < magnitudes.ndim:
        raise ValueError(f"axis {axis} of the sources must exist in magnitudes, got shape {magnitudes.shape}")
