"""Short-time Fourier transform and its inverse, as ``torch.stft`` and ``torch.istft`` define them.

Audio ``(..., time)`` becomes a complex spectrogram ``(..., freq, frame)`` and back. Frames are cut and added
as shifted copies of hop-sized chunks: slices and additions only, which XLA runs several times faster than the
gather and scatter of the textbook form, forwards and in the gradient.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxsep.cache_blocks import in_blocks

__all__ = [
    "frame_count",
    "frame_spectra",
    "hann_window",
    "istft",
    "overlap_add",
    "reflection",
    "squared_window_sum",
    "stft",
]

# Samples of the frames that are cut, transformed and turned together on a CPU: 4 MB in single precision. Anything
# from 0.5 MB takes the same time. Few blocks, or blocks of few frames of many signals, gain nothing.
_BLOCK_ELEMENTS = 2**20
_LEAST_BLOCKS, _LEAST_FRAMES = 4, 32


def hann_window(n_fft: int) -> np.ndarray:
    """Periodic Hann window, ``w[n] = 0.5 (1 - cos(2 pi n / n_fft))``.

    Args:
        n_fft: length in samples, at least 1.

    Returns:
        float64 ``(n_fft,)``, in [0, 1]. The sum of its squares over hops of ``n_fft / 4`` is 1.5 everywhere.

    Example:
        >>> hann_window(4)
        array([0. , 0.5, 1. , 0.5])
    """
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)


def frame_count(n_samples: int, *, n_fft: int = 4096, hop_length: int = 1024, center: bool = True) -> int:
    """Number of frames that :func:`stft` makes of a signal.

    ``1 + n_samples // hop_length`` when centred, else ``1 + max(0, n_samples - n_fft) // hop_length``.

    Args:
        n_samples: length of the signal, at least 1.
        n_fft: window length in samples.
        hop_length: samples between frames.
        center: whether frame ``t`` is centred on sample ``t * hop_length``.

    Returns:
        The number of frames, at least 1.

    Example:
        >>> frame_count(44100)
        44
    """
    padded = n_samples + 2 * (n_fft // 2) if center else n_samples
    return 1 + max(0, padded - n_fft) // hop_length


def stft(
    audio: Float[Array, "*batch time"], *, n_fft: int = 4096, hop_length: int = 1024, center: bool = True
) -> Complex[Array, "*batch freq frame"]:
    """Short-time Fourier transform with a periodic Hann window.

    ``X[k, t] = sum_n w[n] x[t hop_length + n - s] exp(-2 pi i k n / n_fft)``, where ``s`` is
    ``n_fft // 2`` when centred and 0 otherwise.

    Args:
        audio: real signal, full scale ±1, any leading dimensions, one sample or more. Centred frames see it
            reflected at both ends (the end sample is not repeated); where it is shorter than half a window
            the reflection goes back and forth as often as it takes, and a single sample is repeated. Without
            centring, a signal shorter than one window is followed by zeros up to one window, and samples
            after the last whole frame are left out.
        n_fft: window length in samples, odd or even.
        hop_length: samples between frames, 1 to any number.
        center: pad half a window at both ends, so that frame ``t`` is centred on sample ``t * hop_length``.

    Returns:
        Complex spectrogram ``(..., n_fft // 2 + 1, frame)`` in the precision of ``audio``; not normalised: a
        full-scale sine reaches about ``n_fft / 4``.

    Raises:
        TypeError: ``audio`` is not real floating point.
        ValueError: no samples, or a window or hop below one sample.

    Example:
        >>> stft(jnp.ones((2, 1000)), n_fft=64, hop_length=16).shape
        (2, 33, 63)

    Source: J. B. Allen, L. R. Rabiner, "A unified approach to short-time Fourier analysis and synthesis",
    Proc. IEEE 65(11), 1977.
    """
    audio = jnp.asarray(audio)
    _check_sizes(n_fft, hop_length)
    if not jnp.issubdtype(audio.dtype, jnp.floating):
        raise TypeError(f"expected audio of a real floating type, got {audio.dtype}")
    if audio.ndim == 0 or audio.shape[-1] == 0:
        raise ValueError(f"expected audio (..., time) of at least one sample, got shape {audio.shape}")
    if center:
        audio = _reflect_pad(audio, n_fft // 2)
    return _spectrogram(audio, n_fft, hop_length)


@partial(jax.jit, static_argnums=(1, 2))
def _spectrogram(audio: Array, n_fft: int, hop_length: int) -> Complex[Array, "*batch freq frame"]:
    """:func:`frame_spectra` with frames as the last axis: turned while they are in the cache."""
    n_frames = frame_count(audio.shape[-1], n_fft=n_fft, hop_length=hop_length, center=False)
    block = _BLOCK_ELEMENTS // (n_fft * max(1, math.prod(audio.shape[:-1])))

    def turned(audio: Array) -> Array:
        return jnp.swapaxes(frame_spectra(audio, n_fft, hop_length), -1, -2)

    def part(start: Array, audio: Array) -> Array:
        size = (block - 1) * hop_length + n_fft
        return turned(lax.dynamic_slice_in_dim(audio, start * hop_length, size, axis=audio.ndim - 1))

    if block < _LEAST_FRAMES or n_frames < _LEAST_BLOCKS * block:
        return turned(audio)
    return in_blocks(turned, part, audio, block=block, axis=-1)


def frame_spectra(
    audio: Float[Array, "*batch time"], n_fft: int, hop_length: int
) -> Complex[Array, "*batch frame freq"]:
    """:func:`stft` without centring and checks, with what a frame has lying together, as it is computed."""
    frames = _cut_frames(audio, n_fft, hop_length)
    window = hann_window(n_fft).astype(audio.dtype).reshape((1,) * (frames.ndim - 1) + (-1,))
    return jnp.fft.rfft(frames * window, axis=-1)


def istft(
    spectrogram: Complex[Array, "*batch freq frame"],
    *,
    n_fft: int = 4096,
    hop_length: int = 1024,
    length: int | None = None,
    center: bool = True,
) -> Float[Array, "*batch time"]:
    """Inverse short-time Fourier transform: the least-squares signal of a spectrogram.

    ``x[n] = sum_t w[n - t hop_length] irfft(X[:, t])[n - t hop_length] / sum_t w[n - t hop_length]^2``

    ``istft(stft(x))`` is ``x`` wherever the summed squared window is positive; elsewhere (the first sample
    without centring, gaps between frames when the hop exceeds the window) it is 0. Without centring the sum
    comes close to 0 towards both ends, where a spectrogram that was changed in between is magnified: centre
    what you filter.

    Args:
        spectrogram: complex ``(..., n_fft // 2 + 1, frame)``, any leading dimensions, one frame or more.
        n_fft: window length in samples, as in :func:`stft`.
        hop_length: samples between frames, as in :func:`stft`.
        length: samples to return: cut, or followed by zeros. By default all that the frames cover, less
            half a window at both ends when centred.
        center: whether :func:`stft` padded.

    Returns:
        Real signal ``(..., length)`` in the precision of ``spectrogram``.

    Raises:
        TypeError: ``spectrogram`` is not complex.
        ValueError: the number of bins is not ``n_fft // 2 + 1``, or there is no frame.

    Example:
        >>> x = jnp.sin(jnp.arange(1000.0))
        >>> y = istft(stft(x, n_fft=64, hop_length=16), n_fft=64, hop_length=16, length=1000)
        >>> bool(jnp.allclose(x, y, atol=1e-5))
        True

    Source: D. W. Griffin, J. S. Lim, "Signal estimation from modified short-time Fourier transform", IEEE
    Trans. ASSP 32(2), 1984, equation 6.
    """
    spectrogram = jnp.asarray(spectrogram)
    _check_sizes(n_fft, hop_length)
    if not jnp.issubdtype(spectrogram.dtype, jnp.complexfloating):
        raise TypeError(f"expected a complex spectrogram, got {spectrogram.dtype}")
    if spectrogram.ndim < 2 or spectrogram.shape[-2] != n_fft // 2 + 1 or spectrogram.shape[-1] == 0:
        raise ValueError(
            f"expected a spectrogram (..., {n_fft // 2 + 1}, frame), at least one frame, for n_fft={n_fft}, "
            f"got shape {spectrogram.shape}"
        )
    if length is not None and length < 0:
        raise ValueError(f"expected a length of 0 or more samples, got {length}")
    frames = jnp.fft.irfft(jnp.swapaxes(spectrogram, -1, -2), n=n_fft, axis=-1)
    window = hann_window(n_fft)
    frames = frames * window.astype(frames.dtype).reshape((1,) * (frames.ndim - 1) + (-1,))
    signal = overlap_add(frames, hop_length)
    envelope = squared_window_sum(n_fft, hop_length, spectrogram.shape[-1])
    # Dividing by 1 where the window sum is 0 keeps the sum's own 0 there, in the gradient too.
    envelope = np.where(envelope > 0, envelope, 1.0).astype(frames.dtype)
    signal = signal / envelope.reshape((1,) * (signal.ndim - 1) + (-1,))
    start = n_fft // 2 if center else 0
    stop = signal.shape[-1] - start if length is None else start + length
    signal = signal[..., start:stop]
    missing = stop - start - signal.shape[-1]
    return jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, max(0, missing))])


def overlap_add(frames: Float[Array, "*batch frame n"], hop_length: int) -> Float[Array, "*batch time"]:
    """Sum of frames placed ``hop_length`` apart: ``x[m] = sum_t frames[t, m - t hop_length]``."""
    *batch, n_frames, size = frames.shape
    n_chunks = -(-size // hop_length)
    zeros = [(0, 0)] * len(batch)
    frames = jnp.pad(frames, [*zeros, (0, 0), (0, n_chunks * hop_length - size)])
    frames = frames.reshape(*batch, n_frames, n_chunks, hop_length)
    total = sum(
        jnp.pad(frames[..., chunk, :], [*zeros, (chunk, n_chunks - 1 - chunk), (0, 0)])
        for chunk in range(n_chunks)
    )
    return total.reshape(*batch, -1)[..., : (n_frames - 1) * hop_length + size]


def squared_window_sum(n_fft: int, hop_length: int, n_frames: int) -> np.ndarray:
    """``sum_t w[m - t hop_length]^2`` over ``n_frames`` frames, float64, as long as the frames cover."""
    total = np.zeros((n_frames - 1) * hop_length + n_fft)
    square = hann_window(n_fft) ** 2
    # Chunk by chunk, not frame by frame: as many additions as a window has hops, however long the signal.
    for start in range(0, n_fft, hop_length):
        piece = square[start : start + hop_length]
        places = start + hop_length * np.arange(n_frames)[:, None] + np.arange(len(piece))
        total[places] += piece
    return total


def _check_sizes(n_fft: int, hop_length: int) -> None:
    if n_fft < 1 or hop_length < 1:
        raise ValueError(f"expected n_fft and hop_length of at least 1, got {n_fft} and {hop_length}")


def reflection(n: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Which samples of a signal of ``n`` stand in the ``pad`` places before and after it.

    Reflection about both end samples: the signal repeats with period ``2 (n - 1)``.

    Example:
        >>> reflection(4, 2)
        (array([2, 1]), array([2, 1]))
    """
    period = max(1, 2 * (n - 1))
    outside = np.concatenate([np.arange(-pad, 0), np.arange(n, n + pad)]) % period
    outside = np.minimum(outside, period - outside) if n > 1 else np.zeros_like(outside)
    return outside[:pad], outside[pad:]


def _reflect_pad(audio: Array, pad: int) -> Array:
    # Only the two margins are gathered: the body is copied whole.
    left, right = reflection(audio.shape[-1], pad)
    return jnp.concatenate([audio[..., left], audio, audio[..., right]], axis=-1)


def _cut_frames(audio: Array, n_fft: int, hop_length: int) -> Array:
    """Frames ``(..., frame, n_fft)`` every ``hop_length`` samples; a signal below one window gets zeros."""
    *batch, n = audio.shape
    n_frames = frame_count(n, n_fft=n_fft, hop_length=hop_length, center=False)
    n_chunks = -(-n_fft // hop_length)
    needed = (n_frames - 1 + n_chunks) * hop_length
    zeros = [(0, 0)] * len(batch)
    audio = jnp.pad(audio, [*zeros, (0, max(0, needed - n))])[..., :needed]
    chunks = audio.reshape(*batch, -1, hop_length)
    shifted = [chunks[..., chunk : chunk + n_frames, :] for chunk in range(n_chunks)]
    return jnp.concatenate(shifted, axis=-1)[..., :n_fft]
