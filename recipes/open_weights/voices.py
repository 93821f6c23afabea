"""Singers out of speech, and more singers out of recorded ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets import voice as synthetic
from datasets.score import Note
from datasets.sound import add_at
from recipes.open_weights.backing import choir, doubles, moved, rapped
from recipes.open_weights.singing import draw_singer, take
from recipes.open_weights.sources import RATE, choose, read, speakers
from recipes.open_weights.sung_scores import sing_score, sinsy_is_here
from recipes.open_weights.syllables import draw_syllables
from recipes.open_weights.world import analyse

__all__ = ["draw_vocals"]

_CLIPS = 9  # spoken clips that a singer takes syllables from


def draw_vocals(
    phrases: Sequence[Sequence[Note]], recorded: Sequence[Path], *, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """The vocals of a song: a recorded singer made another, a trained voice, sung from speech, or out of numbers.

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
    if phrases and kind < 0.6 and sinsy_is_here():
        return sing_score(phrases, seconds=seconds, rng=rng)
    if talkers and kind < 0.95:
        return _sung(talkers, phrases, seconds, rng)
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
    takes = moved(voice, shift, formants, seconds, rng)
    mono = np.stack([takes[0], takes[-1]])
    return mono if rng.random() < 0.5 else np.stack([takes[0] + 0.5 * takes[-1]] * 2)


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
    talkers: dict[str, list[Path]],
    phrases: Sequence[Sequence[Note]],
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Sung by one of the speakers, one time in ten only spoken; then doubled, or with a choir behind it."""
    name, clips = choose(rng, list(talkers.items()))
    if not phrases:
        return _out_of_numbers(phrases, seconds, rng)
    if rng.random() < 0.1:
        lead = rapped((name, clips), phrases, seconds, rng)
        return np.stack([lead, lead])
    syllables = draw_syllables(clips, _CLIPS, rng)
    singer = draw_singer("_m_" in name, rng)
    if not syllables:
        return _out_of_numbers(phrases, seconds, rng)
    lead = take(singer, syllables, phrases, seconds, rng.integers(2**31))
    out = np.stack([lead, lead])
    behind = rng.random()
    if behind < 0.35:
        out += doubles(singer, syllables, phrases, seconds, rng)
    elif behind < 0.47:
        out += choir(talkers, phrases, seconds, rng)
    return out
