"""Folders that people keep their own sound in: the four layouts of Open-Unmix.

Each has folders ``train`` and ``valid`` below its root.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from datasets.options import DatasetOptions
from datasets.recordings import DecodedSongs, Difference, Recording, open_file
from datasets.tracks import Track
from jaxsep.batches import MIXTURE

__all__ = [
    "INTERFERERS",
    "REST",
    "Layout",
    "aligned",
    "source_folder",
    "track_folder_fix",
    "track_folder_var",
]

REST = "rest"
"""aligned: the source that is what the mixture holds beside the target."""

INTERFERERS = "interferers"
"""trackfolder_var: the source that is all files of a track but the target."""


class Layout(NamedTuple):
    """A data set before anything is drawn from it."""

    sources: tuple[str, ...]
    training: Sequence[Track]
    validation: Sequence[Track]
    mix: bool  # every source from a track and place of its own
    rest_without: bool = False  # see datasets.draws.draw_plan
    rest: str | None = None  # see datasets.chunks.ChunkBatches
    augmentations: tuple[str, ...] = ()  # unless others are asked for
    samples_per_track: int = 1  # likewise
    drawn: bool = (
        False  # no track is a song: validation is drawn too, and short sounds get a place in silence
    )


def aligned(root: Path, options: DatasetOptions, target: str) -> Layout:
    """A mixture and a target in each track's folder, which belong together.

    Args:
        root: holds ``train`` and ``valid``.
        options: choices.
        target: what to call the target: files that match a pattern have no name of their own.
    """
    if target in (REST, MIXTURE) or set(target) & set("*?[]/"):
        raise ValueError(f"targets: expected a name for what {options.output_file} is, got {target!r}")
    opened = _opener(options)

    def track(folder: Path) -> Track | None:
        files = [sorted(folder.glob(name)) for name in (options.input_file, options.output_file)]
        if not all(files):
            return None
        mixture, source = (opened(found[0]) for found in files)
        stems = {target: (source,), REST: (Difference(mixture, source),)}
        return Track(folder.name, stems, options.n_channels, mixture)

    wanted = f"{options.input_file} and {options.output_file}"
    return Layout((target, REST), *_both(root, track, wanted), mix=False)


def track_folder_fix(root: Path, options: DatasetOptions) -> Layout:
    """The same files, one a source, in each track's folder. Folders that lack one are left out."""
    files = (options.target_file, *options.interferer_files)
    sources = tuple(Path(name).stem for name in files)
    if len(set(sources)) < len(sources):
        raise ValueError(f"interferer_files: expected files of different names, got {', '.join(files)}")
    opened = _opener(options)

    def track(folder: Path) -> Track | None:
        if not all((folder / name).exists() for name in files):
            return None
        stems = {source: (opened(folder / name),) for source, name in zip(sources, files, strict=True)}
        return Track(folder.name, stems, options.n_channels)

    return Layout(sources, *_both(root, track, ", ".join(files)), mix=options.random_track_mix)


def track_folder_var(root: Path, options: DatasetOptions) -> Layout:
    """The target and any number of other files in each track's folder; a file named mixture is left alone."""
    target = Path(options.target_file).stem
    if target == INTERFERERS:
        raise ValueError(
            f"target_file: expected another name than {INTERFERERS}, got {options.target_file!r}"
        )
    opened = _opener(options)

    def track(folder: Path) -> Track | None:
        path = folder / options.target_file
        others = [file for file in _files(folder, options.ext) if file != path and file.stem != MIXTURE]
        if not path.exists() and not (options.silence_missing and others):
            return None
        stems: dict[str, Sequence[Recording]] = {}
        if path.exists():
            stems[target] = (opened(path),)
        if others:
            stems[INTERFERERS] = tuple(opened(file) for file in others)
        return Track(folder.name, stems, options.n_channels)

    wanted = f"{options.target_file} and other *{options.ext}"
    tracks = _both(root, track, wanted)
    mix = options.random_interferer_mix
    return Layout((target, INTERFERERS), *tracks, mix=mix, rest_without=options.silence_missing)


def source_folder(root: Path, options: DatasetOptions) -> Layout:
    """A folder of sounds for each source, which have nothing to do with one another."""
    sources = (options.target_dir, *options.interferer_dirs)
    if len(set(sources)) < len(sources):
        raise ValueError(f"interferer_dirs: expected folders of different names, got {', '.join(sources)}")
    opened = _opener(options)

    def tracks(split: str) -> list[Track]:
        found = []
        for source in sources:
            folder = root / split / source
            if not folder.is_dir():
                raise ValueError(f"{folder}: expected a folder of sounds, got nothing there")
            files = _files(folder, options.ext)
            if not files:
                raise ValueError(f"{folder}: expected *{options.ext} files, got none")
            found += [
                Track(f"{source}/{file.name}", {source: (opened(file),)}, options.n_channels)
                for file in files
            ]
        return found

    return Layout(sources, tracks("train"), tracks("valid"), mix=True, drawn=True)


def _opener(options: DatasetOptions) -> Callable[[Path], Recording]:
    return partial(open_file, format=options.format, songs=DecodedSongs(options.decoded_bytes))


def _both(
    root: Path, track: Callable[[Path], Track | None], wanted: str
) -> tuple[Sequence[Track], Sequence[Track]]:
    """The tracks of ``train`` and of ``valid``."""
    return _tracks(root / "train", track, wanted), _tracks(root / "valid", track, wanted)


def _tracks(folder: Path, track: Callable[[Path], Track | None], wanted: str) -> list[Track]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of tracks, got nothing there")
    folders = [one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    tracks = [found for found in map(track, folders) if found is not None]
    if not tracks:
        raise ValueError(
            f"{folder}: expected folders that hold {wanted}; got {len(folders)} folders, none of which does"
        )
    return tracks


def _files(folder: Path, ext: str) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.name.endswith(ext) and not file.name.startswith(".")
    )
