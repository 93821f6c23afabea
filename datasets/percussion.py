"""Drum kits in plain NumPy: skins, cymbals and a clap, no two kits alike."""

import numpy as np

from datasets.sound import band_pass, shape_spectrum

__all__ = ["draw_kit"]

_Range = tuple[float, float]


def draw_kit(rng: np.random.Generator, sample_rate: float) -> dict[str, np.ndarray]:
    """Build a drum kit: one mono float32 sound for each of `score.DRUM_NAMES`, peak 1."""
    kit = {
        "kick": _skin(rng, (42, 62), (2.0, 6.0), (0.12, 0.4), rng.uniform(0, 0.3), (1500, 7000), sample_rate),
        "tom_low": _skin(rng, (70, 110), (0.3, 0.9), (0.2, 0.5), 0.15, (400, 4000), sample_rate),
        "tom_high": _skin(rng, (120, 190), (0.3, 0.9), (0.15, 0.4), 0.15, (500, 5000), sample_rate),
        "snare": _skin(
            rng, (160, 240), (0.2, 0.8), (0.05, 0.2), rng.uniform(0.6, 1.6), (900, 9000), sample_rate
        ),
        "clap": _clap(rng, sample_rate),
        "hat": _metal(rng, (0.02, 0.08), (6000, 9000), sample_rate),
        "open_hat": _metal(rng, (0.15, 0.4), (5500, 8500), sample_rate),
        "ride": _metal(rng, (0.25, 0.6), (3500, 6000), sample_rate),
        "crash": _metal(rng, (0.6, 1.4), (2500, 5000), sample_rate),
    }
    return {name: (sound / np.abs(sound).max()).astype(np.float32) for name, sound in kit.items()}


def _seconds(length: float, sample_rate: float) -> np.ndarray:
    return np.arange(int(length * sample_rate)) / sample_rate


def _finish(sound: np.ndarray, sample_rate: float) -> np.ndarray:
    """Fade out over the last 10 ms, so that a cut tail does not click."""
    fade = min(int(0.01 * sample_rate), sound.size)
    sound[-fade:] *= np.linspace(1, 0, fade)
    return sound


def _skin(
    rng: np.random.Generator,
    pitch: _Range,
    bend: _Range,
    decay: _Range,
    noise: float,
    band: _Range,
    sample_rate: float,
) -> np.ndarray:
    """A struck skin: a sine that falls to its pitch, a second mode, and the noise of the stick or the snares."""
    f0, bend_by, tau = rng.uniform(*pitch), rng.uniform(*bend), rng.uniform(*decay)
    t = _seconds(6 * tau, sample_rate)
    fall = rng.uniform(0.008, 0.03)
    cycles = f0 * (t + bend_by * fall * (1 - np.exp(-t / fall)))
    body = np.sin(2 * np.pi * cycles) + 0.3 * np.sin(2 * np.pi * 1.59 * cycles) * np.exp(-3 * t / tau)
    hiss = shape_spectrum(rng.normal(size=t.size), band_pass(*band), sample_rate)
    hiss /= np.abs(hiss).max()
    wires = min(tau, 0.02 if noise < 0.5 else 0.15) * rng.uniform(0.6, 1.2)
    sound = body * np.exp(-t / tau) * np.minimum(t / 0.0008, 1) + noise * hiss * np.exp(-t / wires)
    return _finish(sound, sample_rate)


def _metal(rng: np.random.Generator, decay: _Range, corner: _Range, sample_rate: float) -> np.ndarray:
    """A cymbal: noise and inharmonic partials above a corner frequency."""
    tau = rng.uniform(*decay)
    t = _seconds(min(5 * tau, 4.0), sample_rate)
    partials = np.sin(
        2 * np.pi * np.outer(rng.uniform(2500, 14000, 10), t) + rng.uniform(0, 6, (10, 1))
    ).mean(0)
    mixed = 0.2 * rng.normal(size=t.size) + rng.uniform(0.4, 1.2) * partials
    sound = shape_spectrum(mixed, band_pass(rng.uniform(*corner), 15000, 8), sample_rate)
    return _finish(sound * np.exp(-t / tau) * np.minimum(t / 0.001, 1), sample_rate)


def _clap(rng: np.random.Generator, sample_rate: float) -> np.ndarray:
    """Four quick bursts of noise and a short tail."""
    t = _seconds(0.5, sample_rate)
    envelope = np.exp(-t / rng.uniform(0.05, 0.12)) * 0.6
    for burst in range(4):
        delay = t - burst * rng.uniform(0.008, 0.013)
        envelope = envelope + np.where(delay >= 0, np.exp(-np.maximum(delay, 0) / 0.004), 0.0)
    noise = shape_spectrum(
        rng.normal(size=t.size), band_pass(rng.uniform(700, 1200), rng.uniform(3000, 7000)), sample_rate
    )
    return _finish(noise * envelope, sample_rate)
