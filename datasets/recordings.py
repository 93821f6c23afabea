"""Sound of one stem, read anywhere: 16-bit samples at one rate and number of channels, whatever the file holds.

WAV, FLAC and their kin are read by seeking. In the other formats (MP3, Vorbis, AAC) a decoder that starts in the middle
does not give the same samples as one that comes from the start: AAC even fills bands with noise of its own. So such a
song is decoded once, whole, and kept in memory as long as there is room for it.
"""

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Int16, Int32

from jaxsep.io import audio, sndfile
from jaxsep.io.resampling import Resampler, resampled_length

__all__ = [
    "DecodedSongs",
    "Difference",
    "Format",
    "Recording",
    "SeekRecording",
    "SharedRecording",
    "open_file",
    "to_format",
]

_MARGIN = 2048  # samples at either end of an excerpt that feed the resampling filter, which is shorter
_SLACK = 0.1  # seconds by which a header may be wrong about what can be decoded


class Format(NamedTuple):
    """What every recording of a data set is delivered as."""

    sample_rate: int  # Hz
    n_channels: int  # 1 or 2


class Recording(Protocol):
    """The sound of one stem of one song."""

    @property
    def frames(self) -> int:
        """Samples a channel, at the rate of the data set."""

    def read(
        self, start: int, count: int
    ) -> Int16[np.ndarray, "channel count"] | Int32[np.ndarray, "channel count"]:
        """``count`` samples from ``start`` on; what lies before 0 or past the end is silent.

        Raises:
            OSError: the file is gone.
            ValueError: it is damaged; the message names it.
        """


class DecodedSongs:
    """Whole songs as 16-bit arrays, the least recently used of which go when there are too many.

    Threads that want the same song at once decode it once.

    Args:
        max_bytes: what the songs may take together; the newest stays in any case.

    Example:
        >>> songs = DecodedSongs(max_bytes=1 << 20)
        >>> songs.get("a", lambda: np.ones((1, 2, 5), np.int16)).shape
        (1, 2, 5)
        >>> songs.get("a", lambda: 1 / 0).shape
        (1, 2, 5)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._songs: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._busy: dict[Hashable, threading.Lock] = {}

    def get(
        self, key: Hashable, decode: Callable[[], Int16[np.ndarray, "stem channel time"]]
    ) -> Int16[np.ndarray, "stem channel time"]:
        """The song called ``key``, decoded if it is not at hand."""
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                if key in self._songs:
                    self._songs.move_to_end(key)
                    return self._songs[key]
            song = decode()
            song.setflags(write=False)
            with self._lock:
                self._busy.pop(key, None)  # whoever waits has it in hand
                self._songs[key] = song
                while len(self._songs) > 1 and self._n_bytes() > self._max_bytes:
                    self._songs.popitem(last=False)
            return song

    def _n_bytes(self) -> int:
        return sum(song.nbytes for song in self._songs.values())


@dataclass(frozen=True)
class SharedRecording:
    """One stem of a song that is decoded or made as a whole.

    Attributes:
        songs: where the song is kept.
        key: what it is called there.
        decode: makes all its stems, when it is not there.
        index: which of them this is.
        n_stems: how many there are.
        frames: samples a channel, as the header tells.
        sample_rate: Hz, to judge how wrong the header may be.
    """

    songs: DecodedSongs = field(repr=False, compare=False)
    key: Hashable
    decode: Callable[[], Int16[np.ndarray, "stem channel time"]] = field(repr=False, compare=False)
    index: int
    n_stems: int
    frames: int
    sample_rate: int

    def read(self, start: int, count: int) -> Int16[np.ndarray, "channel count"]:
        """See `Recording.read`."""
        song = self.songs.get(self.key, self.decode)[self.index]
        if song.shape[1] < self.frames - _SLACK * self.sample_rate:
            raise ValueError(
                f"{self.key}: damaged sound file (expected {self.frames} samples, got {song.shape[1]})"
            )
        return _padded(
            lambda first, n: song[:, first : first + n], song.shape[0], song.shape[1], start, count
        )


@dataclass(frozen=True)
class SeekRecording:
    """A recording in which every place can be read at once.

    Attributes:
        excerpt: ``excerpt(start, count)`` gives so many samples, all of which there are, int16 or float32.
        file_rate: their rate, Hz.
        file_frames: how many there are.
        format: what to deliver.
    """

    excerpt: Callable[[int, int], np.ndarray]
    file_rate: int
    file_frames: int
    format: Format

    @property
    def frames(self) -> int:
        """Samples a channel, at the rate to deliver."""
        return resampled_length(self.file_frames, self.file_rate, self.format.sample_rate)

    def read(self, start: int, count: int) -> Int16[np.ndarray, "channel count"]:
        """See `Recording.read`."""
        return _padded(self._read, self.format.n_channels, self.frames, start, count)

    def _read(self, start: int, count: int) -> Int16[np.ndarray, "channel count"]:
        rate_in, rate_out = self.file_rate, self.format.sample_rate
        if rate_in == rate_out:
            return to_format(self.excerpt(start, count), self.format)
        # Input and output samples coincide every so many samples: only from there on is the output that of the
        # whole file, and the margins give the filter what it hears in the whole file.
        ratio = Fraction(rate_in, rate_out)
        cycle_in, cycle_out = ratio.numerator, ratio.denominator
        cycles = max(0, start // cycle_out - math.ceil(_MARGIN / cycle_in))
        first = cycles * cycle_in
        last = min(self.file_frames, math.ceil((start + count) * ratio) + _MARGIN)
        sound = _floats(self.excerpt(first, last - first))
        resampler = Resampler(rate_in, rate_out, len(sound))
        sound = np.concatenate([resampler.process(sound), resampler.finish()], axis=1)
        offset = start - cycles * cycle_out
        return to_format(sound[:, offset : offset + count], self.format)


@dataclass(frozen=True)
class Difference:
    """What a mixture holds beside one source: the mixture minus the source, up to twice full scale."""

    mixture: Recording
    source: Recording

    @property
    def frames(self) -> int:
        """Samples a channel: those of the shorter one."""
        return min(self.mixture.frames, self.source.frames)

    def read(self, start: int, count: int) -> Int32[np.ndarray, "channel count"]:
        """See `Recording.read`."""
        return self.mixture.read(start, count).astype(np.int32) - self.source.read(start, count)


def open_file(path: str | os.PathLike[str], format: Format, songs: DecodedSongs) -> Recording:
    """The recording in a file that holds one stem.

    Args:
        path: any sound file.
        format: what to deliver. Mono is doubled for two channels, channels are averaged for one, and of more than
            two the first two are taken.
        songs: keeps what must be decoded whole.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it is no sound file.
    """
    path = Path(path)
    info = audio.info(path)
    if info.container in sndfile.EXACT_SEEK and info.frames is not None:
        return SeekRecording(partial(_file_excerpt, path), info.sample_rate, info.frames, format)

    def decode() -> np.ndarray:
        sound, _ = audio.load(path, sample_rate=format.sample_rate)
        return to_format(sound, format)[None]

    if info.frames is None:  # nothing but decoding tells
        frames = songs.get(path, decode).shape[-1]
    else:
        frames = resampled_length(info.frames, info.sample_rate, format.sample_rate)
    return SharedRecording(songs, path, decode, 0, 1, frames, format.sample_rate)


def _file_excerpt(path: Path, start: int, count: int) -> np.ndarray:
    sound = sndfile.excerpt(path, start, count)
    if sound.shape[1] < count:
        raise ValueError(
            f"{path}: damaged sound file (expected {count} samples after {start}, got {sound.shape[1]})"
        )
    if sound.dtype == np.float32 and not np.isfinite(sound).all():
        raise ValueError(f"{path}: expected finite samples, got NaN or infinity")
    return sound


def to_format(
    sound: Int16[np.ndarray, "channel time"] | Float32[np.ndarray, "channel time"], format: Format
) -> Int16[np.ndarray, "channel_out time"]:
    """Sound as 16-bit samples of the channels asked for; floats have full scale ±1 and are clipped there.

    Example:
        >>> to_format(np.array([[0.5, -2.0]], np.float32), Format(44100, 2)).tolist()
        [[16384, -32768], [16384, -32768]]
    """
    if sound.shape[0] != format.n_channels:
        if format.n_channels == 1:
            sound = _floats(sound).mean(axis=0, keepdims=True)
        elif sound.shape[0] == 1:
            sound = np.repeat(sound, format.n_channels, axis=0)
        sound = sound[: format.n_channels]
    if sound.dtype == np.int16:
        return sound
    return np.clip(np.rint(sound * np.float32(32768)), -32768, 32767).astype(np.int16)


def _floats(sound: np.ndarray) -> Float32[np.ndarray, "channel time"]:
    return sound if sound.dtype == np.float32 else sound.astype(np.float32) / np.float32(32768)


def _padded(
    read: Callable[[int, int], np.ndarray], channels: int, frames: int, start: int, count: int
) -> Int16[np.ndarray, "channel count"]:
    """What ``read(first, n)`` gives within 0 to ``frames``, silence around it."""
    first, last = max(0, start), min(frames, start + count)
    if (first, last) == (start, start + count):
        return read(first, count)
    out = np.zeros((channels, count), np.int16)
    if first < last:
        out[:, first - start : last - start] = read(first, last - first)
    return out
