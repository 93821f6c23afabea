"""Lines for synthesiser patches: low ones, and chords, arpeggios and melodies above them."""

import numpy as np

from datasets.score import Note

__all__ = ["draw_bass_line", "draw_chords", "draw_parts"]

_SCALES = ((0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11), (0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10))
_ROOTS = (24, 41)  # MIDI numbers, of basses
_LOWEST = 40.0  # of all else
_CHORDS = ((0, 4, 7), (0, 3, 7), (0, 3, 7, 10), (0, 4, 7, 11), (0, 7), (0, 7, 12), (0, 5, 7), (0, 12))


def draw_bass_line(rng: np.random.Generator, seconds: float) -> list[Note]:
    """One note at a time: held over bars, repeated, or a riff that returns."""
    root, scale, beat = _draw_place(rng)
    kind = rng.random()
    if kind < 0.35:  # held, from one beat to two bars
        steps = rng.choice([1, 2, 4, 4, 8], size=64) * beat
    elif kind < 0.6:  # repeated
        steps = np.full(512, beat / float(rng.choice([1, 2, 2, 4])))
    else:
        steps = np.tile(
            rng.choice([0.25, 0.5, 0.5, 0.75, 1, 1.5, 2], size=int(rng.integers(3, 9))) * beat, 64
        )
    riff = int(rng.integers(1, 9))
    degrees = rng.choice(len(scale), size=riff) * (rng.random(riff) < 0.6)
    leap, gate = 12 * (rng.random() < 0.25), float(rng.choice([1.0, 1.0, 1.05, rng.uniform(0.3, 0.95)]))
    line, start = [], float(rng.uniform(0, 0.5)) * (rng.random() < 0.5)
    for n, step in enumerate(steps):
        if start >= seconds:
            break
        pitch = root + scale[degrees[n % riff]] + leap * (n % 2)
        if rng.random() > 0.05:
            line.append(Note(start, float(step) * gate, float(pitch), float(rng.uniform(0.6, 1))))
        start += float(step)
    return line


def draw_chords(rng: np.random.Generator, seconds: float) -> list[list[Note]]:
    """The voices of chords, held or struck, from just above the basses on."""
    root, scale, beat = _draw_place(rng)
    root += float(rng.choice([12, 24, 24, 36, 48]))
    step = beat * float(rng.choice([0.5, 1, 2, 4, 8]))
    gate, chord = float(rng.choice([1.0, 0.95, 0.3])), _CHORDS[int(rng.integers(len(_CHORDS)))]
    starts = np.arange(0, seconds, step)
    roots = root + np.array(scale)[rng.choice(len(scale), size=starts.size) * (rng.random(starts.size) < 0.7)]
    return [
        [
            Note(float(t), step * gate, float(max(r + up, _LOWEST)), 0.8)
            for t, r in zip(starts, roots, strict=True)
        ]
        for up in chord
    ]


def draw_parts(rng: np.random.Generator, seconds: float) -> list[list[Note]]:
    """Voices, each one note at a time: chords, or an arpeggio or a melody above them."""
    if rng.random() < 0.5:
        return draw_chords(rng, seconds)
    root, scale, beat = _draw_place(rng)
    root += float(rng.choice([24, 24, 36, 36, 48]))
    step = beat * float(rng.choice([0.25, 0.25, 0.5, 0.5, 1]))
    riff = rng.integers(0, 2 * len(scale), size=int(rng.integers(3, 17)))
    gate, rests = float(rng.uniform(0.4, 1.05)), float(rng.uniform(0, 0.4))
    notes = [
        Note(float(t), step * gate, float(root + scale[d % len(scale)] + 12 * (d // len(scale))), 0.8)
        for t, d in zip(np.arange(0, seconds, step), np.resize(riff, 1000), strict=False)
    ]
    return [[note for note in notes if rng.random() >= rests]]


def _draw_place(rng: np.random.Generator) -> tuple[float, tuple[int, ...], float]:
    """Root, scale, and seconds of a beat."""
    root = float(rng.uniform(*_ROOTS)) if rng.random() < 0.3 else float(rng.integers(*_ROOTS))
    return root, _SCALES[int(rng.integers(len(_SCALES)))], 60 / float(rng.uniform(65, 180))
