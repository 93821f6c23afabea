"""Sound files in and out, block by block: the only door to them.

Blocks are float32 ``(channel, time)`` with full scale at ±1. libsndfile reads and writes what it knows;
everything else goes through PyAV.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jaxsep.io import pyav, sndfile
from jaxsep.io.files import atomic_path
from jaxsep.io.formats import PYAV_EXTENSIONS, AudioInfo, output_format
from jaxsep.io.resampling import Resampler, resample_blocks, resampled_length

__all__ = [
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "info",
    "load",
    "open_reader",
    "open_writer",
    "save",
]


@dataclass(frozen=True)
class AudioReader:
    """The samples of one file, to be iterated once; made by `open_reader`."""

    info: AudioInfo  # of the file
    sample_rate: float  # of the blocks, Hz
    frames: int | None  # samples per channel to expect, as far as the header is right
    blocks: Iterator[Float32[np.ndarray, "channel time"]]

    @property
    def channels(self) -> int:
        """Channels of each block."""
        return self.info.channels

    def __iter__(self) -> Iterator[Float32[np.ndarray, "channel time"]]:
        return self.blocks


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """What the header of a sound file says, without decoding it.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it is a folder, empty, or no sound file.
    """
    path = Path(path)
    _check_is_file(path)
    found = None if path.suffix.lower() in PYAV_EXTENSIONS else sndfile.info(path)
    return found or pyav.info(path)


@contextmanager
def open_reader(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    duration: float | None = None,
    sample_rate: float | None = None,
    block_size: int = 1 << 16,
) -> Iterator[AudioReader]:
    """Opens a sound file for reading block by block; memory does not grow with the file.

    Args:
        path: any file that libsndfile knows, or PyAV where it is installed.
        start: where to begin, in seconds.
        duration: how much to read, in seconds; None reads to the end.
        sample_rate: rate to convert to, in Hz; None keeps the file's. ``n`` samples of the file become
            `jaxsep.io.resampling.resampled_length` of ``n``.
        block_size: samples per channel in each block but the last, which may be shorter.

    Yields:
        An `AudioReader`.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it is no sound file, is damaged, holds no samples after ``start``, or holds NaN or
            infinity (the last two where they are met).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "tone.wav"
        ...     save(path, 0.5 * np.ones((2, 100), np.float32), 8000)
        ...     with open_reader(path, block_size=64) as reader:
        ...         [block.shape for block in reader]
        [(2, 64), (2, 36)]
    """
    if not (math.isfinite(start) and start >= 0):
        raise ValueError(f"start: expected 0 or more seconds, got {start}")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration: expected more than 0 seconds, got {duration}")
    if block_size < 1:
        raise ValueError(f"block_size: expected at least 1 sample, got {block_size}")
    path = Path(path)
    found = info(path)
    rate = found.sample_rate if sample_rate is None else sample_rate
    first = round(start * found.sample_rate)
    count = None if duration is None else max(1, round(duration * found.sample_rate))

    frames = None
    if found.frames is not None:
        left = max(0, found.frames - first)
        frames = resampled_length(left if count is None else min(left, count), found.sample_rate, rate)

    with contextlib.closing(_decode(path, found.container, first)) as decoded:
        # A sound without samples is told here, not after the caller has set everything up.
        head = next(decoded, None)
        if head is None:
            held = "no samples" if not first else f"no samples after {start:g} s"
            raise ValueError(f"{path}: expected a sound file with samples, got {held}")
        samples = _finite(_take(itertools.chain([head], decoded), count), path, first, found.sample_rate)
        blocks = _rechunk(resample_blocks(samples, found.sample_rate, rate), block_size)
        yield AudioReader(found, rate, frames, blocks)


def load(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    duration: float | None = None,
    sample_rate: float | None = None,
) -> tuple[Float32[np.ndarray, "channel time"], float]:
    """A sound file, or a part of it, as one array and its sample rate; see `open_reader`."""
    with open_reader(path, start=start, duration=duration, sample_rate=sample_rate) as reader:
        return np.concatenate(list(reader), axis=1), reader.sample_rate


class AudioWriter:
    """Takes the samples of one file in blocks of any length; made by `open_writer`."""

    def __init__(
        self, sink: sndfile.SndfileSink | pyav.AacSink, resampler: Resampler, channels: int, path: Path
    ) -> None:
        self._sink = sink
        self._resampler = resampler
        self._channels = channels
        self._path = path
        self.file_rate = int(resampler.rate_out)
        """Sample rate of the file: another than asked for where the format does not know that one."""

    def write(self, block: Float32[np.ndarray, "channel time"]) -> None:
        """Appends a block; in the integer formats samples beyond ±1 become ±1."""
        if np.ndim(block) != 2 or block.shape[0] != self._channels:
            raise ValueError(
                f"{self._path}: expected a block (channel={self._channels}, time), got {np.shape(block)}"
            )
        if not np.isfinite(block).all():
            raise ValueError(f"{self._path}: expected finite samples to write, got NaN or infinity")
        self._pass_on(self._resampler.process(np.asarray(block, np.float32)))

    def _finish(self) -> None:
        self._pass_on(self._resampler.finish())
        self._sink.close()

    def _pass_on(self, block: np.ndarray) -> None:
        if block.shape[1]:  # a resampler at work on its first samples has none to give yet
            self._sink.write(block)


@contextmanager
def open_writer(
    path: str | os.PathLike[str],
    sample_rate: float,
    channels: int,
    *,
    subtype: str | None = None,
    frames: int | None = None,
) -> Iterator[AudioWriter]:
    """Opens a sound file for writing block by block; it appears when the block ends well, or not at all.

    The extension chooses the format: wav, flac, aiff, ogg, opus, mp3, and m4a or mp4 with PyAV. MP3, Opus
    and AAC know certain sample rates only; others are converted to the next one.

    Args:
        path: the file to write; an older one is replaced at the end.
        sample_rate: of the blocks, a whole number of Hz.
        channels: at least 1.
        subtype: "PCM_16", "PCM_24" or "FLOAT" where the format has them. PCM_16 by default, because every
            player reads it and its noise (-98 dB) lies far below what separation leaves.
        frames: samples per channel to come, if known. A WAV file beyond 4 GB needs the larger RF64 header,
            which is chosen at the start.

    Yields:
        An `AudioWriter`.

    Raises:
        ValueError: the format is unknown, or cannot hold such sound.
        OSError: the file cannot be written; the error names it.
    """
    path = Path(path)
    rate = int(sample_rate)
    if rate != sample_rate or rate < 1:
        raise ValueError(f"{path}: expected a sample rate that is a whole number of Hz, got {sample_rate}")
    chosen, subtype = output_format(path.suffix, subtype=subtype, channels=channels)
    resampler = Resampler(rate, chosen.file_rate(rate), channels)
    with atomic_path(path) as temporary:
        file_rate = int(resampler.rate_out)
        if chosen.container == "MP4":
            sink = pyav.AacSink(temporary, path, sample_rate=file_rate, channels=channels)
        else:
            sink = sndfile.SndfileSink(
                temporary,
                path,
                chosen,
                subtype=subtype,
                sample_rate=file_rate,
                channels=channels,
                frames=None if frames is None else resampled_length(frames, rate, file_rate),
            )
        try:
            writer = AudioWriter(sink, resampler, channels, path)
            yield writer
            writer._finish()
        except BaseException:
            sink.abort()
            raise


def save(
    path: str | os.PathLike[str],
    audio: Float32[np.ndarray, "channel time"],
    sample_rate: float,
    *,
    subtype: str | None = None,
) -> None:
    """Writes one array as a sound file; see `open_writer`."""
    audio = np.asarray(audio)
    if audio.ndim != 2:
        raise ValueError(f"{path}: expected audio (channel, time), got shape {audio.shape}")
    with open_writer(path, sample_rate, audio.shape[0], subtype=subtype, frames=audio.shape[1]) as writer:
        writer.write(audio)


def _check_is_file(path: Path) -> None:
    """A clear word about what is no file at all, before a decoder says something about its format."""
    if path.is_dir():
        raise ValueError(f"{path}: expected a sound file, got a folder")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a sound file, got a device or pipe")
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path}: expected a sound file, got an empty file")


def _decode(path: Path, container: str, first: int) -> Iterator[np.ndarray]:
    """The file's samples from ``first`` on, at its own rate; no block is empty."""
    sndfile_knows = container.isupper()  # WAV, FLAC, ...; FFmpeg's names are in lower case
    blocks = sndfile.blocks(path, first) if sndfile_knows else pyav.blocks(path, first)
    yield from (block for block in blocks if block.shape[1])


def _take(blocks: Iterable[np.ndarray], count: int | None) -> Iterator[np.ndarray]:
    """The first ``count`` samples of the stream, or all."""
    for block in blocks:
        yield block[:, :count]
        if count is not None:
            count -= block.shape[1]
            if count <= 0:
                return


def _finite(blocks: Iterable[np.ndarray], path: Path, first: int, rate: int) -> Iterator[np.ndarray]:
    """The stream itself; an error where a sample is no number, for it would spread over the whole song."""
    for block in blocks:
        finite = np.isfinite(block).all(axis=0)
        if not finite.all():
            second = (first + int(np.argmin(finite))) / rate
            raise ValueError(f"{path}: expected finite samples, got NaN or infinity at {second:.3f} s")
        first += block.shape[1]
        yield block


def _rechunk(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The stream in fresh, contiguous blocks of ``size`` samples; the last may be shorter."""
    chunk, filled = None, 0
    for block in blocks:
        while block.shape[1]:
            if chunk is None:
                chunk = np.empty((block.shape[0], size), np.float32)
            part = block[:, : size - filled]
            chunk[:, filled : filled + part.shape[1]] = part
            filled += part.shape[1]
            block = block[:, part.shape[1] :]
            if filled == size:
                yield chunk
                chunk, filled = None, 0
    if chunk is not None:
        yield np.ascontiguousarray(chunk[:, :filled])
