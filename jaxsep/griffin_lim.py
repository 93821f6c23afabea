"""Signals from magnitudes alone: the phase by alternating projections."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxsep.stft import frame_count, istft, stft

__all__ = ["griffin_lim"]


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
    return _griffin_lim(spectrogram, n_fft=n_fft, hop_length=hop_length, length=length, n_iters=n_iters)


@partial(jax.jit, static_argnames=("n_fft", "hop_length", "length", "n_iters"))
def _griffin_lim(
    spectrogram: Float[Array, "*batch freq frame"] | Complex[Array, "*batch freq frame"],
    *,
    n_fft: int,
    hop_length: int,
    length: int,
    n_iters: int,
) -> Float[Array, "*batch time"]:
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
