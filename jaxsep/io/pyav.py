"""Sound in containers that libsndfile does not know: MP4, Matroska, WebM, the sound of videos (PyAV).

PyAV is an extra. Only what the reader and the writer of `jaxsep.io.audio` need is here.
"""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxsep.io.formats import AudioInfo

__all__ = ["AacSink", "blocks", "info"]

# Containers that hold their sound themselves. Play lists are left out on purpose: a text file that calls
# itself music must not make us open other files or the network.
_CONTAINERS = (
    "mov,matroska,aac,adts,avi,asf,flv,mpegts,mpeg,mpegvideo,ogg,mp3,wav,w64,flac,aiff,caf,ape,wv,tta,amr,"
    "ac3,eac3,dts,au"
)
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0"}
_AAC_BIT_RATE_PER_CHANNEL = 128_000  # transparent for most ears


def info(path: Path) -> AudioInfo:
    """What the header of ``path`` says about its first sound stream.

    Raises:
        ValueError: PyAV is missing, or the file has no sound that FFmpeg understands.
    """
    with _open(path) as container:
        return _describe(path, container)


def blocks(path: Path, first: int) -> Iterator[Float32[np.ndarray, "channel _"]]:
    """The first sound stream of ``path`` from the sample with index ``first`` on, at its own rate."""
    av = _av(path)
    with _open(path) as container:
        _describe(path, container)
        stream = container.streams.audio[0]
        counts_samples = stream.time_base * stream.rate == 1
        planar = av.AudioResampler(format="fltp")
        end = 0
        try:
            for packet in container.demux(stream):
                if packet.pts is not None and packet.duration:
                    end = max(end, packet.pts + packet.duration)
                for frame in packet.decode():
                    # Decoders fill the last codec frame with silence; its packet knows how much is sound.
                    extra = frame.pts + frame.samples - end if counts_samples and frame.pts is not None else 0
                    block = np.concatenate([part.to_ndarray() for part in planar.resample(frame)], axis=1)
                    block = block[:, : block.shape[1] - max(0, extra)]
                    yield block[:, first:]
                    first = max(0, first - block.shape[1])
        except (av.FFmpegError, ValueError) as error:  # ValueError: the rate or layout changes on the way
            raise ValueError(f"{path}: damaged sound ({error})") from None


class AacSink:
    """Writes AAC in an MP4 container.

    Args:
        temporary: the file to write.
        path: the file's later name, for messages.
        sample_rate: one of the rates AAC knows, in Hz.
        channels: 1 to 5; with a sixth AAC would take one for a bass channel and cut its treble.
    """

    def __init__(self, temporary: Path, path: Path, *, sample_rate: int, channels: int) -> None:
        self._av = _av(path)
        self._path = path
        self._rate = sample_rate
        self._layout = _LAYOUTS[channels]
        self._written = 0
        # Opened for us, so that a full disk is an OSError with its own number.
        self._file = temporary.open("wb")
        # Times in samples: in the usual milliseconds the end of the sound would be rounded away.
        self._container = self._av.open(
            self._file, "w", format="mp4", options={"movie_timescale": str(sample_rate)}
        )
        self._stream = self._container.add_stream("aac", rate=sample_rate, layout=self._layout)
        self._stream.bit_rate = _AAC_BIT_RATE_PER_CHANNEL * channels

    def write(self, block: Float32[np.ndarray, "channel time"]) -> None:
        """Appends a block."""
        frame = self._av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format="fltp", layout=self._layout
        )
        frame.sample_rate = self._rate
        frame.pts = self._written
        self._written += block.shape[1]
        self._mux(frame)

    def close(self) -> None:
        """Writes what is left, the header too, and closes the file."""
        self._mux(None)
        self._guarded(self._container.close)
        self._guarded(self._file.close)

    def abort(self) -> None:
        """Closes the file, whatever state it is in."""
        for thing in (self._container, self._file):
            with contextlib.suppress(self._av.FFmpegError, OSError):
                thing.close()

    def _mux(self, frame: Any) -> None:
        self._guarded(lambda: self._container.mux(self._stream.encode(frame)))

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (self._av.FFmpegError, OSError) as error:
            code = error.errno if 0 < (error.errno or 0) < 4096 else errno.EIO
            raise OSError(code, f"cannot write ({error.strerror})", str(self._path)) from None


def _av(path: Path) -> ModuleType:
    try:
        import av
    except ImportError:
        raise ValueError(
            f"{path}: expected a format that libsndfile knows, got another; PyAV reads and writes more: "
            "pip install 'jaxsep[formats]'"
        ) from None
    return av


def _open(path: Path) -> Any:
    av = _av(path)
    try:
        return av.open(str(path), options={"format_whitelist": _CONTAINERS}, metadata_errors="replace")
    except av.FFmpegError as error:
        raise ValueError(f"{path}: expected a sound file, got something else ({error.strerror})") from None


def _describe(path: Path, container: Any) -> AudioInfo:
    if not container.streams.audio:
        raise ValueError(f"{path}: expected a file with sound, got one without a sound stream")
    stream = container.streams.audio[0]
    if not stream.rate or not stream.channels:
        raise ValueError(f"{path}: expected a sound file, got one without a sample rate or channels")
    frames = None
    if stream.duration is not None:
        frames = round(stream.duration * stream.time_base * stream.rate)
    return AudioInfo(frames, stream.rate, stream.channels, container.format.name, stream.codec_context.name)
