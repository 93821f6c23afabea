"""Speech cut into syllables: a vowel each, with the consonant that precedes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipes.open_weights.sources import read
from recipes.open_weights.world import Voice, analyse

__all__ = ["SPEECH_RATE", "Syllable", "cut", "draw_syllables", "read_speech", "spoken", "stretched"]

SPEECH_RATE = 16_000  # Hz, at which speech is analysed
_LONGEST = 4  # s of a clip that are taken
_CONSONANT = 24  # frames of a consonant at most


class Syllable(NamedTuple):
    """A vowel and what precedes it."""

    voice: Voice
    consonant: int  # frames before the vowel
    level: float  # log power of the vowel


def spoken(clip: Path) -> Voice | None:
    """The first seconds of a clip taken apart, or None if it is next to silent."""
    sound = read_speech(clip)
    if sound.size < 4000 or np.abs(sound).max() < 0.02:
        return None
    return analyse(sound / np.abs(sound).max(), SPEECH_RATE)


def read_speech(clip: Path) -> np.ndarray:
    """The seconds of a clip that are taken, mono at `SPEECH_RATE`."""
    if clip.suffix != ".g722":
        return read(clip, SPEECH_RATE, seconds=_LONGEST).mean(axis=0)
    import av

    with av.open(str(clip), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(frames)[: SPEECH_RATE * _LONGEST].astype(np.float32) / 32768


def cut(voice: Voice) -> list[Syllable]:
    """The syllables of a stretch of speech."""
    power = voice.envelope[:, 5:250].mean(axis=1)
    loud = power > np.quantile(power, 0.95) - 7.0
    voiced = (voice.f0 > 0) & loud
    edges = np.flatnonzero(np.diff(np.concatenate([[0], voiced.astype(int), [0]])))
    found, before = [], 0
    for begin, end in edges.reshape(-1, 2):
        for first, last in _split(power, int(begin), int(end)):
            start = max(before, first - _CONSONANT)
            if last - first >= 10:
                level = float(np.log(np.exp(voice.envelope[first:last]).sum(axis=1).mean()))
                found.append(Syllable(voice.take(np.arange(start, last)), first - start, level))
            before = last
    return found


def draw_syllables(clips: Sequence[Path], count: int, rng: np.random.Generator) -> list[Syllable]:
    """The syllables of some of a speaker's clips."""
    voices = [spoken(clips[n]) for n in rng.permutation(len(clips))[:count]]
    return [syllable for voice in voices if voice for syllable in cut(voice)]


def _split(power: np.ndarray, begin: int, end: int) -> list[tuple[int, int]]:
    """A long voiced stretch at its faintest inner frames."""
    if end - begin < 44:
        return [(begin, end)]
    inner = power[begin + 14 : end - 14]
    middle = begin + 14 + int(np.argmin(inner))
    return _split(power, begin, middle) + _split(power, middle, end)


def stretched(syllable: Syllable, length: int) -> np.ndarray:
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
