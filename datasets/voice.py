"""A singer in plain NumPy: a pulsing source, moving formants, breath and consonants.

Source and filter as in G. Fant, "Acoustic Theory of Speech Production", 1960; vowels are five resonances each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets.score import Note
from datasets.sound import HOP, add_at, band_pass, oscillate, shape_spectrum

__all__ = ["Singer", "draw_singer", "sing"]

# Formants of sung vowels, Hz: the first five resonances of a mean vocal tract.
_VOWELS = np.array([
    (700, 1200, 2600, 3400, 4500), (400, 1900, 2600, 3400, 4500), (280, 2250, 2950, 3500, 4600),
    (420, 800, 2600, 3300, 4400), (320, 700, 2500, 3300, 4300), (600, 1750, 2500, 3500, 4500),
    (500, 1500, 2500, 3500, 4500), (620, 1050, 2500, 3300, 4400),
])  # fmt: skip
_BANDWIDTHS = np.array([80.0, 100.0, 130.0, 200.0, 280.0])
# Consonants: lower and upper corner in Hz, length in s, level.
_CONSONANTS = (
    (5000, 11000, 0.11, 0.30), (2500, 7000, 0.10, 0.30), (1500, 9000, 0.08, 0.10), (3500, 9000, 0.025, 0.5),
    (1200, 4000, 0.03, 0.5), (300, 1500, 0.015, 0.5), (800, 5000, 0.06, 0.12), (1000, 2000, 0.0, 0.0),
)  # fmt: skip


class Singer(NamedTuple):
    """One voice."""

    tract: float  # formants are multiplied by it: 0.85 a deep voice, 1.2 a child's
    transpose: float  # semitones
    breath: float  # noise in the voice
    effort: float  # dB per octave that the source falls less than a soft voice's
    vibrato: float  # semitones
    vibrato_rate: float  # Hz
    portamento: float  # s
    clarity: float  # level of consonants


def draw_singer(rng: np.random.Generator) -> Singer:
    """Draw a singer, low or high."""
    high = rng.random() < 0.5
    return Singer(
        tract=float(rng.uniform(1.02, 1.2) if high else rng.uniform(0.85, 1.02)),
        transpose=float(rng.choice([0, 12]) if high else rng.choice([-12, 0])),
        breath=float(rng.uniform(0.01, 0.12)),
        effort=float(rng.uniform(0, 6)),
        vibrato=float(rng.uniform(0, 0.6)),
        vibrato_rate=float(rng.uniform(4.5, 6.5)),
        portamento=float(rng.uniform(0.02, 0.08)),
        clarity=float(rng.uniform(0.4, 1.3)),
    )


def sing(
    singer: Singer, phrase: Sequence[Note], *, sample_rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Sing one phrase in one breath, a syllable a note.

    Args:
        singer: who sings.
        phrase: notes in order of time.
        sample_rate: Hz.
        rng: draws syllables, drift and noise.

    Returns:
        (time,) float32; it begins 0.15 s before the first note, with the consonant.
    """
    lead = 0.15
    begin, end = phrase[0].start - lead, max(note.start + note.duration for note in phrase) + 0.15
    n_frames = int((end - begin) * sample_rate / HOP) + 2
    time = begin + np.arange(n_frames) * (HOP / sample_rate)

    pitch = np.full(n_frames, phrase[0].pitch)
    vowel = np.tile(_VOWELS[0].astype(float), (n_frames, 1))
    voiced, loud = np.zeros(n_frames), np.zeros(n_frames)
    noises = []
    for index, note in enumerate(phrase):
        stop = phrase[index + 1].start if index + 1 < len(phrase) else end
        here = (time >= note.start - 0.03) & (time < stop)
        sung = (time >= note.start) & (time < min(note.start + note.duration, stop - 0.02))
        since = np.maximum(time - note.start, 0)
        scoop = -float(rng.choice([0, 0, 0.7, 2.0])) * np.exp(-since / 0.06)
        delayed = np.clip((since - 0.25) / 0.4, 0, 1)
        wave = singer.vibrato * delayed * np.sin(2 * np.pi * singer.vibrato_rate * since)
        pitch[here] = (note.pitch + scoop + wave)[here]
        first, last = _VOWELS[rng.integers(len(_VOWELS))], _VOWELS[rng.integers(len(_VOWELS))]
        turn = 1 / (1 + np.exp(-(since - 0.7 * note.duration) / 0.04))[:, None]
        vowel[here] = (first + (last - first) * turn * float(rng.random() < 0.4))[here]
        voiced[sung], loud[sung] = 1.0, note.velocity
        noises.append((note.start, _CONSONANTS[rng.integers(len(_CONSONANTS))], note.velocity))
    drift = np.convolve(rng.normal(size=n_frames + 60), np.hanning(61) / 30.5, "valid") * 0.25
    pitch = _smooth(pitch, singer.portamento, sample_rate) + drift + singer.transpose
    formants = np.stack([_smooth(track, 0.03, sample_rate) for track in vowel.T], axis=1) * singer.tract
    gain = _smooth(voiced * loud, 0.02, sample_rate)

    f0 = 440.0 * 2 ** ((pitch - 69) / 12)
    k = np.arange(1, int(np.clip(11000 / f0.min(), 8, 160)) + 1)
    tilt = k ** (-1.4 + singer.effort / 6)
    harmonics = gain[:, None] * tilt * _resonances(k * f0[:, None], formants)
    sound = oscillate(f0, harmonics, phases=0.8 * np.sin(1.7 * k), sample_rate=sample_rate)
    sound = sound + singer.breath * _breath(gain, formants, rng, sound.size, sample_rate)
    sound = sound / (np.abs(sound).max() + 1e-9)
    for start, (low, high, length, level), velocity in noises:
        if length:
            burst = _consonant(rng, low, high, length * rng.uniform(0.7, 1.5), sample_rate)
            level = level * singer.clarity * velocity
            add_at(
                sound,
                (level * burst).astype(np.float32),
                start - begin - burst.size / sample_rate + 0.01,
                sample_rate,
            )
    return sound


def _smooth(track: np.ndarray, seconds: float, sample_rate: float) -> np.ndarray:
    width = 2 * int(seconds * sample_rate / HOP) + 3
    window = np.hanning(width + 2)[1:-1]
    return np.convolve(np.pad(track, width // 2, mode="edge"), window / window.sum(), "valid")


def _resonances(freqs: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """Magnitude of a cascade of five resonators at (frame, bin) frequencies, 1 at 0 Hz."""
    response = np.ones_like(freqs)
    for centre, width in zip(formants.T, _BANDWIDTHS, strict=True):
        c = centre[:, None]
        response = response * c**2 / np.sqrt((c**2 - freqs**2) ** 2 + (width * freqs) ** 2)
    # Above its last resonance the cascade falls by 60 dB an octave; those left out would hold it up.
    return response * np.sqrt(1 + (freqs / 5000.0) ** 16)


def _breath(
    gain: np.ndarray, formants: np.ndarray, rng: np.random.Generator, length: int, sample_rate: float
) -> np.ndarray:
    """Noise through the same formants, overlap-added frame by frame."""
    n_fft, hop = 1024, 512
    frames = np.arange(0, gain.size, hop // HOP)
    freqs = np.fft.rfftfreq(n_fft, 1 / sample_rate)[None]
    shape = (
        _resonances(freqs, formants[frames])
        * np.sqrt(1 / (1 + (500 / np.maximum(freqs, 1)) ** 2))
        * gain[frames, None]
    )
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=(frames.size, n_fft))) * shape) * np.hanning(n_fft)
    out = np.zeros((frames.size + 1) * hop + n_fft)
    for half in range(2):
        part = noise[half::2].reshape(-1)
        out[half * hop : half * hop + part.size] += part
    return out[n_fft // 2 : n_fft // 2 + length].astype(np.float32) / 8


def _consonant(
    rng: np.random.Generator, low: float, high: float, length: float, sample_rate: float
) -> np.ndarray:
    size = int(length * sample_rate)
    noise = shape_spectrum(rng.normal(size=size), band_pass(low, high), sample_rate)
    rise = np.minimum(np.arange(size) / (0.25 * size + 1), 1.0)
    return noise * rise * np.hanning(2 * size)[size:] / (np.abs(noise).max() + 1e-9)
