"""Synthetic songs as an endless set of tracks: nothing to download, and never the same song for long.

At any step a few songs are at hand; every so many steps the oldest makes room for a new one. Which ones these are
follows from (seed, step) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Int16

from datasets.recordings import DecodedSongs, Format, SharedRecording, to_format
from datasets.synthetic import STEMS, render
from datasets.tracks import Track

__all__ = ["WINDOW", "SyntheticSongs"]

WINDOW = 8
"""Songs that a batch is drawn from."""

_STEPS_PER_SONG = 8  # rendering takes about a fifth of a second of one core for each second of music
_HELD_OUT = 1 << 64  # seeds from here on are those of songs that no training hears


@dataclass(frozen=True)
class SyntheticSongs:
    """The endless set.

    Attributes:
        format: what to deliver.
        seconds: length of each song.
        songs: where rendered songs are kept while they are in use.
    """

    format: Format
    seconds: float
    songs: DecodedSongs = field(repr=False)

    def tracks(self, seed: int, step: int) -> list[Track]:
        """The songs at hand at a step of training."""
        newest = step // _STEPS_PER_SONG
        return [self._track((seed << 32) + newest + index) for index in range(WINDOW)]

    def held_out(self, count: int) -> Sequence[Track]:
        """Songs that are the same for all seeds and that no training hears."""
        return [self._track(_HELD_OUT + index) for index in range(count)]

    def _track(self, seed: int) -> Track:
        frames = round(self.seconds * self.format.sample_rate)
        rate = self.format.sample_rate
        stems = {
            name: (
                SharedRecording(
                    self.songs, seed, partial(self._render, seed), index, len(STEMS), frames, rate
                ),
            )
            for index, name in enumerate(STEMS)
        }
        return Track(f"synthetic {seed}", stems, self.format.n_channels)

    def _render(self, seed: int) -> Int16[np.ndarray, "stem channel time"]:
        stems = render(seed, self.seconds, self.format.sample_rate)
        return np.stack([to_format(stems[name], self.format) for name in STEMS])
