"""Every data set by name, as batches and whole songs. No TensorFlow unless `open_batches` or "tfds" asks for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int16

from datasets import layouts, pipeline
from datasets.chunks import ChunkBatches
from datasets.draws import Plan, check_augmentations
from datasets.generated import WINDOW, SyntheticSongs
from datasets.layouts import Layout
from datasets.musdb import musdb_layout
from datasets.options import DatasetOptions
from datasets.preview import fetch_preview
from datasets.recordings import DecodedSongs
from datasets.records import records_layout
from datasets.synthetic import STEMS
from datasets.tracks import Track, check_lengths
from jaxsep.batches import MIXTURE, BatchFunction, Song

__all__ = ["NAMES", "Dataset", "DatasetOptions", "open_batches", "open_dataset"]

NAMES = ("musdb", "tfds", "aligned", "sourcefolder", "trackfolder_var", "trackfolder_fix", "synthetic")
"""What `open_dataset` knows."""

_SEED = 42  # of what is drawn once, whatever the seed of the training; that of most trainings, too


class Dataset(NamedTuple):
    """What training needs to know of a data set."""

    sources: tuple[str, ...]  # along the source axis of every batch; the mixture is their sum
    batches: BatchFunction  # plain NumPy
    n_samples: int  # excerpts an epoch
    training_songs: Sequence[Song]  # for statistics
    validation_songs: Sequence[Song]
    description: dict[str, Any]  # for JSON: what identifies the data


def open_dataset(
    name: str, root: Path | None, *, targets: Sequence[str], options: DatasetOptions | None = None
) -> Dataset:
    """Open a data set; every file's header is read, no sound yet.

    Args:
        name: one of `NAMES`; docs/data.md shows how each lies on disk.
        root: its folder. "synthetic" has none; "musdb" without one downloads the preview of seven seconds a song.
        targets: the sources that will be learnt, in trackfolder_var and trackfolder_fix called like their files
            without the extension; for aligned any one name.
        options: choices.

    Returns:
        The data set.

    Raises:
        ConnectionError: the preview cannot be downloaded.
        OSError: a file may not be read.
        ValueError: no such data set, folder or target; a track shorter than an excerpt; a file that is no sound.

    Example:
        >>> options = DatasetOptions(seconds=0.25, batch_size=2, sample_rate=8000)
        >>> dataset = open_dataset("synthetic", None, targets=["bass"], options=options)
        >>> dataset.sources, dataset.batches(0, 3).stems.shape
        (('vocals', 'drums', 'bass', 'other'), (2, 4, 2, 2000))
    """
    options = options or DatasetOptions()
    if name not in NAMES:
        raise ValueError(f"dataset: expected one of {', '.join(NAMES)}; got {name!r}")
    if not targets:
        raise ValueError("targets: expected at least one source to learn, got none")
    if name == "synthetic":
        return _synthetic(options, _known(targets, STEMS))
    layout, root = _layout(name, root, tuple(targets), options)
    _known(targets, layout.sources)
    if not layout.drawn:
        check_lengths(layout.training, options.count, options.sample_rate)
    batches = _batches(layout, options)
    each = options.samples_per_track or layout.samples_per_track
    training, validation, n_samples = layout.training, layout.validation, each * len(layout.training)
    if layout.drawn:
        training = _draw(layout, layout.training, options, options.n_train_samples)
        validation = _draw(layout, layout.validation, options, options.n_valid_samples)
        n_samples = options.n_train_samples
    description = _description(name, root, batches, options) | {
        "training_tracks": [track.name for track in layout.training],
        "validation_tracks": [track.name for track in layout.validation],
    }
    return Dataset(layout.sources, batches, n_samples, training, validation, description)


def open_batches(dataset: Dataset, *, workers: int | None = None, ahead: int = 2) -> BatchFunction:
    """The batches of a data set, read ahead and in parallel by tf.data; see `datasets.pipeline.open_batches`."""
    return pipeline.open_batches(dataset.batches, workers=workers, ahead=ahead)


def _layout(
    name: str, root: Path | None, targets: tuple[str, ...], options: DatasetOptions
) -> tuple[Layout, Path]:
    if root is None and name == "musdb":
        root = fetch_preview()
    if root is None:
        raise ValueError(f"root: expected the folder of the data set {name}, got none")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root}: expected a folder, got {'a file' if root.exists() else 'nothing there'}")
    if name == "musdb":
        return musdb_layout(root, options, targets), root
    if name == "tfds":
        return records_layout(root, options, targets), root
    if name == "aligned":
        if len(targets) > 1:
            raise ValueError(f"targets: expected one for aligned, got {', '.join(targets)}")
        return layouts.aligned(root, options, targets[0]), root
    kinds: dict[str, Callable[[Path, DatasetOptions], Layout]] = {
        "sourcefolder": layouts.source_folder,
        "trackfolder_fix": layouts.track_folder_fix,
        "trackfolder_var": layouts.track_folder_var,
    }
    return kinds[name](root, options), root


def _known(targets: Sequence[str], sources: Sequence[str]) -> Sequence[str]:
    unknown = [target for target in targets if target not in sources]
    if unknown:
        raise ValueError(f"targets: expected names among {', '.join(sources)}; got {unknown[0]!r}")
    return targets


def _batches(layout: Layout, options: DatasetOptions) -> ChunkBatches:
    wanted = layout.augmentations if options.augmentations is None else options.augmentations
    return ChunkBatches(
        lambda seed, step: layout.training,
        layout.sources,
        options.n_channels,
        options.count,
        options.batch_size,
        options.part,
        mix=layout.mix,
        augmentations=check_augmentations(wanted),
        rest_without=layout.rest_without,
        rest=layout.rest,
    )


def _synthetic(options: DatasetOptions, targets: Sequence[str]) -> Dataset:
    """Songs twice as long as an excerpt, so that there are places to choose from."""
    wanted = ("gain", "channelswap") if options.augmentations is None else options.augmentations
    seconds = max(12.0, 2 * options.seconds)
    songs = SyntheticSongs(options.format, seconds, DecodedSongs(options.decoded_bytes))
    batches = ChunkBatches(
        songs.tracks,
        STEMS,
        options.n_channels,
        options.count,
        options.batch_size,
        options.part,
        augmentations=check_augmentations(wanted),
    )
    n_samples = WINDOW * (options.samples_per_track or 64)
    validation = songs.held_out(WINDOW // 2)
    training = songs.tracks(_SEED, 0)  # rendered already, more often than not
    description = _description("synthetic", None, batches, options)
    return Dataset(STEMS, batches, n_samples, training, validation, description)


def _description(
    name: str, root: Path | None, batches: ChunkBatches, options: DatasetOptions
) -> dict[str, Any]:
    return {
        "dataset": name,
        "root": None if root is None else str(root),
        "sources": list(batches.sources),
        "seconds": options.seconds,
        "sample_rate": options.sample_rate,
        "n_channels": options.n_channels,
        "augmentations": list(batches.augmentations),
        "random_mix": batches.mix,
    }


@dataclass(frozen=True)
class _DrawnSong:
    """An excerpt drawn once, in the place of a song."""

    name: str
    batches: ChunkBatches
    plan: Plan
    row: int

    def pieces(self, names: Sequence[str]) -> Iterator[Int16[np.ndarray, "name channel time"]]:
        stems = self.batches.read(self.plan, self.row).stems
        whole = np.clip(stems.sum(axis=0, dtype=np.int32), -32768, 32767).astype(np.int16)
        sounds = dict(zip(self.batches.sources, stems, strict=True)) | {MIXTURE: whole}
        yield np.stack([sounds[name] for name in names])


def _draw(layout: Layout, tracks: Sequence[Track], options: DatasetOptions, count: int) -> Sequence[Song]:
    """So many excerpts as songs, without any change."""
    batches = ChunkBatches(
        lambda seed, step: tracks, layout.sources, options.n_channels, options.count, count, mix=layout.mix
    )
    plan = batches.plan(_SEED, 0)
    return [_DrawnSong(f"excerpt {row}", batches, plan, row) for row in range(count)]
