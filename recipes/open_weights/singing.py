"""One singer sings a melody once, with syllables out of speech."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from datasets.score import Note
from recipes.open_weights.sources import RATE, choose
from recipes.open_weights.syllables import Syllable, stretched
from recipes.open_weights.world import PERIOD, Voice, resynthesise

__all__ = ["Singer", "draw_singer", "drift", "sound_of", "take"]

_DB = np.log(10) / 10  # of log power
# Ranges of the ways to sing: breath 0-1, tilt in dB per octave above 500 Hz, edge in dB, roughness 0-1.
_WAYS = {
    "plain": {"breath": (0.0, 0.2), "tilt": (-1.5, 1.5), "edge": (0, 8), "rough": (0.0, 0.0)},
    "soft": {"breath": (0.25, 0.7), "tilt": (-4.0, -1.0), "edge": (0, 3), "rough": (0.0, 0.0)},
    "belted": {"breath": (0.0, 0.05), "tilt": (1.0, 3.5), "edge": (6, 13), "rough": (0.0, 0.15)},
    "rough": {"breath": (0.1, 0.4), "tilt": (0.5, 3.0), "edge": (4, 11), "rough": (0.25, 0.7)},
}


class Singer(NamedTuple):
    """What stays the same of a singer from phrase to phrase."""

    formants: float
    mean_pitch: float  # MIDI number
    vibrato: float  # semitones
    vibrato_rate: float  # Hz
    portamento: float  # s
    drift: float  # semitones
    edge: float  # dB of the singer's formant
    clarity: float  # dB, of consonants
    fall: float  # dB per octave above 7.5 kHz
    breath: float  # how much of the voice is noise
    tilt: float  # dB per octave above 500 Hz
    rough: float  # depth of a tone an octave below
    melisma: float  # share of long notes whose vowel changes
    gasp: float  # dB, of the breath before a phrase
    whisper: float  # share of phrases that are whispered


class _Score(NamedTuple):
    """What is sung, frame by frame."""

    envelope: np.ndarray
    breath: np.ndarray
    pitch: np.ndarray
    voiced: np.ndarray
    rough: np.ndarray


def draw_singer(male: bool, rng: np.random.Generator) -> Singer:
    """A singer with a way to sing."""
    formants = float(rng.uniform(0.9, 1.2) if male else rng.uniform(0.8, 1.15))
    mean = (54.0 if male else 65.0) + 24 * np.log2(formants) + rng.normal(0, 2.5)
    way = _WAYS[str(rng.choice(list(_WAYS), p=(0.35, 0.22, 0.25, 0.18)))]
    return Singer(
        formants=formants,
        mean_pitch=float(mean),
        vibrato=float(rng.choice([0.0, rng.uniform(0.1, 0.7)], p=(0.35, 0.65))),
        vibrato_rate=float(rng.uniform(4.5, 6.8)),
        portamento=float(rng.uniform(0.02, 0.09)),
        drift=float(rng.uniform(0.08, 0.3)),
        clarity=float(rng.uniform(-3, 6)),
        fall=float(rng.uniform(6, 15)),
        melisma=float(rng.uniform(0, 0.5)),
        gasp=float(rng.uniform(-32, -16)),
        whisper=float(rng.choice([0.0, 0.15], p=(0.8, 0.2))),
        **{name: float(rng.uniform(*span)) for name, span in way.items()},
    )


def sound_of(sung: np.ndarray, seconds: float) -> np.ndarray:
    """Cut or padded to a length."""
    length = round(seconds * RATE)
    return np.pad(sung[:length], (0, max(length - sung.size, 0)))


def take(
    singer: Singer, syllables: list[Syllable], phrases: Sequence[Sequence[Note]], seconds: float, seed: int
) -> np.ndarray:
    """Sing all phrases once; the seed picks the words."""
    rng = np.random.default_rng(seed)
    pitches = [note.pitch for phrase in phrases for note in phrase]
    transpose = 12 * round((singer.mean_pitch - float(np.mean(pitches))) / 12 + rng.uniform(-0.2, 0.2))
    n_frames, bins = int(seconds / PERIOD), syllables[0].voice.envelope.shape[1]
    score = _Score(
        np.full((n_frames, bins), -30.0, np.float32),
        np.ones((n_frames, bins), np.float32),
        np.zeros(n_frames),
        np.zeros(n_frames, bool),
        np.zeros(n_frames, np.float32),
    )
    for phrase in phrases:
        whispered = rng.random() < singer.whisper
        if rng.random() < 0.7:
            _gasp(score, singer, choose(rng, syllables), phrase[0].start, rng)
        for index, note in enumerate(phrase):
            following = phrase[index + 1].start if index + 1 < len(phrase) else None
            _sing(score, singer, syllables, note._replace(pitch=note.pitch + transpose), following, rng)
        if whispered:
            score.voiced[round(phrase[0].start / PERIOD) : _end(phrase)] = False
    _colour(score, singer)
    return sound_of(_voiced_sound(score, singer, rng), seconds)


def _end(phrase: Sequence[Note]) -> int:
    return round((phrase[-1].start + phrase[-1].duration) / PERIOD)


def _sing(
    score: _Score,
    singer: Singer,
    syllables: list[Syllable],
    note: Note,
    following: float | None,
    rng: np.random.Generator,
) -> None:
    """Put a syllable where a note is."""
    syllable = choose(rng, syllables)
    stop = note.start + note.duration
    if following is not None:
        stop = min(stop, following - 0.02) if rng.random() < 0.5 else following
    onset = round(note.start / PERIOD)
    first, last = onset - syllable.consonant, min(round(stop / PERIOD), len(score.pitch))
    if last - onset < 6 or first < 0:
        return
    frames = stretched(syllable, last - onset)
    words = syllable.voice.take(frames)
    lift = np.full(len(frames), 2 * np.log(max(note.velocity, 0.1)) - syllable.level, np.float32)
    lift[: syllable.consonant] += singer.clarity * _DB
    lift += 4 * np.log(np.minimum(np.arange(len(frames))[::-1] / 8.0, 1.0) + 1e-3)
    envelope = words.envelope
    if last - onset > 90 and rng.random() < singer.melisma:
        envelope = _other_vowel(envelope, syllable, choose(rng, syllables), last - onset, rng)
    score.envelope[first:last] = envelope + lift[:, None]
    score.breath[first:last] = words.breath
    score.voiced[first:last] = words.f0 > 0
    since = (np.arange(first, last) - onset) * PERIOD
    score.pitch[first:last] = note.pitch + _ornament(singer, since, rng)
    if rng.random() < 0.6:  # hoarse where it is pressed, which is not everywhere
        score.rough[first:last] = singer.rough * rng.uniform(0.3, 1.0)


def _other_vowel(
    envelope: np.ndarray, syllable: Syllable, other: Syllable, length: int, rng: np.random.Generator
) -> np.ndarray:
    """A long note's vowel becomes another one on the way."""
    frames = stretched(other, length)[other.consonant :]
    new = other.voice.envelope[frames] + (syllable.level - other.level)
    at, width = length * rng.uniform(0.35, 0.7), rng.uniform(4, 20)
    part = (1 / (1 + np.exp((at - np.arange(length)) / width))).astype(np.float32)[:, None]
    mixed = envelope.copy()
    mixed[syllable.consonant :] = (1 - part) * mixed[syllable.consonant :] + part * new
    return mixed


def _gasp(score: _Score, singer: Singer, syllable: Syllable, start: float, rng: np.random.Generator) -> None:
    """Air drawn in before a phrase: the noise of a vowel without its voice, which the next consonant may cover."""
    length = int(rng.uniform(30, 80))
    last = round(start / PERIOD) - int(rng.integers(4, 12))
    if last - length < 0:
        return
    vowel = syllable.voice.envelope[syllable.consonant :].mean(axis=0)
    shape = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 1.5
    # The vowel falls with the voice's source, which air does not have.
    bright = np.minimum(3 * np.arange(vowel.size) / vowel.size, 2.0)
    level = singer.gasp * _DB - syllable.level + rng.normal(0, 0.5)
    score.envelope[last - length : last] = vowel + bright + level + 2 * np.log(shape + 1e-3)[:, None]


def _colour(score: _Score, singer: Singer) -> None:
    """Tilt, the singer's formant and breath."""
    freqs = np.linspace(0, 8000, score.envelope.shape[1])
    octaves = np.log2(np.clip(freqs, 500, 4000) / 500)
    ring = np.exp(-(((freqs - 3000 / singer.formants) / 700) ** 2))
    coloured = (singer.tilt * (octaves - 1) + singer.edge * ring) * _DB
    score.envelope[score.voiced] += coloured.astype(np.float32)
    airy = (singer.breath * np.clip(freqs / 4000, 0.05, 1)).astype(np.float32)
    np.copyto(score.breath, 1 - (1 - score.breath) * (1 - airy))


def _voiced_sound(score: _Score, singer: Singer, rng: np.random.Generator) -> np.ndarray:
    """Give it its pitch, and let a rough voice beat at half of it."""
    n_frames = len(score.pitch)
    pitch = _glide(score.pitch, singer.portamento) + drift(n_frames, singer.drift, rng)
    pitch += 0.4 * score.rough * rng.normal(size=n_frames)
    f0 = np.where(score.voiced, 440 * 2 ** ((pitch - 69) / 12), 0.0)
    voice = Voice(f0, score.envelope, score.breath, 8000.0)
    sung = resynthesise(voice, f0, formants=singer.formants, fall=singer.fall)
    if not score.rough.any():
        return sung
    time = np.arange(sung.size, dtype=np.float32) / np.float32(RATE * PERIOD)
    depth = np.interp(time, np.arange(n_frames), score.rough).astype(np.float32)
    half = np.interp(time, np.arange(n_frames), np.cumsum(np.pi * f0 * PERIOD))
    return sung * (1 + depth * np.cos(half).astype(np.float32))


def _ornament(singer: Singer, since: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vibrato that sets in late, and a scoop from below."""
    delayed = np.clip((since - rng.uniform(0.15, 0.4)) / 0.4, 0, 1)
    rate = singer.vibrato_rate * rng.uniform(0.93, 1.07)
    wave = singer.vibrato * delayed * np.sin(2 * np.pi * rate * since + rng.uniform(0, 6))
    scoop = float(rng.choice([0, 0, 0.7, 1.5, 3.0])) * np.exp(-np.maximum(since, 0) / 0.06)
    return wave - scoop


def _glide(pitch: np.ndarray, seconds: float) -> np.ndarray:
    """Portamento: pauses hold the last pitch, and steps are smoothed."""
    known = np.flatnonzero(pitch > 0)
    if not known.size:
        return pitch + 60
    held = pitch[known[np.maximum(np.searchsorted(known, np.arange(pitch.size), "right") - 1, 0)]]
    window = np.hanning(2 * int(seconds / PERIOD) + 3)[1:-1]
    return np.convolve(np.pad(held, window.size // 2, mode="edge"), window / window.sum(), "valid")[
        : pitch.size
    ]


def drift(n_frames: int, semitones: float, rng: np.random.Generator) -> np.ndarray:
    """A pitch that wanders slowly."""
    slow = rng.normal(size=n_frames // 40 + 3)
    return semitones * np.interp(np.arange(n_frames) / 40, np.arange(slow.size), slow)
