"""A sound file in, stem files out: rates, levels, names, and files that appear together or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.config import SeparationConfig
from jaxsep.io import audio
from jaxsep.io.formats import INPUT_EXTENSIONS, output_format
from jaxsep.io.resampling import Resampler, resample_blocks, resampled_length
from jaxsep.separation import Progress, Separator

__all__ = [
    "CLIP_POLICIES",
    "OutputConfig",
    "SeparatedFile",
    "Song",
    "find_songs",
    "output_stems",
    "separate_file",
    "stem_paths",
]

CLIP_POLICIES = ("rescale", "clamp", "none")

# What `rescale` brings the highest peak to: the largest 16-bit sample is this, not 1.
FULL_SCALE = 1.0 - 2.0**-15

SPOOL_BLOCK = 1 << 16  # samples at a time


@dataclass(frozen=True)
class OutputConfig:
    """Which stems to write, where, and how.

    Attributes:
        folder: where everything goes.
        template: the file's path below ``folder``, made of ``{track}``, ``{stem}`` and ``{ext}``.
        extension: of the files, without a dot; it chooses the format.
        subtype: "PCM_16", "PCM_24" or "FLOAT"; None for the format's default.
        clip: for peaks beyond full scale: ``rescale`` multiplies all stems of a song by one gain, ``clamp``
            cuts them off, ``none`` leaves them, which only floating-point files can hold.
        two_stems: write this stem and ``no_`` it, the sum of all others, instead of each alone.
        aggregate: write these sums of stems instead, by name.
        residual: the name under which the residual is written.
        overwrite: replace files that exist.
    """

    folder: str | os.PathLike[str] = "separated"
    template: str = "{track}/{stem}.{ext}"
    extension: str = "wav"
    subtype: str | None = None
    clip: str = "rescale"
    two_stems: str | None = None
    aggregate: Mapping[str, Sequence[str]] | None = None
    residual: str = "residual"
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail after a song's work."""
        if self.clip not in CLIP_POLICIES:
            raise ValueError(f"clip: expected one of {', '.join(CLIP_POLICIES)}; got {self.clip!r}")
        if self.two_stems and self.aggregate:
            raise ValueError("expected two_stems or aggregate, got both")
        _, subtype = output_format("." + self.extension, subtype=self.subtype)
        if self.clip == "none" and subtype != "FLOAT":
            raise ValueError(
                f"clip: expected 'none' only with subtype FLOAT (wav or aiff), which alone holds such peaks; "
                f"got {subtype}"
            )
        try:
            one, other = (self.template.format(track="t", stem=s, ext="e") for s in "ab")
        except (KeyError, IndexError, ValueError):
            one = other = ""
        if one == other:
            raise ValueError(
                f"template: expected {{stem}} and only {{track}}, {{stem}} and {{ext}}; got {self.template!r}"
            )


class SeparatedFile(NamedTuple):
    """What became of one song."""

    stems: dict[str, Path]
    duration: float  # seconds of audio
    gain: float  # what all stems were multiplied by to stay within full scale; 1 for most songs


class Song(NamedTuple):
    """A file to separate, and its name in the output."""

    path: Path
    track: str


def find_songs(inputs: Sequence[Path], *, skip: Path | None = None) -> list[Song]:
    """The files named, and all sound files in the folders named and below.

    A file's track is its name without the extension; in a folder, its path from there. Hidden files and
    whatever lies in ``skip`` are left out of folders. Where two songs would have one name, the later one
    keeps its extension.

    Raises:
        ValueError: a folder holds no sound file.
    """
    songs: list[Song] = []
    taken: set[str] = set()
    for path in inputs:
        found, root = [path], path.parent
        if path.is_dir() and path.suffix.lower() not in INPUT_EXTENSIONS:
            found, root = sorted(_sound_files(path, skip)), path
            if not found:
                raise ValueError(f"{path}: expected a folder with sound files, got none in it")
        for file in found:
            relative = file.relative_to(root)
            track = relative.with_suffix("").as_posix()
            if track in taken:
                track = relative.as_posix()
            taken.add(track)
            songs.append(Song(file, track))
    return songs


def _sound_files(folder: Path, skip: Path | None) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        skipped = skip is not None and path.resolve().is_relative_to(skip.resolve())
        if path.suffix.lower() in INPUT_EXTENSIONS and path.is_file() and not hidden and not skipped:
            yield path


def output_stems(names: Sequence[str], output: OutputConfig) -> dict[str, list[int]]:
    """The stems to write, each as the places in ``names`` of those that it sums.

    Raises:
        ValueError: a stem is asked for that is not among ``names``.

    Example:
        >>> output_stems(["vocals", "drums", "bass"], OutputConfig(two_stems="vocals"))
        {'vocals': [0], 'no_vocals': [1, 2]}
    """
    named = [output.residual if name == "residual" else name for name in names]
    wanted: Mapping[str, Sequence[str]] = {name: [name] for name in named}
    if output.two_stems:
        others = [name for name in named if name != output.two_stems]
        if not others:
            raise ValueError(f"two_stems: expected a model of several stems, got only {output.two_stems}")
        wanted = {output.two_stems: [output.two_stems], f"no_{output.two_stems}": others}
    elif output.aggregate:
        wanted = output.aggregate
    unknown = sorted({part for parts in wanted.values() for part in parts} - set(named))
    if unknown:
        raise ValueError(f"expected stems among {', '.join(named)}; got {', '.join(unknown)}")
    return {name: [named.index(part) for part in parts] for name, parts in wanted.items()}


def stem_paths(track: str, stems: Iterable[str], output: OutputConfig) -> dict[str, Path]:
    """Where the stems of a track go.

    Example:
        >>> stem_paths("song", ["bass"], OutputConfig())["bass"].as_posix()
        'separated/song/bass.wav'
    """
    folder = Path(output.folder)
    return {
        stem: folder / output.template.format(track=track, stem=stem, ext=output.extension) for stem in stems
    }


def separate_file(
    path: str | os.PathLike[str],
    separator: Separator,
    *,
    config: SeparationConfig | None = None,
    output: OutputConfig | None = None,
    track: str | None = None,
    start: float = 0.0,
    duration: float | None = None,
    progress: Progress | None = None,
) -> SeparatedFile:
    """Separate one file of any length; memory stays small (see :class:`jaxsep.config.SeparationConfig`).

    The stems have the file's own sample rate, number of channels and length. With ``consistency`` they also
    sum to it exactly: what lies above the nets' sample rate, and rounding, go to the stem ``other``, or to
    the last one where there is none.

    Args:
        path: a sound file.
        separator: the nets.
        config: how magnitudes become stems.
        output: which stems to write, where, and how.
        track: the song's name in the output, by default the file's without its extension.
        start: where to begin, in seconds.
        duration: how much to separate, in seconds; None for all.
        progress: called with the part of the work that is done.

    Returns:
        The files written.

    Raises:
        ValueError: the file is no sound, or a stem is asked for that the separator does not make.
        FileExistsError: a stem is there already and ``output.overwrite`` is off.
        OSError: a file cannot be read or written; the message names it.
    """
    config, output = config or SeparationConfig(), output or OutputConfig()
    names = separator.stem_names(config)
    sums = output_stems(names, output)
    paths = stem_paths(Path(path).stem if track is None else track, sums, output)
    for stem_path in paths.values():
        if stem_path.exists() and not output.overwrite:
            raise FileExistsError(f"{stem_path}: exists already")
    found = audio.info(path)
    output_format("." + output.extension, subtype=output.subtype, channels=found.channels)

    song = _Song(path, start, duration)
    rate, model_rate = found.sample_rate, separator.sample_rate
    with song.open() as reader:  # what cannot be read shows here, before any work
        expected = None if reader.frames is None else resampled_length(reader.frames, rate, model_rate)
    stems = separator.stream(
        lambda: resample_blocks(song.blocks(), rate, model_rate),
        n_channels=found.channels,
        config=config,
        n_samples=expected,
        progress=progress,
    )
    stems = _at_rate(stems, model_rate, rate, song)
    if config.consistency:
        rest = names.index("other") if "other" in names else len(names) - 1
        stems = _completed(stems, song.blocks(), rest)
    summed = (np.stack([piece[places].sum(axis=0) for places in sums.values()]) for piece in stems)
    with _folders({stem_path.parent for stem_path in paths.values()}):
        gain = _write(summed, list(paths.values()), rate, found.channels, output)
    return SeparatedFile(paths, song.length / rate, gain)


@contextlib.contextmanager
def _folders(folders: Iterable[Path]) -> Iterator[None]:
    """The folders made, parents too; where the work fails, those that are empty again removed."""
    wanted = {parent for folder in folders for parent in (folder, *folder.parents)}
    new = [folder for folder in sorted(wanted) if not folder.exists()]  # a parent sorts before its child
    for folder in new:
        folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in reversed(new):
            with contextlib.suppress(OSError):  # not empty: someone else's by now
                folder.rmdir()
        raise


class _Song:
    """A part of a sound file, at its own rate, to be read more than once."""

    def __init__(self, path: str | os.PathLike[str], start: float, duration: float | None) -> None:
        self._path, self._start, self._duration = path, start, duration
        self.length = 0  # samples, known when it has been read once: a header may be wrong

    def open(self) -> contextlib.AbstractContextManager[audio.AudioReader]:
        return audio.open_reader(self._path, start=self._start, duration=self._duration)

    def blocks(self) -> Iterator[np.ndarray]:
        length = 0
        with self.open() as reader:
            for block in reader:
                length += block.shape[1]
                yield block
        self.length = length


def _at_rate(
    stems: Iterable[np.ndarray], rate_in: float, rate_out: float, song: _Song
) -> Iterator[Float[np.ndarray, "source channel time"]]:
    """The stream at another rate, as long as the song."""
    resampler, shape = None, (0, 0)
    for piece in stems:
        shape = piece.shape[:2]
        resampler = resampler or Resampler(rate_in, rate_out, shape[0] * shape[1])
        yield resampler.process(piece.reshape(-1, piece.shape[-1])).reshape(*shape, -1)
    if resampler is not None:
        yield resampler.finish(song.length).reshape(*shape, -1)


def _completed(stems: Iterable[np.ndarray], mixture: Iterable[np.ndarray], rest: int) -> Iterator[np.ndarray]:
    """The stream with all that it lacks of the mixture in stem ``rest``."""
    mixture, held = iter(mixture), np.zeros((0, 0), np.float32)
    for piece in stems:
        n = piece.shape[-1]
        while held.shape[-1] < n:
            block = next(mixture)
            held = np.concatenate([held, block], axis=-1) if held.size else block
        piece = piece.copy()
        piece[rest] = held[:, :n] - np.delete(piece, rest, axis=0).sum(axis=0)
        held = held[:, n:]
        yield piece


def _write(
    stems: Iterable[Float[np.ndarray, "stem channel time"]],
    paths: Sequence[Path],
    rate: int,
    channels: int,
    output: OutputConfig,
) -> float:
    """Write the stream, one file a stem; the gain that it took to stay within full scale."""
    if output.clip == "clamp":
        stems = (np.clip(piece, -1.0, 1.0) for piece in stems)
    with contextlib.ExitStack() as stack:
        gain = 1.0
        if output.clip == "rescale":
            # One gain for all stems and the whole song is known at its end: until then they wait on disk.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".jaxsep-", dir=paths[0].parent))
            spool = Path(folder) / "stems"
            peak = _spool(stems, spool)
            gain = min(1.0, FULL_SCALE / peak) if peak > 0 else 1.0
            stems = (gain * piece for piece in _unspool(spool, (len(paths), channels)))
        writers = [
            stack.enter_context(audio.open_writer(path, rate, channels, subtype=output.subtype))
            for path in paths
        ]
        for piece in stems:
            for writer, stem in zip(writers, piece, strict=True):
                writer.write(stem)
    return gain


def _spool(stems: Iterable[np.ndarray], path: Path) -> float:
    """Write the stream to a file of plain numbers; its highest peak."""
    peak = 0.0
    try:
        with path.open("wb") as file:
            for piece in stems:
                peak = max(peak, float(np.max(np.abs(piece), initial=0.0)))
                file.write(np.ascontiguousarray(np.moveaxis(piece, -1, 0), np.float32))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent.parent)) from None
    return peak


def _unspool(path: Path, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    size = shape[0] * shape[1]
    with path.open("rb") as file:
        while (numbers := np.fromfile(file, np.float32, count=size * SPOOL_BLOCK)).size:
            yield np.moveaxis(numbers.reshape(-1, *shape), 0, -1)
