"""The formats of sound files: by which names they go, what they can hold, what a header says."""

import math
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "INPUT_EXTENSIONS",
    "OUTPUT_FORMATS",
    "PYAV_EXTENSIONS",
    "AudioInfo",
    "OutputFormat",
    "output_format",
]

# fmt: off
PYAV_EXTENSIONS = frozenset((
    ".3gp", ".aac", ".ac3", ".amr", ".avi", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".ts", ".webm", ".wma", ".wmv",
))
"""Lower-case extensions of files that only PyAV can read."""

INPUT_EXTENSIONS = PYAV_EXTENSIONS.union((
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".w64", ".wav", ".wave",
))
"""Lower-case extensions by which sound files in a folder are recognised; any other file may be tried."""
# fmt: on


class AudioInfo(NamedTuple):
    """What a sound file's header says."""

    frames: int | None  # samples per channel; None where the header is silent. Decoding has the last word.
    sample_rate: int  # Hz
    channels: int
    container: str  # "WAV", "FLAC", "OGG", "matroska,webm", ...
    codec: str  # "PCM_16", "FLOAT", "VORBIS", "aac", ...

    @property
    def duration(self) -> float | None:
        """Seconds, or None where the header does not say."""
        return None if self.frames is None else self.frames / self.sample_rate


_GIGABYTE = 1 << 30
_HEADER = 1 << 16  # bytes kept free for everything in a file that is not a sample


@dataclass(frozen=True)
class OutputFormat:
    """What one format can hold, and how it is written."""

    container: str  # libsndfile's name, or "MP4"
    subtypes: tuple[str, ...]  # the first is the default
    max_channels: int
    rates: tuple[int, ...] = ()  # Hz, rising; empty for any
    max_bytes: float = math.inf  # of sample data
    compression: float | None = None  # libsndfile's scale, 0 is the best sound and 1 the smallest file

    def file_rate(self, rate: int) -> int:
        """The sample rate to write: ``rate``, or the next higher that the format knows, or its highest."""
        if not self.rates:
            return rate
        return next((known for known in self.rates if known >= rate), self.rates[-1])


_PCM = ("PCM_16", "PCM_24", "FLOAT")
_WAV = OutputFormat("WAV", _PCM, 1024, max_bytes=4 * _GIGABYTE - _HEADER)
# AIFF counts bytes in signed 32-bit numbers.
_AIFF = OutputFormat("AIFF", _PCM, 1024, max_bytes=2 * _GIGABYTE - _HEADER)
_VORBIS = OutputFormat("OGG", ("VORBIS",), 255, compression=0.2)  # about 280 kbit/s stereo
_MP4 = OutputFormat(
    "MP4",
    ("AAC",),
    5,
    (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
)

OUTPUT_FORMATS: dict[str, OutputFormat] = {
    ".wav": _WAV,
    ".flac": OutputFormat("FLAC", ("PCM_16", "PCM_24"), 8),
    ".aiff": _AIFF,
    ".aif": _AIFF,
    ".ogg": _VORBIS,
    ".oga": _VORBIS,
    ".opus": OutputFormat("OGG", ("OPUS",), 255, (8000, 12000, 16000, 24000, 48000), compression=0.6),
    ".mp3": OutputFormat(
        "MP3",
        ("MPEG_LAYER_III",),
        2,
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        compression=0.0,  # LAME's best variable bit rate, about 250 kbit/s stereo
    ),
    ".m4a": _MP4,
    ".mp4": _MP4,
}
"""The formats that can be written, by lower-case extension."""


def output_format(
    extension: str, *, subtype: str | None = None, channels: int = 1
) -> tuple[OutputFormat, str]:
    """The format and subtype for files with ``extension``, checked before any work is done.

    Args:
        extension: with its dot, in any case.
        subtype: name of a sample format, or None for the format's default.
        channels: at least 1.

    Raises:
        ValueError: unknown extension, or a subtype or channel count that the format cannot hold.

    Example:
        >>> output_format(".flac", channels=2)[1]
        'PCM_16'
    """
    chosen = OUTPUT_FORMATS.get(extension.lower())
    if chosen is None:
        raise ValueError(f"expected one of the extensions {', '.join(OUTPUT_FORMATS)}; got {extension!r}")
    if subtype is not None and subtype not in chosen.subtypes:
        raise ValueError(f"{extension}: expected the subtype {' or '.join(chosen.subtypes)}, got {subtype!r}")
    if not 1 <= channels <= chosen.max_channels:
        raise ValueError(
            f"{extension}: expected 1 to {chosen.max_channels} channels, got {channels}; wav holds any number"
        )
    return chosen, subtype or chosen.subtypes[0]
