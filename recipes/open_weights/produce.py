"""What a studio does to a dry stem: saturation, equaliser, compressor, room, place, and the wear of a medium."""

from typing import NamedTuple

import numpy as np

from datasets.sound import reverberate, shape_spectrum
from recipes.open_weights.sources import RATE

__all__ = ["Medium", "draw_medium", "normalise", "produce"]

# Most reverberation of a stem, and how likely it is to be bent.
_WETTEST = {"vocals": 0.5, "drums": 0.35, "bass": 0.1, "other": 0.5}


class Medium(NamedTuple):
    """What all stems of a song go through alike, so that dull does not come to mean one of them."""

    corner: float | None  # Hz, of a low-pass
    compression: float  # of the Vorbis coder, 0 (near 200 kbit/s) to 1 (near 45 kbit/s)


def draw_medium(rng: np.random.Generator) -> Medium:
    """Draw a medium: half of them leave the sound alone but for a coder of 90 to 130 kbit/s."""
    corner = float(rng.uniform(7000, 17000)) if rng.random() < 0.3 else None
    compression = float(rng.uniform(0.5, 0.6) if rng.random() < 0.6 else rng.uniform(0.6, 0.95))
    return Medium(corner, compression)


def produce(stem: str, sound: np.ndarray, medium: Medium, rng: np.random.Generator) -> np.ndarray:
    """Make a record of a dry stem, float32 (2, time), loud parts near -20 dB RMS."""
    sound = normalise(sound)
    if rng.random() < 0.45:
        drive = np.float32(10 ** rng.uniform(-0.5, 0.7) / np.abs(sound).max())
        sound = np.tanh(drive * sound) / drive
    if rng.random() < 0.8:
        sound = shape_spectrum(sound, _draw_equaliser(rng), RATE)
    if rng.random() < 0.4:
        sound = _compress(sound, rng)
    if rng.random() < 0.75:
        wet = _WETTEST[stem] * float(rng.random()) ** 2
        sound = reverberate(sound, rng, wet, float(rng.uniform(0.15, 2.2)), RATE)
    sound = _place(stem, sound, rng)
    if medium.corner is not None:
        sound = shape_spectrum(sound, lambda f: 1 / (1 + (f / medium.corner) ** 24), RATE)
    return normalise(sound)


def _draw_equaliser(rng: np.random.Generator):
    """Bells, a tilt and now and then a low cut, as a function of frequency in Hz."""
    bells = [(rng.uniform(-4.5, 4), rng.uniform(0.3, 1.5), rng.normal(0, 4)) for _ in range(4)]
    tilt = rng.normal(0, 0.7)
    cut = float(rng.uniform(40, 150)) if rng.random() < 0.3 else 0.0

    def response(freqs: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(freqs, 30.0) / 1000.0)
        db = tilt * octaves + sum(h * np.exp(-(((octaves - c) / w) ** 2)) for c, w, h in bells)
        return 10 ** (np.clip(db, -15, 12) / 20) / np.sqrt(1 + (cut / np.maximum(freqs, 1.0)) ** 4)

    return response


def _compress(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bring loud and soft closer: gain from the level over blocks of 10 ms, smoothed."""
    block = RATE // 100
    count = sound.shape[1] // block
    level = np.sqrt((sound[:, : count * block].reshape(2, count, block) ** 2).mean(axis=(0, 2)) + 1e-7)
    release = np.exp(-np.arange(30) / rng.uniform(3, 15))
    level = np.convolve(level, release / release.sum())[:count]
    threshold = np.quantile(level, rng.uniform(0.3, 0.8))
    gain = np.maximum(level / threshold, 1.0) ** -rng.uniform(0.2, 0.8)
    places = (np.arange(count) + 0.5) * block
    return sound * np.interp(np.arange(sound.shape[1]), places, gain).astype(np.float32)


def _place(stem: str, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Width and balance; basses and voices stay near the middle."""
    near = stem in ("bass", "vocals")
    pan = float(np.clip(rng.normal(0, 0.08 if near else 0.25), -0.9, 0.9)) if rng.random() < 0.6 else 0.0
    width = float(rng.uniform(0.3, 1.4))
    mid, side = (sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2 * np.float32(width)
    return np.stack([np.float32(min(1, 1 - pan)) * (mid + side), np.float32(min(1, 1 + pan)) * (mid - side)])


def normalise(sound: np.ndarray) -> np.ndarray:
    """The parts that sound to -20 dB RMS, or the peak to 0.9 where that is less; silence stays."""
    block = RATE // 10
    blocks = sound[:, : sound.shape[1] // block * block].reshape(2, -1, block)
    power = (blocks.astype(np.float64) ** 2).mean(axis=(0, 2))
    if not power.size or power.max() < 1e-12:
        return np.zeros_like(sound, dtype=np.float32)
    level = np.sqrt(power[power > 1e-3 * power.max()].mean())
    return (sound * min(0.1 / level, 0.9 / np.abs(sound).max())).astype(np.float32)
