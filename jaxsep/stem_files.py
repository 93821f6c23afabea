"""A sound file in, stem files out: rates, levels, and files that appear together or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.config import SeparationConfig
from jaxsep.io import audio
from jaxsep.io.formats import output_format
from jaxsep.io.resampling import Resampler, resample_blocks, resampled_length
from jaxsep.output import OutputConfig, output_stems, stem_paths
from jaxsep.separation import Progress, StemSource

__all__ = ["SeparatedFile", "separate_file"]

# What `rescale` brings the highest peak to: the largest 16-bit sample is this, not 1.
FULL_SCALE = 1.0 - 2.0**-15

SPOOL_BLOCK = 1 << 16  # samples at a time


class SeparatedFile(NamedTuple):
    """What became of one song."""

    stems: dict[str, Path]
    duration: float  # seconds of audio
    gain: float  # what all stems were multiplied by to stay within full scale; 1 for most songs


def separate_file(
    path: str | os.PathLike[str],
    separator: StemSource,
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
        separator: what makes the stems: nets, or a method without weights such as
            :class:`jaxsep.factorised.Factorisation`.
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
        frames = reader.frames
    expected = None if frames is None else resampled_length(frames, rate, model_rate)
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
        gain = _write(summed, list(paths.values()), found._replace(frames=frames), output)
    return SeparatedFile(paths, song.length / rate, gain)


@contextlib.contextmanager
def _folders(folders: Iterable[Path]) -> Iterator[None]:
    """The folders made, parents too; where the work fails, those that are empty again removed."""
    wanted = {parent for folder in folders for parent in (folder, *folder.parents)}
    new = [folder for folder in sorted(wanted) if not folder.exists()]  # a parent sorts before its child
    try:
        for folder in new:
            folder.mkdir(exist_ok=True)
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
    mixture = iter(mixture)
    held = next(mixture)
    for piece in stems:
        n = piece.shape[-1]
        while held.shape[-1] < n:
            held = np.concatenate([held, next(mixture)], axis=-1)
        piece = piece.copy()
        piece[rest] = held[:, :n] - np.delete(piece, rest, axis=0).sum(axis=0)
        held = held[:, n:]
        yield piece


def _write(
    stems: Iterable[Float[np.ndarray, "stem channel time"]],
    paths: Sequence[Path],
    sound: audio.AudioInfo,
    output: OutputConfig,
) -> float:
    """Write the stream, one file a stem; the gain that it took to stay within full scale."""
    if output.clip == "clamp":
        stems = (np.clip(piece, -1.0, 1.0) for piece in stems)
    gain, frames = 1.0, sound.frames
    with tempfile.TemporaryDirectory(prefix=".jaxsep-", dir=paths[0].parent) as folder:
        if output.clip == "rescale":
            # One gain for all stems and the whole song is known at its end: until then they wait on disk.
            spool = Path(folder) / "stems"
            peak, frames = _spool(stems, spool)
            gain = min(1.0, FULL_SCALE / peak) if peak > 0 else 1.0
            stems = (gain * piece for piece in _unspool(spool, (len(paths), sound.channels)))
        parts = [Path(folder) / f"{number} {path.name}" for number, path in enumerate(paths)]
        with contextlib.ExitStack() as stack:
            sizes = {"subtype": output.subtype, "frames": frames}
            writers = [
                stack.enter_context(audio.open_writer(part, sound.sample_rate, sound.channels, **sizes))
                for part in parts
            ]
            for piece in stems:
                for writer, stem in zip(writers, piece, strict=True):
                    writer.write(stem)
        for part, path in zip(parts, paths, strict=True):  # all are whole: now they appear
            part.replace(path)
    return gain


def _spool(stems: Iterable[np.ndarray], path: Path) -> tuple[float, int]:
    """Write the stream to a file of plain numbers; its highest peak and its length."""
    peak, length = 0.0, 0
    with path.open("wb") as file:
        for piece in stems:
            peak = max(peak, float(np.max(np.abs(piece), initial=0.0)))
            length += piece.shape[-1]
            try:
                file.write(np.ascontiguousarray(np.moveaxis(piece, -1, 0), np.float32))
            except OSError as error:  # it does not say where
                raise OSError(error.errno, error.strerror, str(path.parent.parent)) from None
    return peak, length


def _unspool(path: Path, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    size = shape[0] * shape[1]
    with path.open("rb") as file:
        while (numbers := np.fromfile(file, np.float32, count=size * SPOOL_BLOCK)).size:
            yield np.moveaxis(numbers.reshape(-1, *shape), 0, -1)
