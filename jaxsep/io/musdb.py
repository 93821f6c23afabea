"""Folders of songs with their stems: MUSDB18-HQ, MUSDB18, and any folder of folders of stems.

A track is a folder that holds sound files, one a stem (MUSDB18-HQ and what `jaxsep separate` writes), or one
`.stem.mp4` file (MUSDB18). Stems are known by name, never by the order in which the disk lists them.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from jaxsep.io import audio
from jaxsep.io.formats import INPUT_EXTENSIONS
from jaxsep.io.resampling import Resampler
from jaxsep.io.stemfile import load_streams

__all__ = [
    "MIXTURE",
    "STEMS",
    "STREAMS",
    "SUBSETS",
    "VALIDATION_TRACKS",
    "Track",
    "find_tracks",
    "load_stems",
]

STEMS = ("vocals", "drums", "bass", "other")
MIXTURE = "mixture"
SUBSETS = ("train", "valid", "test")

_STEM_FILE = ".stem.mp4"
STREAMS = (MIXTURE, "drums", "bass", "other", "vocals")
"""The order inside a stem file."""

VALIDATION_TRACKS = frozenset((
    "ANiMAL - Rockshow",
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
))  # fmt: skip
"""The 14 songs of MUSDB18's train folder that everyone keeps for validation."""


@dataclass(frozen=True)
class Track:
    """One song and where its stems are.

    Attributes:
        name: its path below the root, without the subset: usually "Artist - Title".
        subset: "train", "valid" or "test"; "" in folders that know no subsets.
        files: the file of each stem; in a stem file it is the same for all.
    """

    name: str
    subset: str
    files: Mapping[str, Path] = field(hash=False)

    @property
    def stems(self) -> tuple[str, ...]:
        """Its stems without the mixture, the usual four first and in their usual order."""
        known = [stem for stem in STEMS if stem in self.files]
        return (*known, *sorted(set(self.files) - {*known, MIXTURE}))

    @property
    def is_stem_file(self) -> bool:
        """Whether all stems are streams of one file."""
        return any(path.name.lower().endswith(_STEM_FILE) for path in self.files.values())


def find_tracks(root: str | os.PathLike[str], *, subset: str | None = None) -> list[Track]:
    """The tracks in a folder and below, in the order of their names.

    Args:
        root: a folder of tracks, with or without folders `train`, `valid` and `test`; or one track's own folder.
        subset: "train" (without the validation tracks), "valid" or "test"; None for all there are.

    Raises:
        ValueError: no such folder, no track in it (or in the subset), two files for one stem, or two tracks of
            one name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for stem in ("mixture", "vocals", "drums"):
        ...         path = Path(root) / "test" / "A song" / f"{stem}.wav"
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         audio.save(path, np.zeros((2, 8), np.float32), 44100)
        ...     [(track.name, track.subset, track.stems) for track in find_tracks(root)]
        [('A song', 'test', ('vocals', 'drums'))]
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"{root}: expected a folder of tracks, got {'a file' if root.exists() else 'nothing there'}"
        )
    if subset is not None and subset not in SUBSETS:
        raise ValueError(f"subset: expected one of {', '.join(SUBSETS)}; got {subset!r}")
    folders: dict[Path, dict[str, Path]] = {}
    for path in sorted(_sound_files(root)):
        relative = path.relative_to(root)
        if path.name.lower().endswith(_STEM_FILE):
            folder = relative.parent / path.name[: -len(_STEM_FILE)]
            if folder in folders:
                other = next(iter(folders[folder].values()))
                raise ValueError(f"{path}: expected tracks of different names, got {other} too")
            folders[folder] = dict.fromkeys(STREAMS, path)
            continue
        stems = folders.setdefault(relative.parent, {})
        if path.stem in stems:
            raise ValueError(f"{path}: expected one file a stem, got {stems[path.stem].name} too")
        stems[path.stem] = path
    tracks = [_track(root, folder, files) for folder, files in folders.items()]
    chosen = [track for track in tracks if subset is None or track.subset == subset]
    if not chosen:
        where = f" in the subset {subset}" if tracks else ""
        raise ValueError(f"{root}: expected folders of stems or {_STEM_FILE} files, got none{where}")
    named: dict[str, Track] = {}
    for track in chosen:
        if named.setdefault(track.name, track) is not track:
            first, second = (next(iter(one.files.values())) for one in (named[track.name], track))
            raise ValueError(f"{second}: expected tracks of different names, got {first} too")
    return sorted(chosen, key=lambda track: (track.subset, track.name))


def load_stems(
    track: Track, stems: Iterable[str] | None = None, *, sample_rate: float | None = None
) -> tuple[dict[str, Float32[np.ndarray, "channel time"]], float]:
    """Some stems of a track, and their sample rate.

    Args:
        track: the track.
        stems: names, "mixture" among them; None for all stems but the mixture.
        sample_rate: the rate wanted, in Hz; None keeps the first file's, to which the others are converted.

    Returns:
        The stems by name, full scale ±1, each as long as its file; and the rate.

    Raises:
        OSError: a file cannot be read.
        ValueError: the track has no such stem, or a file is no sound or holds NaN or infinity.
    """
    names = list(track.stems if stems is None else stems)
    unknown = [name for name in names if name not in track.files]
    if unknown or not names:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"{track.name}: expected stems among {', '.join(track.files)}; got {got}")
    if track.is_stem_file:
        path = next(iter(track.files.values()))
        streams, rate = load_streams(path)
        if len(streams) < len(STREAMS):
            raise ValueError(f"{path}: expected {len(STREAMS)} sound streams, got {len(streams)}")
        sounds = {name: streams[STREAMS.index(name)] for name in names}
        if sample_rate in (None, rate):
            return sounds, rate
        return {name: _resampled(sound, rate, sample_rate) for name, sound in sounds.items()}, sample_rate
    sounds = {}
    for name in names:
        sounds[name], sample_rate = audio.load(track.files[name], sample_rate=sample_rate)
    return sounds, sample_rate


def _resampled(sound: np.ndarray, rate_in: float, rate_out: float) -> Float32[np.ndarray, "channel time"]:
    resampler = Resampler(rate_in, rate_out, len(sound))
    return np.concatenate([resampler.process(sound), resampler.finish()], axis=1)


def _sound_files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in INPUT_EXTENSIONS and not hidden and path.is_file():
            yield path


def _track(root: Path, folder: Path, files: Mapping[str, Path]) -> Track:
    """The track, with its subset taken off its name."""
    parts = folder.parts or (root.resolve().name,)
    subset = parts[0] if len(parts) > 1 and parts[0] in SUBSETS else ""
    name = PurePosixPath(*parts[1:] if subset else parts).as_posix()
    if subset == "train" and name in VALIDATION_TRACKS:
        subset = "valid"
    return Track(name, subset, files)
