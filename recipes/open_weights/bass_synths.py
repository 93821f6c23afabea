"""Bass synthesisers: oscillators under a resonant filter that moves, frequency modulation, and a sub beneath."""

from typing import NamedTuple

import numpy as np

from datasets.score import Note
from datasets.sound import HOP, oscillate, shape_spectrum
from recipes.open_weights.sources import RATE, log_uniform

__all__ = ["bend", "spread", "synthesise", "unit"]

_HARMONICS = 360


class _Patch(NamedTuple):
    """The knobs of a synthesiser."""

    oscillators: float
    detune: float  # cents
    cutoff: float  # Hz, of the low-pass at rest
    resonance: float  # Q
    sweep: float  # octaves from which the filter falls at each note
    fall: float  # s, in which it does
    wobble: float  # octaves, depth of a swaying that keeps time with the notes
    fastest: float  # Hz, which that does not exceed
    drift: float  # octaves, of a swaying over bars
    accent: float  # octaves that hard notes open the filter
    decay: float  # s
    sustain: float  # level to which a note decays
    release: float  # s
    glide: float  # s


_Range = tuple[float, float]
# Drawn log-uniformly; what a family does not name lies where `_PLAIN` puts it.
_PLAIN: dict[str, _Range] = {
    "oscillators": (1, 2), "detune": (1, 15), "cutoff": (150, 8000), "resonance": (0.6, 2.5), "sweep": (0.1, 4),
    "fall": (0.04, 0.5), "wobble": (0.001, 0.001), "fastest": (8, 8), "drift": (0.05, 1.5), "accent": (0.1, 2),
    "decay": (0.2, 3), "sustain": (0.3, 1), "release": (0.01, 0.1), "glide": (0.001, 0.06),
}  # fmt: skip
_FAMILIES: dict[str, dict[str, _Range]] = {
    "plain": {},
    "reese": {
        "oscillators": (2, 3.99), "detune": (8, 45), "cutoff": (200, 8000), "sweep": (0.05, 1), "drift": (0.5, 3),
        "sustain": (0.9, 1), "glide": (0.005, 0.15),
    },
    "acid": {
        "oscillators": (1, 1), "cutoff": (120, 1500), "resonance": (3, 14), "sweep": (1.5, 5), "fall": (0.05, 0.35),
        "accent": (0.5, 3), "drift": (0.5, 2.5), "glide": (0.01, 0.08), "sustain": (0.1, 0.8),
    },
    "wobble": {
        "oscillators": (1, 3.99), "detune": (3, 30), "cutoff": (300, 3000), "resonance": (0.8, 6), "wobble": (1, 3),
        "sustain": (0.9, 1), "glide": (0.005, 0.1),
    },
    "pluck": {
        "cutoff": (120, 3000), "sweep": (1, 5), "fall": (0.03, 0.2), "decay": (0.08, 0.5), "sustain": (0.01, 0.2),
    },
    "sub": {"cutoff": (100, 500), "sweep": (0.1, 1.5), "resonance": (0.6, 1)},
    "slow": {
        "oscillators": (1, 3.99), "detune": (1, 25), "cutoff": (200, 1200), "resonance": (1.5, 16),
        "sweep": (0.02, 0.3), "wobble": (1, 2.7), "fastest": (0.2, 1.2), "drift": (0.05, 1), "accent": (0.05, 0.5),
        "decay": (1, 8), "sustain": (0.8, 1),
    },
}  # fmt: skip
_ODDS = {"plain": 0.2, "reese": 0.16, "acid": 0.12, "wobble": 0.12, "pluck": 0.14, "sub": 0.06, "slow": 0.2}


class _Course(NamedTuple):
    """What the keys do to the synthesiser, a value a frame."""

    f0: np.ndarray  # Hz
    level: np.ndarray
    move: np.ndarray  # octaves by which the filter is open


def synthesise(notes: list[Note], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Play a line on a synthesiser drawn for it, float32 (2, time)."""
    family = str(rng.choice(list(_ODDS), p=list(_ODDS.values())))
    ranges = _PLAIN | _FAMILIES[family]
    if family == "slow" and rng.random() < 0.6:
        notes = _held(notes, float(rng.uniform(0.6, 3)))
    patch = _Patch(**{k: float(np.exp(rng.uniform(*np.log(ranges[k])))) for k in _Patch._fields})
    length = round(seconds * RATE)
    course = _follow(notes, patch, length // HOP + 2, rng)
    modulated = family not in ("acid", "slow") and rng.random() < 0.25
    sound = _modulate(course, patch, rng) if modulated else _subtract(course, patch, rng)
    sound = unit(sound)
    if rng.random() < 0.15:  # a breath of noise
        noise = shape_spectrum(rng.normal(size=sound.shape[1]), lambda f: 1 / (1 + (f / 5000) ** 2), RATE)
        sound = sound + np.float32(10 ** rng.uniform(-3, -1.6)) * noise
    sound = sound * spread(course.level, sound.shape[1])
    if rng.random() < 0.45:
        gain = 10 ** float(rng.uniform(-0.2, 1.3))
        sound = bend(sound / np.float32(3 * sound.std() + 1e-9), gain, rng)
        corner = log_uniform(rng, 2500, 14000)
        sound = shape_spectrum(sound, lambda f: 1 / (1 + (f / corner) ** 4), RATE)
    sound = unit(sound)
    if rng.random() < 0.5:
        tone = oscillate(course.f0, np.ones((course.f0.size, 1)), phases=np.zeros(1), sample_rate=RATE)
        sub = unit(tone * spread(course.level, tone.size))
        sound = sound + np.float32(10 ** rng.uniform(-0.5, 0.3)) * sub
    return sound[:, :length].astype(np.float32)


def spread(frames: np.ndarray, length: int) -> np.ndarray:
    """Values a frame as values a sample, float32."""
    return np.interp(np.arange(length) / HOP, np.arange(frames.size), frames).astype(np.float32)


def _follow(notes: list[Note], patch: _Patch, n_frames: int, rng: np.random.Generator) -> _Course:
    """One voice: the last key pressed is the one that sounds."""
    pitch = np.full(n_frames, notes[0].pitch)
    level, move = np.zeros(n_frames), np.zeros(n_frames)
    begins = [round(note.start * RATE / HOP) for note in notes]
    before = notes[0].pitch
    for note, begin, end in zip(notes, begins, [*begins[1:], n_frames], strict=True):
        age = np.arange(min(end, n_frames) - begin) * (HOP / RATE)
        if not age.size:
            continue
        here = slice(begin, begin + age.size)
        pitch[here] = note.pitch + (before - note.pitch) * np.exp(-age / patch.glide)
        before = pitch[here][-1]
        swell = patch.sustain + (1 - patch.sustain) * np.exp(-age / patch.decay)
        gone = np.exp(-np.maximum(age - note.duration, 0) / patch.release)
        level[here] = swell * gone * (0.3 + 0.7 * note.velocity)
        move[here] = patch.sweep * np.exp(-age / patch.fall) + patch.accent * (note.velocity - 0.7)
    time = np.arange(n_frames) * (HOP / RATE)
    gaps = np.diff([note.start for note in notes])
    beat = float(np.median(gaps)) if gaps.size else 0.5
    rate = 1 / (max(beat, 0.1) * float(rng.choice([1, 0.5, 1 / 3, 0.25])))
    rate /= 2 ** np.ceil(np.log2(max(rate / patch.fastest, 1)))
    turns = (time - notes[0].start) * max(rate, patch.fastest / 8)
    move += patch.wobble * _sway(turns, rng)
    move += patch.drift * np.sin(2 * np.pi * (time * rng.uniform(0.03, 0.3) + rng.random()))
    return _Course(440.0 * 2 ** ((pitch - 69) / 12), level, move)


def _held(notes: list[Note], least: float) -> list[Note]:
    """The line slowed down: notes that begin within some seconds of the one before are left out, and it is held."""
    kept = notes[:1]
    for note in notes[1:]:
        if note.start - kept[-1].start >= least:
            kept.append(note)
    ends = [*(note.start for note in kept[1:]), notes[-1].start + notes[-1].duration]
    return [note._replace(duration=end - note.start) for note, end in zip(kept, ends, strict=True)]


def _sway(turns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hand at the filter's knob, from -1 to 1: the same movement at every turn, or now and then another one."""
    along = turns % 1
    there_and_back = 1 - 2 * np.abs(2 * along - 1)
    shapes = np.stack([np.cos(2 * np.pi * along), 1 - 2 * along, 2 * along - 1, there_and_back])
    kinds = rng.choice(4, size=2, p=[0.45, 0.2, 0.2, 0.15])
    turn = (np.floor(turns) - np.floor(turns[0])).astype(int)
    other = rng.random(1 + turn[-1]) < (0.4 if rng.random() < 0.4 else 0.0)
    return shapes[kinds[other[turn].astype(int)], np.arange(turns.size)]


def _subtract(course: _Course, patch: _Patch, rng: np.random.Generator) -> np.ndarray:
    """Saws or pulses through a resonant low-pass: its response at each frame weighs the harmonics."""
    cutoff = np.clip(patch.cutoff * 2**course.move, 40, 16000)
    n = int(np.clip(min(0.45 * RATE, 5 * cutoff.max()) / course.f0.min(), 8, _HARMONICS))
    k = np.arange(1, n + 1)
    x = k * (course.f0 / cutoff)[:, None]
    response = 1 / np.sqrt((1 - x**2) ** 2 + (x / patch.resonance) ** 2)
    if rng.random() < 0.5:  # 24 dB an octave
        response /= np.sqrt(1 + x**4)
    if rng.random() < 0.5:
        wave = k ** -float(rng.uniform(0.7, 1.2))
    else:
        place, sway = rng.uniform(0.1, 0.5), rng.uniform(0, 0.35)
        turns = np.arange(course.f0.size)[:, None] * (HOP / RATE * rng.uniform(0.1, 3))
        wave = np.sin(np.pi * k * (place + sway * np.sin(2 * np.pi * turns))) / k
    harmonics = (response * wave).astype(np.float32)
    voices = []
    for n_voice in range(int(patch.oscillators)):
        cents = patch.detune * (n_voice - (int(patch.oscillators) - 1) / 2) * rng.uniform(0.7, 1.3)
        phases = k * rng.uniform(0, 2 * np.pi) - np.pi / 2
        f0 = course.f0 * 2 ** (cents / 1200)
        voices.append(oscillate(f0, harmonics, phases=phases, sample_rate=RATE))
    apart = float(rng.uniform(0, 1))  # how far left and right the outer oscillators stand
    left, right = (1.0, 1 - apart, 1.0), (1 - apart, 1.0, 1.0)
    return np.stack(
        [sum(np.float32(g) * v for g, v in zip(side, voices, strict=False)) for side in (left, right)]
    )


def _modulate(course: _Course, patch: _Patch, rng: np.random.Generator) -> np.ndarray:
    """Two operators, the second bending the phase of the first as far as the filter would have opened."""
    length = (course.f0.size - 1) * HOP
    turns = 2 * np.pi * (np.cumsum(spread(course.f0, length), dtype=np.float64) / RATE % 64)
    ratio = float(rng.choice([0.5, 1, 1, 1, 2, 2, 3, 4, 5, 7]))
    # Partials lie up to (index + 1) ratio f0: keep them below 9 kHz.
    most = 9000 / (ratio * course.f0) - 1
    index = np.clip(10 ** rng.uniform(-0.7, 0.6) * 2 ** np.minimum(course.move, 4), 0, np.maximum(most, 0))
    carrier = turns + spread(index, length) * np.sin(ratio * turns)
    sound = np.sin(carrier).astype(np.float32)
    return np.stack([sound, sound])


def bend(sound: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """A stage that distorts, the same one for both sides: soft, uneven, hard (fuzz) or folding."""
    kind, hot = rng.random(), np.float32(gain) * sound
    if kind < 0.45:
        return np.tanh(hot)
    if kind < 0.75:
        bias = np.float32(rng.uniform(0.1, 0.6))
        return np.tanh(hot + bias) - np.tanh(bias)
    if kind < 0.92:
        return np.clip(hot + np.float32(0.1), -0.8, 1) - np.float32(0.1)
    return np.sin(np.clip(hot, -4, 4))


def unit(sound: np.ndarray) -> np.ndarray:
    """Peaks near 1."""
    return sound / np.float32(np.sqrt((sound**2).mean()) * 3 + 1e-9)
