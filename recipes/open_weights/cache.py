"""The corpus decoded once: 16-bit arrays on disk that are mapped, not read."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from recipes.open_weights.corpus import STEMS, finished_songs, is_held_back
from recipes.open_weights.sources import RATE, read

__all__ = ["BLOCK", "Follower", "Stem", "decode", "held_back", "is_decoded", "open_corpus", "whole_song"]

BLOCK = 22_050  # samples over which a stem's activity is measured, half a second


class Stem(NamedTuple):
    """One stem of one song."""

    kind: str  # "recorded", "rendered", "guitar", "patches", "singers"
    song: str
    name: str  # one of STEMS
    audio: np.ndarray  # (2, time) int16, on disk
    active: np.ndarray  # numbers of the half seconds that sound
    level: float  # RMS of those, full scale 1
    holds_bass: bool  # `other` of a song whose bass was never separated


def open_corpus(corpus: Path, cache: Path) -> list[Stem]:
    """Decode what is not in the cache yet, and map all of it.

    Args:
        corpus: folder that `build` wrote; songs may have been added since the last time.
        cache: folder for the arrays, 6 MB a stem of 35 s.

    Returns:
        The stems that sound at all, sorted by song.

    Raises:
        FileNotFoundError: the corpus holds no song.
    """
    songs = finished_songs(corpus)
    if not songs:
        raise FileNotFoundError(f"{corpus}: expected songs that recipes.open_weights.build wrote, found none")
    bar = tqdm(songs, desc="decoding", leave=False, disable=None)
    found = [stem for song in bar for stem in _stems(song, cache)]
    return [stem for stem in found if stem.level > 0]


class Follower:
    """Finds the songs that have come into the corpus since; call it with the step, now and then it looks.

    Args:
        corpus: folder that `build --cache` goes on writing.
        cache: folder in which it decodes.
        known: stems that one has already.
        every: steps between two looks.
        at_most: songs at a time, so that no step waits long.

    Attributes:
        taken: songs that it has found so far.
    """

    def __init__(self, corpus: Path, cache: Path, known: list[Stem], *, every: int = 20, at_most: int = 4):
        self._corpus, self._cache, self._every, self._at_most = corpus, cache, every, at_most
        self._known = {stem.song for stem in known}
        self.taken = 0

    def __call__(self, step: int) -> list[Stem]:
        """Stems for training of a few new songs, or none."""
        if step % self._every:
            return []
        songs = finished_songs(self._corpus)
        unknown = [song for song in songs if song.name not in self._known and not is_held_back(song.name)]
        new = [song for song in unknown if is_decoded(song, self._cache)][: self._at_most]
        self._known.update(song.name for song in new)
        self.taken += len(new)
        return [stem for song in new for stem in _stems(song, self._cache) if stem.level > 0]


def decode(song: Path, cache: Path) -> None:
    """Put the stems of one song into the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    for name in json.loads((song / "song.json").read_text())["stems"]:
        array = _array(song, name, cache)
        if not array.exists():
            part = array.with_suffix(f".{os.getpid()}.npy")  # a builder may be at the same song
            sound = read(song / f"{name}.ogg")
            np.save(part, np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16))
            part.rename(array)


def is_decoded(song: Path, cache: Path) -> bool:
    """Whether all stems of a song are in the cache."""
    stems = json.loads((song / "song.json").read_text())["stems"]
    return all(_array(song, name, cache).exists() for name in stems)


def _array(song: Path, name: str, cache: Path) -> Path:
    return cache / f"{song.name}_{name}.npy"


def _stems(song: Path, cache: Path) -> Iterator[Stem]:
    decode(song, cache)
    facts = json.loads((song / "song.json").read_text())
    for name in facts["stems"]:
        audio = np.load(_array(song, name, cache), mmap_mode="r")
        blocks = audio[:, : audio.shape[1] // BLOCK * BLOCK : 5].reshape(2, -1, BLOCK // 5)
        power = (blocks.astype(np.float32) ** 2).mean(axis=(0, 2)) / 32768**2
        # Half seconds within 30 dB of the loud ones.
        active = (
            power > max(1e-3 * float(np.quantile(power, 0.95)), 1e-8) if power.size else np.zeros(0, bool)
        )
        level = float(np.sqrt(power[active].mean())) if active.any() else 0.0
        holds_bass = name == "other" and facts.get("bass_in_other", False)
        yield Stem(facts["kind"], song.name, name, audio, np.flatnonzero(active), level, holds_bass)


def held_back(stems: list[Stem]) -> dict[str, list[Stem]]:
    """The songs that are for validation alone."""
    songs: dict[str, list[Stem]] = {}
    for stem in stems:
        if is_held_back(stem.song):
            songs.setdefault(stem.song, []).append(stem)
    return songs


def whole_song(stems: list[Stem], *, seconds: float) -> np.ndarray:
    """A song cut into excerpts: float32 (excerpt, source, 2, time); a stem that it lacks is silent."""
    length = round(seconds * RATE)
    count = min(stem.audio.shape[1] for stem in stems) // length
    out = np.zeros((count, len(STEMS), 2, length), np.float32)
    for stem in stems:
        sound = stem.audio[:, : count * length].reshape(2, count, length)
        out[:, STEMS.index(stem.name)] = sound.transpose(1, 0, 2).astype(np.float32) / 32768
    return out
