"""What training reads, as NumPy arrays: batches of excerpts, and whole songs.

This is where pipelines, which know nothing of JAX, and training, which knows nothing of files, meet.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int32

__all__ = ["MIXTURE", "Batch", "BatchFunction", "Song"]

MIXTURE = "mixture"


class Batch(NamedTuple):
    """Excerpts of stems as they lie on disk, and what was drawn to change them.

    The changes are made where the step is computed: excerpt ``b`` of a batch has as its source ``s`` the sound
    ``gain[b, s] * stems[origin[b, s], s]``, with left and right exchanged where ``swap[b, s]``; its mixture is the sum
    over the sources.
    """

    stems: Int16[np.ndarray, "batch source channel time"]  # full scale 32768
    gain: Float32[np.ndarray, "batch source"]  # below 0 turns the sign, 0 silences
    swap: Bool[np.ndarray, "batch source"]  # for two channels
    origin: Int32[np.ndarray, "batch source"]  # excerpt that the stem is taken from
    weight: Float32[np.ndarray, "batch source"]  # in the loss of this source; 0: truth unknown


BatchFunction = Callable[[int, int], Batch]
"""``batches(seed, step)``: the batch of a step, and of the same step always the same one."""


class Song(Protocol):
    """A whole song, for validation and for statistics of mixtures."""

    @property
    def name(self) -> str:
        """What it is called."""

    def pieces(self, names: Sequence[str]) -> Iterator[Int16[np.ndarray, "name channel time"]]:
        """The song from its start to its end in pieces of any length, each time anew.

        Args:
            names: of sources, or `MIXTURE`: the mixture as it was released, which need not be the sum of the stems.
        """
