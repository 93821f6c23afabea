"""Tools for making sound out of numbers: an oscillator whose harmonics move, filters, a room.

All sound is float32 with time as its last axis.
"""

from collections.abc import Callable

import numpy as np

__all__ = ["HOP", "add_at", "band_pass", "oscillate", "reverberate", "shape_spectrum"]

HOP = 256  # samples between two frames of an oscillator's control
_TABLE = 2048  # samples of one period of the oscillator


def oscillate(f0: np.ndarray, harmonics: np.ndarray, *, phases: np.ndarray, sample_rate: float) -> np.ndarray:
    """A periodic sound whose pitch and harmonics move.

    y(t) = sum_k a_k(t) cos(2 pi k integral f0 + phase_k), read from one wave table a frame, blended between frames.

    Args:
        f0: (frame,) Hz, one value each 256 samples.
        harmonics: (frame, harmonic) amplitudes, the first one belongs to the fundamental.
        phases: (harmonic,) radians.
        sample_rate: Hz; harmonics above 0.45 of it are left out.

    Returns:
        (time,) float32 with time = 256 (frame - 1).
    """
    n_frames, n_harmonics = harmonics.shape
    order = np.arange(1, n_harmonics + 1)
    audible = order * f0[:, None] < 0.45 * sample_rate
    spectrum = np.zeros((n_frames, n_harmonics + 1), np.complex64)
    spectrum[:, 1:] = harmonics * audible * np.exp(1j * phases)
    table = np.fft.irfft(spectrum, _TABLE, axis=1).astype(np.float32) * np.float32(_TABLE / 2)
    table = np.concatenate([table, table[:, :1]], axis=1)

    time = np.arange((n_frames - 1) * HOP)
    frame, blend = np.divmod(time, HOP)
    blend = blend.astype(np.float32) / HOP
    cycles = np.cumsum(np.interp(time / HOP, np.arange(n_frames), f0)) / sample_rate
    place = ((cycles % 1.0) * _TABLE).astype(np.float32)
    left = np.minimum(place.astype(np.int64), _TABLE - 1)
    weight = place - left
    index = frame * (_TABLE + 1) + left
    flat = table.ravel()

    def read(at: np.ndarray) -> np.ndarray:
        return flat[at] + weight * (flat[at + 1] - flat[at])

    now = read(index)
    return now + blend * (read(index + _TABLE + 1) - now)


def shape_spectrum(
    sound: np.ndarray, response: Callable[[np.ndarray], np.ndarray], sample_rate: float
) -> np.ndarray:
    """Filter the last axis with a zero-phase magnitude response given as a function of frequency in Hz."""
    length = sound.shape[-1]
    padded = 1 << int(np.ceil(np.log2(length + 2048)))  # room, so that the filter's tail does not wrap around
    freqs = np.fft.rfftfreq(padded, 1 / sample_rate)
    spectrum = np.fft.rfft(sound, padded) * response(freqs)
    return np.fft.irfft(spectrum, padded)[..., :length].astype(np.float32)


def band_pass(low: float, high: float, order: int = 4) -> Callable[[np.ndarray], np.ndarray]:
    """Butterworth-like band pass."""
    return lambda f: 1 / np.sqrt(1 + (low / np.maximum(f, 1.0)) ** order) / np.sqrt(1 + (f / high) ** order)


def add_at(out: np.ndarray, sound: np.ndarray, start: float, sample_rate: float) -> None:
    """Add a mono sound into another from a time in seconds on; what lies outside is cut."""
    begin = round(start * sample_rate)
    sound, begin = sound[max(-begin, 0) :], max(begin, 0)
    end = min(begin + sound.size, out.size)
    if begin < end:
        out[begin:end] += sound[: end - begin]


def reverberate(
    dry: np.ndarray, rng: np.random.Generator, wet: float, time: float, sample_rate: int
) -> np.ndarray:
    """Put a sound into a room: decaying noise, duller as it fades, its own for each ear.

    Args:
        dry: (2, time).
        rng: draws the room.
        wet: level of the reverberation relative to the sound, 0-1.
        time: seconds in which it falls by 60 dB, > 0.
        sample_rate: Hz.

    Returns:
        (2, time) float32; what rings on is cut.
    """
    size = int(time * sample_rate)
    t = np.arange(size) / sample_rate
    tail = rng.normal(size=(2, size)) * np.exp(-6.9 * t / time)
    dull = shape_spectrum(tail, lambda f: 1 / (1 + (f / 2000.0) ** 2), sample_rate)
    tail = tail * np.exp(-8 * t / time) + dull
    tail *= wet / np.sqrt((tail**2).sum(axis=1, keepdims=True))
    padded = 1 << int(np.ceil(np.log2(dry.shape[1] + size)))
    spectrum = np.fft.rfft(dry, padded) * (1 + np.fft.rfft(tail.astype(np.float32), padded))
    return np.fft.irfft(spectrum, padded)[:, : dry.shape[1]].astype(np.float32)
