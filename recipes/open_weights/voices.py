"""Singers out of speech, and more singers out of recorded ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets import voice as synthetic
from datasets.score import Note
from datasets.sound import add_at
from recipes.open_weights.sources import RATE, choose, read, speakers
from recipes.open_weights.world import PERIOD, Voice, analyse, resynthesise

__all__ = ["draw_vocals"]

_CLIPS = 9  # spoken clips that a singer takes syllables from
_CONSONANT = 24  # frames of a consonant at most


class _Syllable(NamedTuple):
    voice: Voice
    consonant: int  # frames before the vowel
    level: float  # log power of the vowel


class _Singer(NamedTuple):
    formants: float
    mean_pitch: float  # MIDI number
    vibrato: float  # semitones
    vibrato_rate: float  # Hz
    portamento: float  # s
    drift: float  # semitones
    edge: float  # dB of the singer's formant
    clarity: float  # dB, of consonants
    fall: float  # dB per octave above 7.5 kHz


def draw_vocals(
    phrases: Sequence[Sequence[Note]], recorded: Sequence[Path], *, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """The vocals of a song: sung from speech, a recorded singer made another, or one out of numbers.

    Args:
        phrases: the melody.
        recorded: files of recorded vocals.
        seconds: length.
        rng: draws everything.

    Returns:
        float32 (2, time).
    """
    talkers = speakers()
    kind = rng.random()
    if recorded and kind < 0.4:
        return _revoiced(choose(rng, recorded), seconds, rng)
    if talkers and kind < 0.95:
        return _sung(choose(rng, list(talkers.items())), phrases, seconds, rng)
    return _out_of_numbers(phrases, seconds, rng)


def _out_of_numbers(
    phrases: Sequence[Sequence[Note]], seconds: float, rng: np.random.Generator
) -> np.ndarray:
    out = np.zeros(round(seconds * RATE), np.float32)
    singer = synthetic.draw_singer(rng)
    for phrase in phrases:
        add_at(out, synthetic.sing(singer, phrase, sample_rate=RATE, rng=rng), phrase[0].start - 0.15, RATE)
    return np.stack([out, out])


# -- a recorded singer made another --


def _revoiced(file: Path, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Another place of a recording, its formants and pitch moved, or as it is; now and then doubled."""
    sound = _loud_place(file, seconds, rng)
    if rng.random() < 0.15 or not speakers():
        return sound
    voice = analyse(sound.mean(axis=0), RATE)
    formants = float(2 ** rng.uniform(-0.3, 0.3))
    shift = 12 * np.log2(formants) * rng.uniform(0.5, 2.0) + rng.normal(0, 1.5)
    takes = []
    for take in range(2 if rng.random() < 0.3 else 1):
        wander = _drift(len(voice.f0), 0.15, rng) * take
        sung = resynthesise(voice, voice.f0 * 2 ** ((shift + wander) / 12), formants=formants)
        takes.append(np.roll(sound_of(sung, seconds), int(take * rng.uniform(0.005, 0.03) * RATE)))
    mono = np.stack([takes[0], takes[-1]])
    return mono if rng.random() < 0.5 else np.stack([takes[0] + 0.5 * takes[-1]] * 2)


def sound_of(sung: np.ndarray, seconds: float) -> np.ndarray:
    """Cut or padded to a length."""
    length = round(seconds * RATE)
    return np.pad(sung[:length], (0, max(length - sung.size, 0)))


def _loud_place(file: Path, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A stretch of a recording in which something is sung for at least a third of the time, if it has one."""
    whole = read(file)
    length = min(round(seconds * RATE), whole.shape[1])
    for _ in range(12):
        begin = int(rng.integers(whole.shape[1] - length + 1))
        piece = whole[:, begin : begin + length]
        blocks = piece[:, : length // 4410 * 4410].reshape(2, -1, 4410)
        power = (blocks**2).mean(axis=(0, 2))
        if np.mean(power > 1e-5) > 0.35:
            break
    return np.pad(piece, ((0, 0), (0, round(seconds * RATE) - length)))


# -- singers out of speech --


def _sung(
    talker: tuple[str, list[Path]],
    phrases: Sequence[Sequence[Note]],
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    name, clips = talker
    syllables = [s for n in rng.permutation(len(clips))[:_CLIPS] for s in _syllables(clips[n])]
    singer = _draw_singer("_m_" in name, rng)
    if not syllables or not phrases:
        return _out_of_numbers(phrases, seconds, rng)
    lead = _take(singer, syllables, phrases, seconds, rng.integers(2**31))
    out = np.stack([lead, lead])
    if rng.random() < 0.35:  # the same words doubled, or a harmony, to both sides
        words = rng.integers(2**31)
        interval = float(rng.choice([0, 0, 3, 4, -5, 7, 12, -12]))
        level = np.float32(10 ** (rng.uniform(-12, -2) / 20))
        for side in range(2):
            above = [
                [n._replace(pitch=n.pitch + interval, start=n.start + abs(rng.normal(0, 0.015))) for n in p]
                for p in phrases
            ]
            out[side] += level * _take(singer, syllables, above, seconds, words)
    return out


def _draw_singer(male: bool, rng: np.random.Generator) -> _Singer:
    formants = float(rng.uniform(0.9, 1.2) if male else rng.uniform(0.8, 1.15))
    mean = (54.0 if male else 65.0) + 24 * np.log2(formants) + rng.normal(0, 2.5)
    return _Singer(
        formants=formants,
        mean_pitch=float(mean),
        vibrato=float(rng.choice([0.0, rng.uniform(0.1, 0.7)], p=(0.35, 0.65))),
        vibrato_rate=float(rng.uniform(4.5, 6.8)),
        portamento=float(rng.uniform(0.02, 0.09)),
        drift=float(rng.uniform(0.08, 0.3)),
        edge=float(rng.uniform(0, 9)),
        clarity=float(rng.uniform(-6, 3)),
        fall=float(rng.uniform(6, 15)),
    )


def _syllables(clip: Path) -> list[_Syllable]:
    """Cut speech into a vowel each, with what precedes it."""
    import av

    with av.open(str(clip), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    sound = np.concatenate(frames).astype(np.float32) / 32768
    if sound.size < 4000 or np.abs(sound).max() < 0.02:
        return []
    voice = analyse(sound[: 16000 * 4] / np.abs(sound).max(), 16000)
    power = voice.envelope[:, 5:250].mean(axis=1) + 0.0
    loud = power > np.quantile(power, 0.95) - 7.0
    voiced = (voice.f0 > 0) & loud
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(int), [0]])))
    found, before = [], 0
    for begin, end in edges.reshape(-1, 2):
        for first, last in _split(power, int(begin), int(end)):
            start = max(before, first - _CONSONANT)
            if last - first >= 10:
                level = float(np.log(np.exp(voice.envelope[first:last]).sum(axis=1).mean()))
                found.append(_Syllable(voice.take(np.arange(start, last)), first - start, level))
            before = last
    return found


def _split(power: np.ndarray, begin: int, end: int) -> list[tuple[int, int]]:
    """A long voiced stretch at its faintest inner frames."""
    if end - begin < 44:
        return [(begin, end)]
    inner = power[begin + 14 : end - 14]
    cut = begin + 14 + int(np.argmin(inner))
    return _split(power, begin, cut) + _split(power, cut, end)


def _take(
    singer: _Singer, syllables: list[_Syllable], phrases: Sequence[Sequence[Note]], seconds: float, seed: int
) -> np.ndarray:
    """Sing all phrases once."""
    rng = np.random.default_rng(seed)
    pitches = [note.pitch for phrase in phrases for note in phrase]
    transpose = 12 * round((singer.mean_pitch - float(np.mean(pitches))) / 12 + rng.uniform(-0.2, 0.2))
    n_frames = int(seconds / PERIOD)
    bins = syllables[0].voice.envelope.shape[1]
    envelope = np.full((n_frames, bins), -30.0, np.float32)
    breath = np.ones((n_frames, bins), np.float32)
    pitch, voiced = np.zeros(n_frames), np.zeros(n_frames, bool)
    for phrase in phrases:
        for index, note in enumerate(phrase):
            syllable = choose(rng, syllables)
            stop = note.start + note.duration
            if index + 1 < len(phrase):
                stop = (
                    min(stop, phrase[index + 1].start - 0.02)
                    if rng.random() < 0.5
                    else phrase[index + 1].start
                )
            onset = round(note.start / PERIOD)
            first, last = max(onset - syllable.consonant, 0), min(round(stop / PERIOD), n_frames)
            if last - onset < 6 or onset - syllable.consonant < 0:
                continue
            frames = _stretched(syllable, last - onset)
            gain = 2 * np.log(max(note.velocity, 0.1)) - syllable.level
            spoken = syllable.voice.take(frames)
            lift = np.full(len(frames), gain, np.float32)
            lift[: syllable.consonant] += singer.clarity * np.log(10) / 10
            fade = np.minimum(np.arange(len(frames))[::-1] / 8.0, 1.0)
            envelope[first:last] = spoken.envelope + (lift + 4 * np.log(fade + 1e-3))[:, None]
            breath[first:last] = spoken.breath
            voiced[first:last] = spoken.f0 > 0
            since = (np.arange(first, last) - onset) * PERIOD
            pitch[first:last] = note.pitch + transpose + _ornament(singer, since, rng)
    f0 = 440 * 2 ** ((_glide(pitch, singer.portamento) + _drift(n_frames, singer.drift, rng) - 69) / 12)
    f0 = np.where(voiced, f0, 0.0)
    freqs = np.linspace(0, 8000, bins)
    envelope += singer.edge * np.log(10) / 10 * np.exp(-(((freqs - 3000 / singer.formants) / 700) ** 2))
    voice = Voice(f0, envelope, breath, 8000.0)
    return sound_of(resynthesise(voice, f0, formants=singer.formants, fall=singer.fall), seconds)


def _ornament(singer: _Singer, since: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vibrato that sets in late, and a scoop from below."""
    delayed = np.clip((since - rng.uniform(0.15, 0.4)) / 0.4, 0, 1)
    rate = singer.vibrato_rate * rng.uniform(0.93, 1.07)
    wave = singer.vibrato * delayed * np.sin(2 * np.pi * rate * since + rng.uniform(0, 6))
    scoop = float(rng.choice([0, 0, 0.7, 1.5, 3.0])) * np.exp(-np.maximum(since, 0) / 0.06)
    return wave - scoop


def _stretched(syllable: _Syllable, length: int) -> np.ndarray:
    """Frames of a syllable whose vowel lasts `length`: its middle is walked back and forth."""
    head = np.arange(syllable.consonant)
    vowel = len(syllable.voice.f0) - syllable.consonant
    if length <= vowel:
        return np.concatenate([head, syllable.consonant + np.linspace(0, vowel - 1, length).astype(int)])
    attack, tail = vowel // 4, vowel // 4
    middle = np.arange(attack, vowel - tail)
    back_and_forth = np.concatenate([middle, middle[::-1]])
    walk = np.resize(back_and_forth, length - attack - tail)
    whole = np.concatenate([np.arange(attack), walk, np.arange(vowel - tail, vowel)])
    return np.concatenate([head, syllable.consonant + whole])


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


def _drift(n_frames: int, semitones: float, rng: np.random.Generator) -> np.ndarray:
    slow = rng.normal(size=n_frames // 40 + 3)
    return semitones * np.interp(np.arange(n_frames) / 40, np.arange(slow.size), slow)
