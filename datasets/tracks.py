"""Songs as training sees them: their sources by name, read together, whole or in part."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int16

from datasets.recordings import Recording
from jaxsep.batches import MIXTURE

__all__ = ["Track", "check_lengths"]

_PIECE = 1 << 18  # samples in a piece of a whole song: about six seconds, some megabytes


@dataclass(frozen=True)
class Track:
    """One song; a `jaxsep.batches.Song`.

    Attributes:
        name: what it is called.
        stems: for each source that the song has its recordings, of which the source is the sum.
        n_channels: of every recording.
        mixture: the song as it was released; None: the sum of its sources.
        hidden: sources without a recording that may all the same sound in the one that holds the rest of the song.
    """

    name: str
    stems: Mapping[str, Sequence[Recording]]
    n_channels: int
    mixture: Recording | None = None
    hidden: frozenset[str] = frozenset()

    @cached_property
    def frames(self) -> int:
        """Samples a channel: those of its shortest recording."""
        recordings = [one for parts in self.stems.values() for one in parts]
        recordings += [] if self.mixture is None else [self.mixture]
        return min(one.frames for one in recordings)

    def pieces(self, names: Sequence[str]) -> Iterator[Int16[np.ndarray, "name channel time"]]:
        """The song from its start to its end; see `jaxsep.batches.Song`.

        A source that the song has no recording of is silent. Sums beyond full scale are clipped.
        """
        frames = self.frames
        for start in range(0, frames, _PIECE):
            count = min(_PIECE, frames - start)
            yield np.stack([self._piece(name, start, count) for name in names])

    def _piece(self, name: str, start: int, count: int) -> Int16[np.ndarray, "channel time"]:
        if name != MIXTURE:
            recordings = self.stems.get(name, ())
        elif self.mixture is not None:
            recordings = (self.mixture,)
        else:
            recordings = [one for parts in self.stems.values() for one in parts]
        total = np.zeros((self.n_channels, count), np.int32)
        for recording in recordings:
            total += recording.read(start, count)
        return np.clip(total, -32768, 32767).astype(np.int16)


def check_lengths(tracks: Sequence[Track], count: int, sample_rate: float) -> None:
    """Refuse tracks shorter than an excerpt.

    Raises:
        ValueError: the first one that is.
    """
    for track in tracks:
        if track.frames < count:
            raise ValueError(
                f"{track.name}: expected at least {count / sample_rate:g} s, the length of an excerpt (--seq-dur); "
                f"got {track.frames / sample_rate:.2f} s"
            )
