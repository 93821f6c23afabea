"""Sample rate conversion of a stream, with a length that is known beforehand."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import soxr
from jaxtyping import Float32

__all__ = ["Resampler", "resample_blocks", "resampled_length"]


def resampled_length(length: int, rate_in: float, rate_out: float) -> int:
    """Samples that ``length`` samples become: ``length * rate_out / rate_in``, halves rounded up.

    At least one if there is one to begin with, so that no sound vanishes.

    Example:
        >>> resampled_length(44100, 44100, 48000), resampled_length(1, 96000, 44100)
        (48000, 1)
    """
    exact = length * Fraction(rate_out) / Fraction(rate_in)
    return max(min(length, 1), math.floor(exact + Fraction(1, 2)))


class Resampler:
    """Converts a stream of blocks from one sample rate to another (soxr, high quality).

    Blocks may have any length. The output is aligned with the input: the filter's delay shows only as
    blocks that come later, never as an offset. The same rate on both sides passes the samples through.

    Args:
        rate_in: sample rate of what comes, in Hz.
        rate_out: sample rate of what goes, in Hz.
        channels: at least 1.

    Example:
        >>> resampler = Resampler(44100, 48000, channels=2)
        >>> block = np.zeros((2, 44100), np.float32)
        >>> head, tail = resampler.process(block), resampler.finish()
        >>> head.shape[1] + tail.shape[1]
        48000
    """

    def __init__(self, rate_in: float, rate_out: float, channels: int) -> None:
        for name, rate in (("rate_in", rate_in), ("rate_out", rate_out)):
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"{name}: expected a positive sample rate in Hz, got {rate}")
        if channels < 1:
            raise ValueError(f"channels: expected at least 1, got {channels}")
        self.rate_in = rate_in
        self.rate_out = rate_out
        self._channels = channels
        self._n_in = 0
        self._n_out = 0
        same = rate_in == rate_out
        self._stream = (
            None if same else soxr.ResampleStream(rate_in, rate_out, channels, dtype="float32", quality="HQ")
        )

    def process(self, block: Float32[np.ndarray, "channel time"]) -> Float32[np.ndarray, "channel time_out"]:
        """What can be said of the output after ``block``; often shorter than its share, even empty."""
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise ValueError(f"expected a block (channel={self._channels}, time), got shape {block.shape}")
        self._n_in += block.shape[1]
        return self._convert(block, last=False)

    def finish(self, length: int | None = None) -> Float32[np.ndarray, "channel time_out"]:
        """The rest of the output; the stream is over then.

        Args:
            length: samples that the whole output must have, `resampled_length` of the input by default.
                Where the input ends earlier it goes on as silence.
        """
        if length is None:
            length = resampled_length(self._n_in, self.rate_in, self.rate_out)
        if length < self._n_out:
            raise ValueError(f"length: expected at least the {self._n_out} samples already out, got {length}")
        # One output sample more than needed, for soxr may round the other way at a half.
        needed = math.ceil((length + 1) * Fraction(self.rate_in) / Fraction(self.rate_out))
        silence = np.zeros((self._channels, max(0, needed - self._n_in)), np.float32)
        missing = length - self._n_out
        return self._convert(silence, last=True)[:, :missing]

    def _convert(self, block: np.ndarray, *, last: bool) -> np.ndarray:
        if self._stream is not None:
            frames = np.ascontiguousarray(block.T, dtype=np.float32)
            block = self._stream.resample_chunk(frames, last=last).T
        self._n_out += block.shape[1]
        return block


def resample_blocks(
    blocks: Iterable[Float32[np.ndarray, "channel _"]], rate_in: float, rate_out: float
) -> Iterator[Float32[np.ndarray, "channel _"]]:
    """The stream ``blocks`` at another rate, in blocks of whatever length comes out."""
    resampler = None
    for block in blocks:
        resampler = resampler or Resampler(rate_in, rate_out, block.shape[0])
        yield resampler.process(block)
    if resampler is not None:
        yield resampler.finish()
