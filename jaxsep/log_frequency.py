"""Spectrograms on a logarithmic frequency axis, where a change of pitch is a shift."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["log_frequencies", "log_frequency"]

_LOWEST = 440.0 * 2.0 ** ((24 - 69) / 12)  # the C of 32.7 Hz, MIDI 24


def log_frequencies(
    *, sample_rate: float, bins_per_octave: int = 36, lowest: float = _LOWEST
) -> Float[np.ndarray, " bin"]:
    """Centre frequencies ``lowest * 2 ** (k / bins_per_octave)`` below half the sample rate.

    Args:
        sample_rate: Hz.
        bins_per_octave: 1 or more; 36 is three a semitone.
        lowest: Hz, > 0.

    Returns:
        Hz, float64.

    Raises:
        ValueError: no bin, or options out of range.

    Example:
        >>> log_frequencies(sample_rate=1000, bins_per_octave=1, lowest=100.0).tolist()
        [100.0, 200.0, 400.0]
    """
    if bins_per_octave < 1 or not 0 < lowest < sample_rate / 2:
        raise ValueError(
            "bins_per_octave must be 1 or more and lowest above 0 and below half the sample rate, "
            f"got {bins_per_octave} and {lowest} Hz of {sample_rate}"
        )
    n_bins = int(np.ceil(bins_per_octave * np.log2(sample_rate / 2 / lowest)))
    return lowest * 2.0 ** (np.arange(n_bins) / bins_per_octave)


def log_frequency(
    magnitude: Float[Array, "*batch freq frame"],
    *,
    sample_rate: float,
    bins_per_octave: int = 36,
    lowest: float = _LOWEST,
) -> Float[Array, "*batch bin frame"]:
    """A magnitude spectrogram on a logarithmic frequency axis, by linear interpolation between bins.

    For pictures, and for factorisations whose templates are to be compared, shifted or drawn by pitch. Templates
    (freq, component) can be mapped just as well. There is no way back: at low frequencies the bins repeat each
    other, at high ones some are left out.

    Args:
        magnitude: (..., freq, frame), with bins from 0 to half the sample rate.
        sample_rate: Hz.
        bins_per_octave: see :func:`log_frequencies`.
        lowest: see :func:`log_frequencies`.

    Returns:
        Magnitudes (..., bin, frame) at :func:`log_frequencies`, in the dtype of `magnitude` (float32 for
        integers).

    Raises:
        ValueError: fewer than two dimensions or bins, or options out of range.

    Example:
        >>> v = jnp.arange(5.0)[:, None] * 100  # a bin's value is its frequency
        >>> mapped = log_frequency(v, sample_rate=800, bins_per_octave=2, lowest=50.0)
        >>> mapped.ravel().round().astype(int).tolist()
        [50, 71, 100, 141, 200, 283]
    """
    magnitude = jnp.asarray(magnitude)
    if magnitude.ndim < 2 or magnitude.shape[-2] < 2:
        raise ValueError(f"magnitude must be (..., freq, frame) of two bins or more, got {magnitude.shape}")
    if not jnp.issubdtype(magnitude.dtype, jnp.inexact):
        magnitude = magnitude.astype(jnp.float32)
    hertz = log_frequencies(sample_rate=sample_rate, bins_per_octave=bins_per_octave, lowest=lowest)
    last = magnitude.shape[-2] - 1
    place = hertz * 2 * last / sample_rate
    below = np.minimum(place.astype(int), last - 1)
    share = jnp.asarray(place - below, magnitude.dtype)[:, None]
    share = share.reshape((1,) * (magnitude.ndim - 2) + share.shape)
    return (1 - share) * magnitude[..., below, :] + share * magnitude[..., below + 1, :]
