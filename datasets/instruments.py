"""Pitched instruments in plain NumPy: notes in, mono float32 sound out.

A plucked string is harmonics that die the sooner the higher they are, a synthesiser is harmonics under a moving
filter, an organ is harmonics that stay: one `Timbre` describes them all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets.score import Note
from datasets.sound import HOP, add_at, band_pass, oscillate, shape_spectrum

__all__ = ["Timbre", "draw_timbre", "play"]


class Timbre(NamedTuple):
    """What makes a pitched instrument sound as it does."""

    tilt: float  # harmonic k starts at k ** -tilt
    even: float  # level of the even harmonics, 0 = a square wave's
    pluck: float  # place of the plucking finger as part of the string; 0 = bowed, blown or electric
    cutoff: float  # Hz, of the low-pass in the end
    sweep: float  # how many cutoffs higher the filter begins
    sweep_time: float  # s
    decay: float  # s, of the fundamental; np.inf = sustained
    damping: float  # how much sooner harmonic k dies: rate 1 + damping * k
    attack: float  # s
    release: float  # s
    tremolo: float  # depth, 0-1
    glide: float  # semitones from which a note may slide in
    drive: float  # of the amplifier; 0 = clean
    phases: np.ndarray  # (harmonic,) radians


# Ranges from which a Timbre is drawn; what a family does not name lies where `_PLAIN` puts it.
_Range = tuple[float, float]
_PLAIN: dict[str, _Range] = {
    "even": (1, 1), "pluck": (0, 0), "sweep": (0, 0), "damping": (0, 0), "tremolo": (0, 0), "glide": (0, 0),
    "drive": (0, 0),
}  # fmt: skip
_RINGS = (np.inf, np.inf)
_FAMILIES: dict[str, dict[str, dict[str, _Range]]] = {
    "bass": {
        "fingered": {
            "tilt": (0.9, 1.6), "even": (0.8, 1.0), "pluck": (0.15, 0.35), "cutoff": (600, 2000), "sweep": (0, 1),
            "sweep_time": (0.1, 0.3), "decay": (0.8, 2.5), "damping": (0.05, 0.25), "attack": (0.003, 0.01),
            "release": (0.03, 0.1), "glide": (0, 2), "drive": (0, 0.5),
        },
        "picked": {
            "tilt": (0.5, 1.0), "even": (0.9, 1.0), "pluck": (0.06, 0.2), "cutoff": (1500, 5000), "sweep": (0, 1),
            "sweep_time": (0.1, 0.3), "decay": (0.6, 2.0), "damping": (0.05, 0.2), "attack": (0.002, 0.004),
            "release": (0.02, 0.06), "glide": (0, 1), "drive": (0, 1.5),
        },
        "saw": {
            "tilt": (0.9, 1.1), "even": (0.9, 1.0), "cutoff": (150, 900), "sweep": (0, 8), "sweep_time": (0.05, 0.4),
            "decay": (2, 20), "attack": (0.003, 0.01), "release": (0.02, 0.08), "glide": (0, 5), "drive": (0, 1),
        },
        "square": {
            "tilt": (0.9, 1.1), "even": (0.0, 0.3), "cutoff": (200, 1200), "sweep": (0, 6), "sweep_time": (0.05, 0.3),
            "decay": (2, 20), "attack": (0.003, 0.01), "release": (0.02, 0.08), "glide": (0, 3), "drive": (0, 1),
        },
        "sub": {
            "tilt": (2.5, 4.0), "even": (0.3, 1.0), "cutoff": (200, 500), "sweep_time": (0.1, 0.2), "decay": (2, 20),
            "attack": (0.008, 0.02), "release": (0.03, 0.1), "glide": (0, 7), "drive": (0, 1),
        },
    },
    "other": {
        "pad": {
            "tilt": (0.9, 1.3), "even": (0.6, 1.0), "cutoff": (500, 3500), "sweep": (0, 2), "sweep_time": (0.5, 2),
            "decay": _RINGS, "attack": (0.05, 0.4), "release": (0.2, 0.8), "tremolo": (0, 0.2),
        },
        "string": {
            "tilt": (0.6, 1.1), "even": (0.9, 1.0), "pluck": (0.08, 0.3), "cutoff": (4000, 9000), "sweep_time": (0.1,
            0.2), "decay": (0.7, 2.5), "damping": (0.1, 0.4), "attack": (0.001, 0.003), "release": (0.05, 0.2),
        },
        "piano": {
            "tilt": (1.0, 1.5), "even": (0.9, 1.0), "pluck": (0.11, 0.13), "cutoff": (3000, 8000), "sweep": (0, 2),
            "sweep_time": (0.05, 0.15), "decay": (1.5, 4), "damping": (0.05, 0.2), "attack": (0.002, 0.005),
            "release": (0.08, 0.2),
        },
        "epiano": {
            "tilt": (1.8, 3.0), "even": (0.4, 1.0), "cutoff": (1500, 4000), "sweep": (0.5, 3), "sweep_time": (0.05,
            0.2), "decay": (0.8, 2.5), "damping": (0.2, 0.6), "attack": (0.002, 0.006), "release": (0.05, 0.15),
            "tremolo": (0, 0.4), "drive": (0, 0.7),
        },
        "organ": {
            "tilt": (0.4, 1.0), "even": (0.5, 1.0), "cutoff": (2000, 6000), "sweep_time": (0.1, 0.2), "decay": _RINGS,
            "attack": (0.004, 0.015), "release": (0.02, 0.06), "tremolo": (0.05, 0.4), "drive": (0, 1.5),
        },
        "brass": {
            "tilt": (0.5, 0.9), "even": (0.9, 1.0), "cutoff": (1200, 4000), "sweep": (-0.8, -0.3), "sweep_time": (0.05,
            0.15), "decay": _RINGS, "attack": (0.02, 0.06), "release": (0.05, 0.1), "tremolo": (0, 0.1), "glide": (0,
            1),
        },
        "distorted": {
            "tilt": (0.5, 0.9), "even": (0.9, 1.0), "pluck": (0.05, 0.2), "cutoff": (2500, 5000), "sweep_time": (0.1,
            0.2), "decay": (2, 6), "damping": (0.02, 0.1), "attack": (0.002, 0.004), "release": (0.04, 0.1),
            "glide": (0, 1), "drive": (4, 25),
        },
        "synth": {
            "tilt": (0.8, 1.2), "even": (0.0, 1.0), "cutoff": (600, 5000), "sweep": (0, 6), "sweep_time": (0.05, 0.5),
            "decay": (0.5, 6), "attack": (0.002, 0.02), "release": (0.03, 0.2), "tremolo": (0, 0.1), "glide": (0, 2),
            "drive": (0, 2),
        },
    },
}  # fmt: skip


def draw_timbre(rng: np.random.Generator, stem: str) -> Timbre:
    """Draw an instrument for the stem "bass" or "other"."""
    families = _FAMILIES[stem]
    ranges = _PLAIN | families[str(rng.choice(list(families)))]
    values = {}
    for field in Timbre._fields[:-1]:
        low, high = ranges[field]
        values[field] = low if low == high else float(rng.uniform(low, high))
    return Timbre(**values, phases=rng.uniform(-1.5, 1.5, 256).astype(np.float32))


def _pluck(timbre: Timbre, note: Note, slide_from: float, sample_rate: float) -> np.ndarray:
    """One note."""
    hold = max(note.duration, 0.04)
    n_frames = int((hold + timbre.release) * sample_rate / HOP) + 2
    time = np.arange(n_frames)[:, None] * (HOP / sample_rate)
    pitch = note.pitch + slide_from * np.exp(-time[:, 0] / 0.05)
    f0 = 440.0 * 2 ** ((pitch - 69) / 12)
    n_harmonics = int(
        np.clip(min(0.45 * sample_rate, 5 * timbre.cutoff * (1 + max(timbre.sweep, 0))) / f0.min(), 2, 160)
    )
    k = np.arange(1, n_harmonics + 1)
    level = k**-timbre.tilt * np.where(k % 2, 1.0, timbre.even)
    if timbre.pluck:
        level = level * np.abs(np.sin(np.pi * k * timbre.pluck))
    cutoff = (
        timbre.cutoff * (0.5 + 0.5 * note.velocity) * (1 + timbre.sweep * np.exp(-time / timbre.sweep_time))
    )
    harmonics = level / (1 + (k * f0[:, None] / cutoff) ** 3)
    if np.isfinite(timbre.decay):
        # Low strings ring longer: the fundamental's decay is meant for 110 Hz.
        harmonics = harmonics * np.exp(-time / timbre.decay * (1 + timbre.damping * k) * (f0[0] / 110) ** 0.4)
    sound = oscillate(f0, harmonics, phases=timbre.phases[:n_harmonics], sample_rate=sample_rate)
    seconds = np.arange(sound.size, dtype=np.float32) / np.float32(sample_rate)
    envelope = (
        np.minimum(seconds / timbre.attack, 1.0)
        * np.clip((hold + timbre.release - seconds) / timbre.release, 0, 1) ** 2
    )
    if timbre.tremolo:
        envelope = envelope * (
            1 - timbre.tremolo * (0.5 + 0.5 * np.sin(2 * np.pi * 5.3 * (seconds + note.start)))
        )
    return (sound * envelope * note.velocity).astype(np.float32)


def play(
    timbre: Timbre, notes: Sequence[Note], *, length: int, sample_rate: float, rng: np.random.Generator
) -> np.ndarray:
    """Play notes on one instrument.

    Args:
        timbre: the instrument.
        notes: in any order.
        length: samples of the result; what rings on is cut there.
        sample_rate: Hz.
        rng: decides which notes slide in.

    Returns:
        (length,) float32, level about 1 a note.
    """
    out = np.zeros(length, np.float32)
    ready: dict[tuple, np.ndarray] = {}
    for note in notes:
        slide = float(rng.choice([-1, 1]) * timbre.glide) if rng.random() < 0.25 else 0.0
        key = (round(note.duration, 2), note.pitch, round(note.velocity, 1), slide)
        if key not in ready:
            ready[key] = _pluck(timbre, Note(0.0, *key[:3]), slide, sample_rate)
        add_at(out, ready[key], note.start, sample_rate)
    if timbre.drive:
        peak = np.abs(out).max(initial=1e-9)
        out = np.tanh((1 + timbre.drive) * out / peak)
        if timbre.drive > 3:  # an amplifier's cabinet
            out = shape_spectrum(out, band_pass(90, 4500, 6), sample_rate)
    return out
