"""Batches of excerpts: a plan drawn from (seed, step), then read row by row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int16

from datasets.draws import Plan, draw_plan
from datasets.recordings import Recording
from datasets.tracks import Track
from jaxsep.batches import Batch

__all__ = ["ChunkBatches", "Row"]


class Row(NamedTuple):
    """One excerpt of a batch; see `jaxsep.batches.Batch`."""

    stems: Int16[np.ndarray, "source channel time"]
    gain: Float32[np.ndarray, " source"]
    swap: Bool[np.ndarray, " source"]
    weight: Float32[np.ndarray, " source"]


@dataclass(frozen=True)
class ChunkBatches:
    """A `jaxsep.batches.BatchFunction` over tracks.

    Attributes:
        tracks: the tracks to draw from at (seed, step).
        sources: names, along the source axis.
        n_channels: of every recording.
        count: samples an excerpt.
        batch_size: excerpts in the whole batch.
        part: (index, count): which of so many equal parts of the batch is read here. The plan is that of the whole
            batch, so that the parts of all hosts together are the batch that one host alone would read.
        mix: whether each source comes from a track and place of its own.
        augmentations: see `datasets.draws.AUGMENTATIONS`.
        rest_without: see `datasets.draws.draw_plan`.
        rest: the source that holds what a track has no recording of: where it sounds, the truth of `Track.hidden`
            sources is unknown and their weight 0.
    """

    tracks: Callable[[int, int], Sequence[Track]] = field(repr=False)
    sources: tuple[str, ...]
    n_channels: int
    count: int
    batch_size: int
    part: tuple[int, int] = (0, 1)
    mix: bool = True
    augmentations: tuple[str, ...] = ()
    rest_without: bool = False
    rest: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(source, channel, time) of an excerpt."""
        return len(self.sources), self.n_channels, self.count

    @property
    def rows(self) -> range:
        """The rows of the whole batch that are read here."""
        index, count = self.part
        size = self.batch_size // count
        return range(index * size, (index + 1) * size)

    def plan(self, seed: int, step: int) -> Plan:
        """What the whole batch of a step will be; nothing is read."""
        return draw_plan(
            seed,
            step,
            tracks=self.tracks(seed, step),
            sources=self.sources,
            batch_size=self.batch_size,
            count=self.count,
            mix=self.mix,
            augmentations=self.augmentations,
            rest_without=self.rest_without,
        )

    def read(self, plan: Plan, row: int, out: Int16[np.ndarray, "source channel time"] | None = None) -> Row:
        """Read one excerpt of a plan.

        Args:
            plan: of the whole batch.
            row: which excerpt.
            out: where to put the stems; None: an array of its own.

        Raises:
            OSError: a file is gone.
            ValueError: a file is damaged.
        """
        n_sources = len(self.sources)
        stems = np.empty(self.shape, np.int16) if out is None else out
        gain, swap = np.zeros(n_sources, np.float32), np.zeros(n_sources, bool)
        weight = np.ones(n_sources, np.float32)
        for index, source in enumerate(self.sources):
            track = plan.tracks[plan.track[row, index]]
            parts = track.stems.get(source, ())
            gains, swaps = plan.gain[row, index], plan.swap[row, index]
            if gains.any():
                start = int(plan.start[row, index])
                stems[index], gain[index], swap[index] = self._source(parts, start, gains, swaps)
            else:  # what is silenced need not be read
                stems[index] = 0
            if source == self.rest and gains.any():
                weight *= [name not in track.hidden for name in self.sources]
        return Row(stems, gain, swap, weight)

    def __call__(self, seed: int, step: int) -> Batch:
        """The batch of a step, or this host's part of it."""
        plan = self.plan(seed, step)
        stems = np.empty((len(self.rows), *self.shape), np.int16)
        rows = [self.read(plan, row, out) for row, out in zip(self.rows, stems, strict=True)]
        return self.batch(stems, *(np.stack(column) for column in list(zip(*rows, strict=True))[1:]))

    def batch(self, stems: np.ndarray, gain: np.ndarray, swap: np.ndarray, weight: np.ndarray) -> Batch:
        """The batch of stacked rows. Sources were remixed as they were read: each row is its own origin."""
        origin = np.repeat(np.arange(len(gain), dtype=np.int32)[:, None], gain.shape[1], axis=1)
        return Batch(stems, gain, swap, origin, weight)

    def _source(
        self, parts: Sequence[Recording], start: int, gains: np.ndarray, swaps: np.ndarray
    ) -> tuple[np.ndarray, np.float32, bool]:
        """Samples, gain and swap of one source. One recording is changed on the device, a sum as it is made."""
        if not parts:
            return np.zeros((self.n_channels, self.count), np.int16), gains[0], False
        if len(parts) == 1:
            sound, scale = _narrow(parts[0].read(start, self.count))
            return sound, gains[0] * scale, bool(swaps[0]) and self.n_channels == 2
        total = np.zeros((self.n_channels, self.count), np.float32)
        for recording, gain, swap in zip(parts, gains, swaps, strict=False):
            sound = recording.read(start, self.count)
            total += gain * (sound[::-1] if swap else sound)
        sound, scale = _narrow(total)
        return sound, scale, False


def _narrow(sound: np.ndarray) -> tuple[Int16[np.ndarray, "channel time"], np.float32]:
    """Samples of any size as 16-bit ones, and the power of two that they are to be multiplied by."""
    if sound.dtype == np.int16:
        return sound, np.float32(1)
    peak = float(np.abs(sound).max(initial=0))
    scale = 2.0 ** max(0, np.ceil(np.log2(max(peak, 1.0) / 32767)))
    return np.rint(sound / np.float32(scale)).astype(np.int16), np.float32(scale)
