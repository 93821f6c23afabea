"""Sound files through libsndfile: WAV, FLAC, AIFF, Ogg Vorbis, Opus, MP3.

Only what the reader and the writer of `jaxsep.io.audio` need is here.
"""

import contextlib
import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32, Int16

from jaxsep.io.formats import AudioInfo, OutputFormat

__all__ = ["EXACT_SEEK", "SndfileSink", "blocks", "excerpt", "info"]

EXACT_SEEK = frozenset(("WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "AU", "CAF"))
"""Containers in which a seek is exact by construction.

Elsewhere a decoder must run up to the place, so that a part of a file is always the same part of the whole file's
samples.
"""

_BLOCK_FRAMES = 1 << 16
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports the largest integer for a FLAC stream of unknown length
_PCM_BITS = {"PCM_16": 16, "PCM_24": 24}
_SHORT_PCM = frozenset(("PCM_S8", "PCM_U8", "PCM_16"))


def info(path: Path) -> AudioInfo | None:
    """What the header of ``path`` says, or None where libsndfile cannot read such a file."""
    try:
        found = soundfile.info(str(path))
    except (soundfile.SoundFileError, TypeError):  # TypeError: python-soundfile's answer to ".raw"
        return None
    if found.frames >= _UNKNOWN_FRAMES:
        return None  # it cannot find its way in a stream of unknown length
    return AudioInfo(found.frames, found.samplerate, found.channels, found.format, found.subtype)


def blocks(path: Path, first: int) -> Iterator[Float32[np.ndarray, "channel _"]]:
    """The samples of ``path`` from the one with index ``first`` on, at the file's own rate."""
    try:
        with soundfile.SoundFile(str(path)) as file:
            if file.format in EXACT_SEEK:
                first -= file.seek(min(first, file.frames))
            while len(frames := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)):
                yield frames[first:].T
                first = max(0, first - len(frames))
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: damaged sound file ({_reason(error)})") from None


def excerpt(
    path: Path, first: int, count: int
) -> Int16[np.ndarray, "channel time"] | Float32[np.ndarray, "channel time"]:
    """Up to ``count`` samples of ``path`` from the one with index ``first`` on, at the file's own rate.

    Args:
        path: a file of one of the containers in `EXACT_SEEK`.
        first: at least 0.
        count: at least 0.

    Returns:
        int16 as it lies in a file of 16 bits or fewer, float32 with full scale ±1 out of any other.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            file.seek(min(first, file.frames))
            dtype = "int16" if file.subtype in _SHORT_PCM else "float32"
            return file.read(count, dtype=dtype, always_2d=True).T
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: damaged sound file ({_reason(error)})") from None


class SndfileSink:
    """Writes one file through libsndfile.

    Args:
        temporary: the file to write.
        path: the file's later name, for messages.
        chosen: its format.
        subtype: one of the format's subtypes.
        sample_rate: one of the format's rates, in Hz.
        channels: at least 1.
        frames: samples per channel to come, if known.
    """

    def __init__(
        self,
        temporary: Path,
        path: Path,
        chosen: OutputFormat,
        *,
        subtype: str,
        sample_rate: int,
        channels: int,
        frames: int | None,
    ) -> None:
        self._path = path
        self._bits = _PCM_BITS.get(subtype)
        # What the limits are about are formats without compression.
        self._frame_bytes = channels * (self._bits or 32) // 8
        container, self._room = chosen.container, chosen.max_bytes
        if container == "WAV" and frames is not None and frames * self._frame_bytes > self._room:
            container, self._room = "RF64", math.inf
        try:
            self._file = soundfile.SoundFile(
                str(temporary),
                "w",
                sample_rate,
                channels,
                subtype,
                format=container,
                compression_level=chosen.compression,
            )
        except soundfile.SoundFileError as error:
            raise ValueError(
                f"{path}: cannot hold {channels} channels at {sample_rate} Hz as {subtype} ({_reason(error)})"
            ) from None

    def write(self, block: Float32[np.ndarray, "channel time"]) -> None:
        """Appends a block."""
        self._room -= self._frame_bytes * block.shape[1]
        if self._room < 0:
            raise ValueError(f"{self._path}: expected no more sound than its format can count, got more")
        with self._os_errors():
            # libvorbis keeps a copy of what it is given on the stack: small portions.
            for begin in range(0, block.shape[1], _BLOCK_FRAMES):
                self._file.write(self._encode(block[:, begin : begin + _BLOCK_FRAMES].T))

    def close(self) -> None:
        """Writes what is left, the header too, and closes the file."""
        with self._os_errors():
            self._file.close()

    def abort(self) -> None:
        """Closes the file, whatever state it is in."""
        with contextlib.suppress(soundfile.SoundFileError):
            self._file.close()

    def _encode(self, frames: np.ndarray) -> np.ndarray:
        if self._bits is None:
            return np.ascontiguousarray(frames)
        # Rounded and clipped here: libsndfile cuts the lower bits off, which is an offset of half a step.
        full_scale = 1 << (self._bits - 1)
        steps = np.clip(np.rint(frames * np.float32(full_scale)), -full_scale, full_scale - 1)
        return np.ascontiguousarray(steps.astype(np.int32) << (32 - self._bits))

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.SoundFileError, AssertionError):  # python-soundfile asserts that all was written
            # libsndfile keeps the system's error number to itself; a full disk is by far the usual cause.
            raise OSError(errno.ENOSPC, "cannot write (is the disk full?)", str(self._path)) from None


def _reason(error: soundfile.SoundFileError) -> str:
    """The words of libsndfile, without the temporary file's name."""
    return getattr(error, "error_string", str(error)).rstrip(". ")
