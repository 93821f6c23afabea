"""Prepared records of MUSDB18, read at any place."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int16

from datasets.layouts import Layout
from datasets.musdb import make_track, split_layout
from datasets.options import DatasetOptions
from datasets.recordings import Recording, SeekRecording
from datasets.tracks import Track

__all__ = ["records_layout"]


def records_layout(root: Path, options: DatasetOptions, targets: tuple[str, ...]) -> Layout:
    """What `datasets.musdb.musdb_layout` gives, out of records.

    Args:
        root: the folder that they were written to (``--data_dir``), or the one of a version below it.
        options: choices.
        targets: sources to learn.

    Raises:
        ValueError: TFDS is not installed, there are no records, or they are others.
    """
    tfds = _tfds()
    builder = tfds.builder_from_directory(str(_version_folder(root)))
    metadata = builder.info.metadata or {}
    if "record_samples" not in metadata:
        raise ValueError(f"{root}: expected the records of datasets/musdb18, got those of {builder.name}")

    def tracks(split: str) -> list[Track]:
        if split not in builder.info.splits:
            raise ValueError(f"{root}: expected a split {split}, got {', '.join(builder.info.splits)}")
        source = builder.as_data_source(split=split)
        read = partial(_excerpt, root, source, metadata["record_samples"])
        return [
            _track(entry, read, metadata["record_samples"], options, targets)
            for entry in metadata["tracks"][split]
        ]

    return split_layout(root, tracks("train"), tracks("validation"), targets)


def _track(
    entry: Mapping[str, Any],
    read: Any,
    record_samples: int,
    options: DatasetOptions,
    targets: tuple[str, ...],
) -> Track:
    """One song of the metadata's list."""
    records_a_stem = -(-entry["frames"] // record_samples)
    recordings: dict[str, Recording] = {
        stem: SeekRecording(
            partial(read, entry["first_record"] + index * records_a_stem),
            entry["sample_rate"],
            entry["frames"],
            options.format,
        )
        for index, stem in enumerate(entry["stems"])
    }
    return make_track(entry["name"], recordings, options.n_channels, targets)


def _excerpt(
    root: Path, source: Any, size: int, first_record: int, start: int, count: int
) -> Int16[np.ndarray, "channel time"]:
    """Samples of one stem, out of the records that hold them."""
    records = range(start // size, -(-(start + count) // size))
    try:
        blocks = [source[first_record + record]["samples"] for record in records]
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"{root}: damaged records ({str(error).splitlines()[0]})") from None
    offset = start - records.start * size
    return np.concatenate(blocks, axis=1)[:, offset : offset + count]


def _version_folder(root: Path) -> Path:
    """The newest folder of records at or below ``root``."""
    if (root / "dataset_info.json").exists():
        return root
    found = sorted(root.glob("musdb18/*/dataset_info.json")) or sorted(root.glob("*/dataset_info.json"))
    if not found:
        raise ValueError(f"{root}: expected records made by python -m datasets.musdb18, got none")
    return found[-1].parent


def _tfds() -> ModuleType:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise ValueError(
            "tfds: expected TensorFlow Datasets to read records with: pip install 'jaxsep[train]'"
        ) from None
    return tfds
