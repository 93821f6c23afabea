"""The truth about a track: its mixture and stems, whole or in part."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.io.musdb import MIXTURE, Track, load_stems

__all__ = ["Estimates", "Excerpt", "Song", "file_stamps", "load_song"]

Estimates = dict[str, Float[np.ndarray, "channel time"]]


@dataclass(frozen=True)
class Excerpt:
    """The part of a song that is separated and scored; by default all of it.

    Attributes:
        start: where it begins, in seconds, >= 0.
        duration: how long it is at most, in seconds, > 0.
    """

    start: float = 0.0
    duration: float = math.inf

    def __post_init__(self) -> None:
        """Refuse what holds nothing in any song."""
        if not 0 <= self.start < math.inf:
            raise ValueError(f"start: expected 0 seconds or more, got {self.start}")
        if not self.duration > 0:
            raise ValueError(f"duration: expected more than 0 seconds, got {self.duration}")


class Song(NamedTuple):
    """The truth about a track or a part of it; all arrays have one shape."""

    track: Track
    mixture: Float[np.ndarray, "channel time"]
    references: dict[str, Float[np.ndarray, "channel time"]]
    sample_rate: float  # Hz
    begin: int = 0  # the sample of the track at which the part begins
    whole: int | None = None  # samples of the whole track; None: no more than there are here

    def part_of(self, sound: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, "channel time"]:
        """The same part of another sound of the track; a sound that has the part's length already as it is."""
        length, whole = self.mixture.shape[-1], self.whole
        if whole is None or abs(sound.shape[-1] - length) < abs(sound.shape[-1] - whole):
            return sound
        return sound[:, self.begin : self.begin + length]


def load_song(track: Track, excerpt: Excerpt | None = None) -> Song:
    """Read a track's mixture and stems.

    Without a mixture of its own the song's is the sum of its stems.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is no sound, the files differ in length or channels, or nothing is left in the excerpt.
    """
    excerpt = excerpt or Excerpt()
    stems = track.stems
    if not stems:
        raise ValueError(f"{track.name}: expected the true stems, got only a mixture")
    sounds, rate = load_stems(track, [*stems, MIXTURE] if MIXTURE in track.files else stems)
    shapes = {name: sound.shape for name, sound in sounds.items()}
    first, expected = next(iter(shapes.items()))
    for name, shape in shapes.items():
        if shape != expected:
            raise ValueError(
                f"{track.name}: expected stems of one length and number of channels, got {_size(expected)} "
                f"in {first} and {_size(shape)} in {name}"
            )
    whole, begin = expected[-1], round(excerpt.start * rate)
    end = whole if math.isinf(excerpt.duration) else min(whole, begin + round(excerpt.duration * rate))
    if begin >= end:
        raise ValueError(
            f"{track.name}: expected a part of its {whole / rate:g} s, got one from {excerpt.start:g} s on"
        )
    if end - begin < whole:
        sounds = {name: sound[:, begin:end].copy() for name, sound in sounds.items()}  # frees the rest
    mixture = sounds.pop(MIXTURE, None)
    return Song(track, sum(sounds.values()) if mixture is None else mixture, sounds, rate, begin, whole)


def file_stamps(track: Track) -> dict[str, Sequence[int]]:
    """Size and time of each of a track's files, by stem: whoever changes a file changes these."""
    stats = {stem: path.stat() for stem, path in sorted(track.files.items())}
    return {stem: [stat.st_size, stat.st_mtime_ns] for stem, stat in stats.items()}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} channel{'s' if shape[0] > 1 else ''} of {shape[1]} samples"
