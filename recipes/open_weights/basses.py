"""Basses: sampled bass guitars through amplifiers, synthesisers, and the lines that they play.

The basses of records are far brighter than bare samples: what plectrum, amplifier and filter add is drawn widely.
"""

import numpy as np

from datasets.instruments import draw_timbre, play
from datasets.score import Note
from datasets.sound import shape_spectrum
from recipes.open_weights.arrange import Layer
from recipes.open_weights.bass_synths import bend, synthesise, unit
from recipes.open_weights.fonts import play_font
from recipes.open_weights.sources import RATE, choose, fonts, log_uniform

__all__ = ["play_bass", "vary_line"]

_GUITARS = (33, 33, 33, 33, 34, 34, 34, 34, 34, 35, 36, 37, 32)  # General MIDI; slap and upright are rare
_LOWEST, _HIGHEST = 26, 60  # MIDI numbers


def play_bass(layer: Layer, *, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The bass line, float32 (2, time): a bass guitar and its amplifier, or a synthesiser."""
    notes = vary_line(layer.notes, rng)
    if not notes:
        return np.zeros((2, round(seconds * RATE)), np.float32)
    if rng.random() < 0.55:
        sound = _amplifier(_guitar(layer._replace(notes=notes), seconds, rng), notes, rng)
        sound = np.stack([sound, _chorus(sound, rng) if rng.random() < 0.25 else sound])
    elif fonts() and rng.random() < 0.12:  # a sampled synthesiser, nearly as it is
        program = int(rng.choice([38, 39, 87]))
        sound = play_font(choose(rng, fonts()), notes, seconds=seconds, program=program)
    else:
        sound = synthesise(notes, seconds, rng)
    return _mono_below(sound, float(rng.uniform(150, 350)), float(rng.uniform(0, 0.7)))


def vary_line(notes: list[Note], rng: np.random.Generator) -> list[Note]:
    """Another line over the same chords: other rhythm, register, articulation and accents."""
    notes = sorted(notes)
    if not notes:
        return []
    gaps = np.diff([note.start for note in notes])
    step = float(np.median(gaps[gaps > 0.05])) if (gaps > 0.05).any() else 0.5
    step /= 2 ** np.ceil(np.log2(max(step / 0.36, 1)))  # about an eighth
    kind = rng.random()
    if kind < 0.4:
        notes = _straight(notes, step / (2 if step > 0.2 and rng.random() < 0.35 else 1), rng)
    notes = _transposed(notes, rng)
    if rng.random() < 0.3:
        notes = _articulated(notes, step, rng)
    ends = [*(note.start for note in notes[1:]), notes[-1].start + notes[-1].duration]
    touch = rng.random()
    gate = float(rng.uniform(0.2, 0.6) if touch < 0.2 else rng.uniform(0.9, 1.0))
    loose, spread = rng.uniform(0, 0.006), rng.uniform(0.03, 0.2)
    played = []
    for note, end in zip(notes, ends, strict=True):
        span = end - note.start
        held = note.duration * gate if touch < 0.65 or not 0 < span < 1.2 else span * gate
        start = max(note.start + float(rng.normal(0, loose)), 0.0)
        velocity = float(np.clip(note.velocity * np.exp(rng.normal(0, spread)), 0.1, 1))
        played.append(Note(start, max(held, 0.03), note.pitch, velocity))
    return sorted(played)


def _straight(notes: list[Note], step: float, rng: np.random.Generator) -> list[Note]:
    """Even repetitions, of each note or of the first one in every eight steps, with octaves now and then."""
    pedal, leap = rng.random() < 0.5, float(rng.choice([0, 0, 0.1, 0.5]))
    accent = choose(rng, (1, 2, 4, 8))
    starts = np.array([note.start for note in notes])
    grid = np.arange(starts[0], notes[-1].start + notes[-1].duration - 0.5 * step, step)
    line = []
    for n, time in enumerate(grid):
        sounding = notes[int(np.searchsorted(starts, time + step / 4)) - 1]
        if time > sounding.start + max(sounding.duration, 1.0):
            continue  # the layer rests
        first = grid[n - n % 8] if pedal else time
        pitch = notes[int(np.searchsorted(starts, first + step / 4)) - 1].pitch
        up = 12.0 if leap == 0.5 and n % 2 else 12.0 * (rng.random() < leap % 0.5)
        line.append(Note(float(time), step, pitch + up, 0.85 if n % accent == 0 else 0.65))
    return line or notes


def _transposed(notes: list[Note], rng: np.random.Generator) -> list[Note]:
    shift = float(rng.choice([-12, 0, 0, 12, 12]))
    if not 28 <= np.median([note.pitch for note in notes]) + shift <= 52:
        shift = 0.0

    def folded(pitch: float) -> float:
        pitch += 12 * np.ceil(max(_LOWEST - pitch, 0) / 12)
        return float(pitch - 12 * np.ceil(max(pitch - _HIGHEST, 0) / 12))

    return [note._replace(pitch=folded(note.pitch + shift)) for note in notes]


def _articulated(notes: list[Note], step: float, rng: np.random.Generator) -> list[Note]:
    """Dead notes before the beat, and slides along the frets into a note."""
    ghosts, slides = rng.uniform(0, 0.4), rng.uniform(0, 0.12)
    line, before = [], 0.0
    for note in notes:
        room = note.start - before
        if room > 0.4 * step and rng.random() < ghosts:
            line.append(Note(note.start - step / 2, 0.03, note.pitch, float(rng.uniform(0.25, 0.6))))
        elif room > 0.2 and rng.random() < slides:
            way = int(choose(rng, (-5, -3, -2, 2, 4)))
            line += [
                Note(note.start - 0.03 * n, 0.04, note.pitch + np.sign(way) * n, 0.5 * note.velocity)
                for n in range(abs(way), 0, -1)
            ]
        line.append(note)
        before = note.start
    return sorted(n._replace(start=max(n.start, 0.0)) for n in line if n.pitch >= _LOWEST)


def _guitar(layer: Layer, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The strings alone, (time,)."""

    def take(notes: list[Note]) -> np.ndarray:
        if not fonts() or ours:
            return play(timbre, notes, length=round(seconds * RATE), sample_rate=RATE, rng=rng)
        return play_font(font, notes, seconds=seconds, program=program).mean(axis=0)

    ours = rng.random() < 0.15
    timbre = draw_timbre(rng, "bass")
    timbre = timbre._replace(cutoff=timbre.cutoff * float(rng.uniform(1, 5)))
    font = choose(rng, fonts()) if fonts() else None
    given = layer.program in range(32, 38) and rng.random() < 0.2
    program = int(layer.program) if given else int(rng.choice(_GUITARS))
    sound = take(layer.notes)
    if rng.random() < 0.12:  # doubled with a plectrum an octave above
        program = 34
        above = take([note._replace(pitch=note.pitch + 12) for note in layer.notes])
        sound = sound + np.float32(rng.uniform(0.2, 0.8)) * above
    return sound


def _amplifier(sound: np.ndarray, notes: list[Note], rng: np.random.Generator) -> np.ndarray:
    """Plectrum, compressor, then a clean low path beside a driven high one with its cabinet."""
    shelf, knee = 10 ** (rng.uniform(0, 15) / 20), float(rng.uniform(500, 2500))
    sound = unit(shape_spectrum(sound, lambda f: (1 + shelf * (f / knee) ** 2) / (1 + (f / knee) ** 2), RATE))
    if rng.random() < 0.5:
        sound = sound + np.float32(10 ** rng.uniform(-2.2, -0.7)) * _scrapes(notes, sound.size, rng)
    if rng.random() < 0.7:
        sound = _compressed(sound, float(rng.uniform(0.3, 0.9)), rng)
    if rng.random() < 0.25:  # straight into the desk
        return sound
    split, cut = float(rng.uniform(80, 500)), log_uniform(rng, 60, 400)
    high = shape_spectrum(sound, lambda f: (f / cut) ** 2 / (1 + (f / cut) ** 2), RATE)
    high = bend(unit(high), 10 ** float(rng.uniform(-0.3, 1.7)), rng)
    cabinet, steep = log_uniform(rng, 2500, 9000), float(rng.uniform(2, 6))
    bark, place = rng.uniform(0, 1.5), float(rng.uniform(700, 3000))

    def speaker(freqs: np.ndarray) -> np.ndarray:
        peak = 1 + bark * np.exp(-((np.log2(np.maximum(freqs, 20) / place) / 0.6) ** 2))
        return peak / np.sqrt(1 + (freqs / cabinet) ** (2 * steep))

    high = unit(shape_spectrum(high, speaker, RATE))
    low = unit(shape_spectrum(sound, lambda f: 1 / (1 + (f / split) ** 4), RATE))
    return low + np.float32(10 ** (rng.uniform(-16, 4) / 20)) * high


def _scrapes(notes: list[Note], length: int, rng: np.random.Generator) -> np.ndarray:
    """What finger or plectrum do at the string: a burst of noise a note, falling within 3 to 15 ms."""
    low, high = float(rng.uniform(500, 2000)), float(rng.uniform(3000, 12000))
    fall = rng.uniform(0.003, 0.015)
    size = RATE // 10
    burst = rng.normal(size=(8, size)) * np.exp(-np.arange(size) / (fall * RATE))
    burst = shape_spectrum(
        burst, lambda f: (f / low) ** 2 / (1 + (f / low) ** 2) / (1 + (f / high) ** 4), RATE
    )
    burst /= np.sqrt((burst[:, : RATE // 50] ** 2).mean())
    out = np.zeros(length, np.float32)
    for n, note in enumerate(notes):
        begin = round(note.start * RATE)
        part = burst[n % 8, : max(length - begin, 0)]
        out[begin : begin + part.size] += np.float32(3 * note.velocity**2) * part
    return out


def _compressed(sound: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    block = RATE // 200
    padded = np.pad(sound, (0, -sound.size % block)).reshape(-1, block)
    power = (padded**2).mean(axis=1) + 1e-3
    fall = np.exp(-np.arange(60) / rng.uniform(4, 20))
    level = np.sqrt(np.convolve(power, fall / fall.sum())[: power.size])
    places = (np.arange(power.size) + 0.5) * block
    return sound * np.interp(np.arange(sound.size), places, np.maximum(level, 0.1) ** -ratio).astype(
        np.float32
    )


def _chorus(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sound beside itself, some ms late and swaying."""
    time = np.arange(sound.size)
    sway = rng.uniform(0.0005, 0.003) * np.sin(2 * np.pi * rng.uniform(0.2, 1.5) * time / RATE)
    late = np.interp(time - RATE * (rng.uniform(0.004, 0.015) + sway), time, sound)
    return (sound + rng.uniform(0.3, 1) * late).astype(np.float32) / np.float32(1.4)


def _mono_below(sound: np.ndarray, corner: float, width: float) -> np.ndarray:
    mid, side = (sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2
    if np.abs(side).max() > 1e-6:
        side = shape_spectrum(
            np.float32(width) * side, lambda f: (f / corner) ** 4 / (1 + (f / corner) ** 4), RATE
        )
    return np.stack([mid + side, mid - side]).astype(np.float32)
