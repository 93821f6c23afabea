"""Stem files: MP4 with one sound stream a stem (`.stem.mp4`), the form in which MUSDB18 comes.

PyAV is an extra. All streams are decoded in one pass over the file.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import DTypeLike

__all__ = ["load_streams", "stream_lengths"]

_FLOAT = np.dtype(np.float32)
_SAMPLE_FORMATS = {_FLOAT: "fltp", np.dtype(np.int16): "s16p"}  # FFmpeg's names


def stream_lengths(path: Path) -> tuple[list[int], float]:
    """Samples of each sound stream as the header tells them, and the sample rate in Hz; nothing is decoded.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: PyAV is missing, or the file is no stem file.
    """
    with _open(path) as (_, container):
        streams = container.streams.audio
        rate = _rate(path, streams)
        return [round((one.duration or 0) * one.time_base * rate) for one in streams], float(rate)


def load_streams(
    path: Path, *, dtype: DTypeLike = np.float32
) -> tuple[Shaped[np.ndarray, "stream channel time"], float]:
    """All sound streams of a file, and their sample rate.

    Args:
        path: an MP4 (or any container that PyAV reads) whose sound streams are alike.
        dtype: float32, full scale ±1; or int16, rounded and clipped, in half the memory.

    Returns:
        The streams in the order of the file, cut to the shortest; and the rate in Hz.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: PyAV is missing, the file has no sound, is damaged, or its streams differ in rate or
            channels.
    """
    with _open(path) as (av, container):
        streams = container.streams.audio
        rate = _rate(path, streams)
        return _decode(av, container, streams, np.dtype(dtype)), float(rate)


@contextmanager
def _open(path: Path) -> Iterator[tuple[ModuleType, Any]]:
    """PyAV and the opened file; what FFmpeg complains of meanwhile becomes a ValueError that names the file."""
    try:
        import av
    except ImportError:
        raise ValueError(
            f"{path}: expected PyAV to read stem files with: pip install 'jaxsep[formats]'"
        ) from None
    with path.open("rb"):  # a missing file is the system's error, with the system's words
        pass
    try:
        with av.open(str(path), format="mp4", metadata_errors="replace") as container:
            yield av, container
    except av.FFmpegError as error:
        raise ValueError(f"{path}: damaged stem file ({error.strerror})") from None


def _rate(path: Path, streams: Any) -> int:
    """The streams' sample rate; they must be alike."""
    kinds = {(stream.rate, stream.channels) for stream in streams}
    if len(kinds) != 1:
        raise ValueError(
            f"{path}: expected sound streams of one rate and number of channels, got {kinds or 'none'}"
        )
    return streams[0].rate


def _decode(
    av: ModuleType, container: Any, streams: Any, dtype: np.dtype = _FLOAT
) -> Shaped[np.ndarray, "stream channel time"]:
    """The streams' samples, without the silence that fills the last frame of the codec."""
    planar = {stream.index: av.AudioResampler(format=_SAMPLE_FORMATS[dtype]) for stream in streams}
    pieces: dict[int, list[np.ndarray]] = {stream.index: [] for stream in streams}
    ends: dict[int, float] = {}
    for packet in container.demux(streams):
        index, stream = packet.stream_index, packet.stream
        if packet.pts is not None:  # without a duration nothing tells what to trim
            end = packet.pts + packet.duration if packet.duration else math.inf
            ends[index] = max(ends.get(index, end), end)
        for frame in packet.decode():
            counts_samples = stream.time_base * stream.rate == 1 and frame.pts is not None
            extra = max(0, frame.pts + frame.samples - ends.get(index, math.inf)) if counts_samples else 0
            block = np.concatenate([part.to_ndarray() for part in planar[index].resample(frame)], axis=1)
            pieces[index].append(block[:, : max(0, block.shape[1] - extra)])
    length = min(sum(part.shape[1] for part in parts) for parts in pieces.values())
    if not length:
        raise ValueError(f"{container.name}: expected sound in every stream, got an empty one")
    sounds = None
    for number, parts in enumerate(pieces.values()):
        if sounds is None:
            sounds = np.empty((len(pieces), parts[0].shape[0], length), dtype)
        end = 0
        while parts:  # freed as they are copied: songs are long
            part = parts.pop(0)[:, : length - end]
            sounds[number, :, end : end + part.shape[1]] = part
            end += part.shape[1]
    return sounds
