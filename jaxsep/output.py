"""Which songs to separate, which stems to write, and under which names."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

from jaxsep.io.formats import INPUT_EXTENSIONS, output_format

__all__ = [
    "CLIP_POLICIES",
    "OutputConfig",
    "Song",
    "check_distinct",
    "find_songs",
    "output_stems",
    "stem_paths",
]

CLIP_POLICIES = ("rescale", "clamp", "none")


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
            one, other = (self.template.format(track="t", stem=stem, ext="e") for stem in "ab")
        except (AttributeError, LookupError, TypeError, ValueError):
            one = other = ""
        if one == other or not one.endswith(".e"):
            raise ValueError(
                "template: expected a path with {stem} that ends in .{ext}, and nothing else in braces but "
                f"{{track}}; got {self.template!r}"
            )
        if Path(one).is_absolute() or ".." in Path(one).parts:
            raise ValueError(f"template: expected a path below the output folder, got {self.template!r}")
        for stem in (self.residual, *(self.aggregate or ())):
            if not stem or stem != Path(stem).name:
                raise ValueError(f"expected a stem's name that can name a file, got {stem!r}")


class Song(NamedTuple):
    """A file to separate, and its name in the output."""

    path: Path
    track: str


def find_songs(inputs: Sequence[Path], *, skip: Path | None = None) -> list[Song]:
    """The files named, and all sound files in the folders named and below.

    A file's track is its name without the extension; in a folder, its path from there. Hidden files and
    whatever lies in ``skip``, if that is below the folder, are left out. Where two songs would have one name
    the later one keeps its extension, and gets a number if that is taken too.

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
            names = chain(
                (relative.with_suffix("").as_posix(), relative.as_posix()),
                (f"{relative.as_posix()} {number}" for number in count(2)),
            )
            track = next(name for name in names if name not in taken)
            taken.add(track)
            songs.append(Song(file, track))
    return songs


def check_distinct(songs: Sequence[Song], stems: Iterable[str], output: OutputConfig) -> None:
    """Refuse a template under which two songs' stems would be one file.

    Raises:
        ValueError: they would.
    """
    owner: dict[Path, Song] = {}
    for song in songs:
        for path in stem_paths(song.track, stems, output).values():
            if path in owner:
                raise ValueError(
                    f"template: expected {{track}} in {output.template!r} for several songs; "
                    f"{owner[path].path} and {song.path} would both be {path}"
                )
            owner[path] = song


def _sound_files(folder: Path, skip: Path | None) -> Iterator[Path]:
    below = skip is not None and folder.resolve() in skip.resolve().parents
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        skipped = below and path.resolve().is_relative_to(skip.resolve())
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
    if len(set(named)) < len(named):
        raise ValueError(f"residual: expected a name beside {', '.join(named[:-1])}; got {output.residual!r}")
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
