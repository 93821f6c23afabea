"""Synthesiser patches, another one every few seconds and drawn far wider than any record: basses, and all else.

What a net takes for a bass is its register, not its sound, if it has heard every sound in every register. Oscillators
run through filters whose knobs follow the keys, a wheel that turns at its own rate, or a hand that moves over bars.
"""

from typing import NamedTuple

import numpy as np

from datasets.score import Note
from datasets.sound import HOP, oscillate, shape_spectrum
from recipes.open_weights.bass_synths import bend, spread, unit
from recipes.open_weights.patch_lines import draw_bass_line, draw_chords, draw_parts
from recipes.open_weights.produce import draw_medium, produce
from recipes.open_weights.sources import RATE, log_uniform

__all__ = ["play_patch", "render_patches"]

_MOST_HARMONICS = 400
_HIGHEST = 17000  # Hz, of a harmonic
_UNISON = (1, 1, 1, 2, 2, 3, 3, 5)
# Formants of sung vowels in Hz, between which a filter may speak.
_VOWELS = np.array(
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240]]
)


class _Voice(NamedTuple):
    """What the keys do to one voice, a value a frame."""

    f0: np.ndarray  # Hz
    level: np.ndarray
    since: np.ndarray  # s since the note began


def render_patches(seed: int, index: int, seconds: float) -> tuple[dict[str, np.ndarray], float]:
    """Patches one after the other, as the stems bass and other of a song that has no more.

    Args:
        seed: of the corpus.
        index: of the song.
        seconds: its length.

    Returns:
        Stems float32 (2, time), and how strongly to compress them on disk.
    """
    rngs = dict(
        zip(("medium", "bass", "other"), np.random.default_rng([seed, index, 1]).spawn(3), strict=True)
    )
    medium = draw_medium(rngs["medium"])
    stems = {}
    for stem in ("bass", "other"):
        rng, parts = rngs[stem], []
        while sum(part.shape[1] for part in parts) < round(seconds * RATE):
            length = float(rng.uniform(3.5, 8))
            if stem == "bass":
                dry = play_patch([draw_bass_line(rng, length)], length, rng, low=True)
            else:
                dry = _wall(length, rng)
            parts.append(_faded(produce(stem, dry, medium, rng)))
        stems[stem] = np.concatenate(parts, axis=1)[:, : round(seconds * RATE)]
    return stems, medium.compression


def _wall(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """One patch, or a wall of them that a voice has to be heard through: chords held, piled up, bent together."""
    if rng.random() < 0.3:
        return play_patch(draw_parts(rng, seconds), seconds, rng, low=False)
    layers = []
    for _ in range(int(rng.integers(1, 5))):
        parts = draw_chords(rng, seconds) if rng.random() < 0.7 else draw_parts(rng, seconds)
        layers.append(np.float32(10 ** rng.uniform(-0.5, 0)) * play_patch(parts, seconds, rng, low=False))
    sound = unit(sum(layers))
    if rng.random() < 0.6:
        for side in sound:  # an amplifier each
            side[:] = bend(side, 10 ** float(rng.uniform(0.2, 1.8)), rng)
        corner = float(rng.uniform(3000, 9000))
        sound = shape_spectrum(sound, lambda f: 1 / (1 + (f / corner) ** 4), RATE)
    return sound


def _faded(sound: np.ndarray) -> np.ndarray:
    ramp = np.minimum(np.arange(sound.shape[1]) / (0.01 * RATE), 1).astype(np.float32)
    return sound * ramp * ramp[::-1]


def play_patch(
    voices: list[list[Note]], seconds: float, rng: np.random.Generator, *, low: bool
) -> np.ndarray:
    """Play voices, each of which sounds one note at a time, on a patch drawn for them, float32 (2, time).

    Args:
        voices: their notes.
        seconds: length.
        rng: draws the patch.
        low: as a bass: its fundamentals stay, and a sine may double them.
    """
    length = round(seconds * RATE)
    n_frames = length // HOP + 2
    keys = _draw_keys(rng)
    played = [_follow(notes, keys, n_frames, rng) for notes in voices if notes]
    if not played:
        return np.zeros((2, length), np.float32)
    hand = rng.bit_generator.state
    sound = np.zeros((2, (n_frames - 1) * HOP), np.float32)
    for voice in played:
        rng.bit_generator.state = hand  # one patch for all voices
        made = _modulated(voice, rng) if rng.random() < 0.15 else _filtered(voice, rng, low=low)
        sound += unit(made) * spread(voice.level, made.shape[1])
    if rng.random() < 0.2:
        noise = shape_spectrum(rng.normal(size=sound.shape[1]), lambda f: 1 / (1 + (f / 6000) ** 2), RATE)
        sound = sound + np.float32(10 ** rng.uniform(-3, -1.3)) * noise * np.abs(sound).max()
    sound = unit(_worn(sound, rng))
    if low and rng.random() < 0.4:
        tone = oscillate(played[0].f0, np.ones((n_frames, 1)), phases=np.zeros(1), sample_rate=RATE)
        level = np.float32(10 ** rng.uniform(-0.9, 0.3))
        sound = sound + level * unit(tone * spread(played[0].level, tone.size))
    return _pumped(sound[:, :length], rng).astype(np.float32)


class _Keys(NamedTuple):
    attack: float  # s
    decay: float  # s
    sustain: float
    release: float  # s
    glide: float  # s
    vibrato: float  # semitones


def _draw_keys(rng: np.random.Generator) -> _Keys:
    attack = log_uniform(rng, 0.002, 0.02) if rng.random() < 0.7 else log_uniform(rng, 0.02, 0.8)
    sustain = float(rng.uniform(0.6, 1)) if rng.random() < 0.65 else float(rng.uniform(0, 0.6))
    # Most keyboards neither glide nor shake: what does is likely to be sung.
    glide = log_uniform(rng, 0.001, 0.1) if rng.random() < 0.35 else 0.001
    vibrato = log_uniform(rng, 0.02, 0.4) if rng.random() < 0.2 else 0.0
    return _Keys(attack, log_uniform(rng, 0.06, 3), sustain, log_uniform(rng, 0.01, 0.4), glide, vibrato)


def _follow(notes: list[Note], keys: _Keys, n_frames: int, rng: np.random.Generator) -> _Voice:
    """The last key pressed is the one that sounds."""
    pitch, level = np.full(n_frames, notes[0].pitch, float), np.zeros(n_frames)
    since = np.zeros(n_frames)
    begins = [min(round(note.start * RATE / HOP), n_frames) for note in notes]
    before = notes[0].pitch
    for note, begin, end in zip(notes, begins, [*begins[1:], n_frames], strict=True):
        age = np.arange(end - begin) * (HOP / RATE)
        if not age.size:
            continue
        pitch[begin:end] = note.pitch + (before - note.pitch) * np.exp(-age / keys.glide)
        before = pitch[end - 1]
        swell = np.minimum(age / keys.attack, 1) * (
            keys.sustain + (1 - keys.sustain) * np.exp(-age / keys.decay)
        )
        level[begin:end] = swell * np.exp(-np.maximum(age - note.duration, 0) / keys.release) * note.velocity
        since[begin:end] = age
    time = np.arange(n_frames) * (HOP / RATE)
    pitch += keys.vibrato * np.sin(2 * np.pi * (rng.uniform(4, 7) * time + rng.random()))
    return _Voice(440.0 * 2 ** ((pitch - 69) / 12), level, since)


def _movement(voice: _Voice, rng: np.random.Generator) -> np.ndarray:
    """How a knob moves, in octaves about its rest: some of key, wheel and hand."""
    time = np.arange(voice.f0.size) * (HOP / RATE)
    moves = np.zeros(time.size)
    if rng.random() < 0.5:  # each key opens or closes it
        fall = log_uniform(rng, 0.03, 3)
        shape = np.exp(-voice.since / fall) if rng.random() < 0.7 else 1 - np.exp(-voice.since / fall)
        moves += rng.uniform(-1.5, 4.5) * shape
    if rng.random() < 0.5:  # a wheel
        rate = log_uniform(rng, 0.08, 9)
        along = (time * rate + rng.random()) % 1
        shapes = (np.sin(2 * np.pi * along), 2 * along - 1, 1 - 2 * along, 1 - 4 * np.abs(along - 0.5))
        held = np.random.default_rng(rng.integers(2**31)).uniform(-1, 1, 100)[(time * rate).astype(int) % 100]
        moves += rng.uniform(0.2, 2.2) * (*shapes, held)[int(rng.integers(5))]
    if rng.random() < 0.6:  # a hand
        places = np.cumsum(rng.uniform(0.4, 3, 24)) - 2
        moves += np.interp(time, places, rng.uniform(-1, 1, 24) * rng.uniform(0.5, 2.5))
    return moves


def _filtered(voice: _Voice, rng: np.random.Generator, *, low: bool) -> np.ndarray:
    """Oscillators through one filter or two: their responses at each frame weigh the harmonics."""
    n = int(np.clip(_HIGHEST / voice.f0.min(), 8, _MOST_HARMONICS))
    k = np.arange(1, n + 1)
    freqs = k * voice.f0[:, None]
    harmonics = _wave(k, voice, rng)
    for _ in range(1 + (rng.random() < 0.35)):
        harmonics = harmonics * _response(freqs, voice, rng)
    if low:  # whatever the filter does, the note can be told
        floor = 10 ** rng.uniform(-2, 0) * np.abs(harmonics).max(axis=1)
        harmonics[:, 0] = np.sign(harmonics[:, 0] + 1e-9) * np.maximum(np.abs(harmonics[:, 0]), floor)
    harmonics = harmonics.astype(np.float32)
    count = int(rng.choice(_UNISON))
    detune, apart = log_uniform(rng, 1, 45), rng.uniform(0, 1) ** 2
    out = np.zeros((2, (voice.f0.size - 1) * HOP), np.float32)
    for place in np.linspace(-1, 1, count) if count > 1 else (0.0,):
        f0 = voice.f0 * 2 ** (detune * place * rng.uniform(0.7, 1.3) / 1200)
        phases = k * rng.uniform(0, 2 * np.pi) - np.pi / 2
        tone = oscillate(f0, harmonics, phases=phases, sample_rate=RATE)
        out += np.outer((1 - apart * max(place, 0), 1 + apart * min(place, 0)), tone).astype(np.float32)
    return out


def _wave(k: np.ndarray, voice: _Voice, rng: np.random.Generator) -> np.ndarray:
    """Amplitudes of the harmonics before the filter, (frame, harmonic) or (1, harmonic)."""
    kind, n_frames = rng.random(), voice.f0.size
    if kind < 0.35:  # saw, or what is left of it without even harmonics
        return (k ** -rng.uniform(0.6, 1.4) * np.where(k % 2, 1, rng.choice([1, 1, 0.1, 0.5])))[None]
    if kind < 0.6:  # pulse
        turns = np.arange(n_frames)[:, None] * (HOP / RATE * rng.uniform(0.05, 3))
        return (
            np.sin(np.pi * k * (rng.uniform(0.08, 0.5) + rng.uniform(0, 0.3) * np.sin(2 * np.pi * turns))) / k
        )
    if kind < 0.85:  # from one table to another
        bumps = rng.normal(0, rng.uniform(0.3, 1.6), (2, 40))
        tables = k ** -rng.uniform(0.7, 1.6) * np.exp(
            [np.interp(np.log2(k), np.linspace(0, 9, 40), row) for row in bumps]
        )
        blend = 1 / (1 + np.exp(-2 * _movement(voice, rng)[:, None]))
        return (1 - blend) * tables[0] + blend * tables[1]
    peak = rng.uniform(2, 14) * 2 ** np.clip(_movement(voice, rng), -2, 3)  # as of a synchronised oscillator
    return 1 / k + rng.uniform(0.3, 2) / peak[:, None] * np.exp(-(((k - peak[:, None]) / 2) ** 2))


def _response(freqs: np.ndarray, voice: _Voice, rng: np.random.Generator) -> np.ndarray:
    """Of a filter that moves, (frame, harmonic)."""
    centre = log_uniform(rng, 150, 4000) * 2 ** _movement(voice, rng)[:, None]
    if rng.random() < 0.3:  # its knob follows the keyboard
        centre = centre * voice.f0[:, None] / voice.f0.mean()
    centre = np.clip(centre, 40, 16000)
    x, q = freqs / centre, log_uniform(rng, 0.6, 18)
    resonant = np.sqrt((1 - x**2) ** 2 + (x / q) ** 2)
    kind = rng.random()
    if kind < 0.62:
        steep = np.sqrt(1 + x**4) if rng.random() < 0.5 else 1.0
        return 1 / resonant / steep
    if kind < 0.74:
        return 0.03 + (x / q) / resonant
    if kind < 0.82:
        return 0.05 + np.abs(1 - x**2) / resonant
    if kind < 0.91:  # flanger, phaser
        deep = rng.uniform(0.4, 0.95)
        return np.sqrt(1 + deep**2 + 2 * deep * np.cos(2 * np.pi * x)) / (1 + (freqs / 6000) ** 2)
    blend = 1 / (1 + np.exp(-2 * np.log2(centre / 800)))
    first, second = _VOWELS[rng.choice(len(_VOWELS), 2, replace=False)]
    formants = first + blend * (second - first)
    sharp = rng.uniform(0.06, 0.2)
    speaks = (
        np.exp(-((np.log2(freqs[..., None] / formants[:, None]) / sharp / 2) ** 2)) * (1, 0.6, 0.3)
    ).sum(-1)
    return 0.03 + speaks


def _modulated(voice: _Voice, rng: np.random.Generator) -> np.ndarray:
    """Two operators, the second bending the phase of the first."""
    length = (voice.f0.size - 1) * HOP
    turns = 2 * np.pi * (np.cumsum(spread(voice.f0, length), dtype=np.float64) / RATE % 64)
    ratio = float(rng.choice([0.5, 1, 1, 1, 2, 2, 3, 4, 5, 7]))
    most = np.maximum(9000 / (ratio * voice.f0) - 1, 0)  # partials stay below 9 kHz
    index = np.clip(10 ** rng.uniform(-0.5, 0.8) * 2 ** np.clip(_movement(voice, rng), -4, 3), 0, most)
    sound = np.sin(turns + spread(index, length) * np.sin(ratio * turns)).astype(np.float32)
    return np.stack([sound, sound])


def _worn(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stage that distorts, few bits, a cabinet."""
    if rng.random() < 0.5:
        sound = bend(sound / np.float32(3 * sound.std() + 1e-9), 10 ** float(rng.uniform(-0.3, 1.6)), rng)
        corner = log_uniform(rng, 2000, 15000)
        sound = shape_spectrum(sound, lambda f: 1 / (1 + (f / corner) ** 4), RATE)
    if rng.random() < 0.07:
        steps = 2 ** rng.uniform(2.5, 6)
        sound = np.round(sound / (np.abs(sound).max() + 1e-9) * steps) / np.float32(steps)
    if rng.random() < 0.05:
        sound = np.repeat(sound[:, :: (held := int(rng.integers(2, 9)))], held, axis=1)[:, : sound.shape[1]]
    return sound


def _pumped(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tremolo, or a compressor that ducks at every beat."""
    if rng.random() > 0.2:
        return sound
    along = (np.arange(sound.shape[1]) / RATE * log_uniform(rng, 1, 8) + rng.random()) % 1
    shape = np.minimum(along * 2, 1) if rng.random() < 0.6 else 0.5 - 0.5 * np.cos(2 * np.pi * along)
    return sound * (1 - rng.uniform(0.2, 0.95) * (1 - shape)).astype(np.float32)
