"""The WORLD vocoder as two functions: a voice to pitch, envelope and breath, and back at 44.1 kHz.

M. Morise, F. Yokomori, K. Ozawa, "WORLD: a vocoder-based high-quality speech synthesis system", IEICE Trans., 2016.
"""

from typing import NamedTuple

import numpy as np

from recipes.open_weights.sources import RATE

__all__ = ["PERIOD", "Voice", "analyse", "resynthesise"]

PERIOD = 0.005  # s between frames
_BINS = 513  # of the envelope at 44.1 kHz; a response of 23 ms
_FAINT = 16.0  # log power below the loudest frame at which nothing need be made


class Voice(NamedTuple):
    """A voice, frame by frame."""

    f0: np.ndarray  # (frame,) Hz, 0 where unvoiced
    envelope: np.ndarray  # (frame, bin) log power, bins from 0 Hz to `top`
    breath: np.ndarray  # (frame, bin) part of the power that is noise, 0-1
    top: float  # Hz

    def take(self, frames: np.ndarray) -> "Voice":
        """The voice at other frames."""
        return Voice(self.f0[frames], self.envelope[frames], self.breath[frames], self.top)


def analyse(sound: np.ndarray, rate: int) -> Voice:
    """Take a mono voice apart, (time,)."""
    import pyworld

    x = sound.astype(np.float64)
    f0, time = pyworld.dio(x, rate, f0_floor=65.0, f0_ceil=900.0, frame_period=1000 * PERIOD)
    f0 = pyworld.stonemask(x, f0, time, rate)
    envelope = np.log(np.maximum(pyworld.cheaptrick(x, f0, time, rate), 1e-16))
    breath = pyworld.d4c(x, f0, time, rate)
    return Voice(f0, envelope.astype(np.float32), breath.astype(np.float32), rate / 2)


def resynthesise(voice: Voice, f0: np.ndarray, *, formants: float, fall: float = 12.0) -> np.ndarray:
    """Sound with another pitch and other formants.

    Args:
        voice: frames as they are to be heard.
        f0: (frame,) Hz, 0 for unvoiced.
        formants: factor of all resonances.
        fall: dB per octave above what the recording holds, for voiced frames; consonants fall by a third of it.

    Returns:
        (time,) float32 at 44.1 kHz.
    """
    length = len(f0)
    sound = np.zeros(int(length * PERIOD * RATE) + 1, np.float32)
    for first, last in _sounding(voice.envelope):
        piece = _synthesise(voice.take(np.arange(first, last)), f0[first:last], formants, fall)
        begin = round(first * PERIOD * RATE)
        sound[begin : begin + piece.size] += piece[: sound.size - begin]
    return sound


def _sounding(envelope: np.ndarray) -> np.ndarray:
    """Stretches of frames that are not silent, (stretch, 2): WORLD takes longest for what has no pitch."""
    peak = envelope.max(axis=1)
    loud = (peak > peak.max() - _FAINT).astype(int)
    near = np.convolve(loud, np.ones(11, int), "same") > 0
    return np.flatnonzero(np.diff(np.concatenate([[0], near.astype(int), [0]]))).reshape(-1, 2)


def _synthesise(voice: Voice, f0: np.ndarray, formants: float, fall: float) -> np.ndarray:
    import pyworld

    held = 0.85 * voice.top  # above, coders of telephony fade out
    freqs = np.linspace(0, RATE / 2, _BINS)
    wanted = freqs / formants
    place = np.minimum(wanted, held) / voice.top * (voice.envelope.shape[1] - 1)
    left = np.minimum(place.astype(int), voice.envelope.shape[1] - 2)
    part = (place - left).astype(np.float32)

    def at(table: np.ndarray) -> np.ndarray:
        return table[:, left] * (1 - part) + table[:, left + 1] * part

    octaves_above = np.log2(np.maximum(wanted / held, 1.0))
    steepness = np.where(f0 > 0, fall, fall / 3)[:, None] * (np.log(10) / 10)
    envelope = np.exp((at(voice.envelope) - steepness * octaves_above).astype(np.float64))
    breath = np.maximum(at(voice.breath), np.minimum(0.6 * octaves_above, 0.8))
    breath = np.clip(breath.astype(np.float64), 1e-6, 1 - 1e-9)
    f0 = np.ascontiguousarray(f0, np.float64)
    sound = pyworld.synthesize(
        f0, np.ascontiguousarray(envelope), np.ascontiguousarray(breath), RATE, 1000 * PERIOD
    )
    return sound.astype(np.float32)
