"""TFDS builder: MUSDB18 or MUSDB18-HQ decoded once, into records for excerpts at random places.

A record is a second and a half of one stem: to read an excerpt means to read a few records and nothing else, whichever
song, stem and place was drawn. Samples lie as they are used, 16 bits and one channel after the other, for nothing is
as quick to decode as what needs no decoding; ArrayRecord finds any record without a search. Which record is which
stands in the metadata.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

# The tool imports this file from wherever it was called.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from jaxsep.io import audio, musdb
from jaxsep.io.stemfile import stream_lengths

RECORD_SAMPLES = 1 << 16
_CHANNELS = 2


class Builder(tfds.core.GeneratorBasedBuilder):
    """The builder of MUSDB18's records."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "--manual_dir is the folder of MUSDB18 or MUSDB18-HQ, with train and test in it. Ask for it at "
        "https://doi.org/10.5281/zenodo.1117372 or https://doi.org/10.5281/zenodo.3338373."
    )

    def __init__(self, *, file_format: Any = None, **options: Any) -> None:
        """Without another wish the records are ArrayRecords, which can be read at any place."""
        super().__init__(file_format=file_format or "array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        samples = tfds.features.Tensor(
            shape=(_CHANNELS, RECORD_SAMPLES), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="MUSDB18: 150 songs and their vocals, drums, bass and other, in records of 65536 samples.",
            features=tfds.features.FeaturesDict({"samples": samples}),
            metadata=tfds.core.MetadataDict(record_samples=RECORD_SAMPLES, tracks={}),
            homepage="https://sigsep.github.io/datasets/musdb.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        found = musdb.find_tracks(str(dl_manager.manual_dir))
        names = {"train": tfds.Split.TRAIN, "valid": tfds.Split.VALIDATION, "test": tfds.Split.TEST}
        splits = {subset: [track for track in found if track.subset == subset] for subset in names}
        return {
            names[subset]: self._generate_examples(str(names[subset]), tracks)
            for subset, tracks in splits.items()
            if tracks
        }

    def _generate_examples(self, split: str, tracks: list[musdb.Track]) -> Iterator[tuple[int, Any]]:
        """Stem by stem, song by song; the last record of each is filled up with silence."""
        # Not above: while the tool imports a builder, it puts a stand-in in the place of any package named datasets.
        from datasets.musdb import stem_recordings
        from datasets.recordings import DecodedSongs, Format

        songs = DecodedSongs(0)  # one at a time
        opened = [stem_recordings(track, Format(_rate(track), _CHANNELS), songs) for track in tracks]
        lengths = [min(recording.frames for recording in stems.values()) for stems in opened]
        described, first = [], 0
        for track, stems, frames in zip(tracks, opened, lengths, strict=True):
            place = {"first_record": first, "frames": frames, "sample_rate": _rate(track)}
            described.append({"name": track.name, "stems": list(stems)} | place)
            first += len(stems) * -(-frames // RECORD_SAMPLES)
        self.info.metadata["tracks"][split] = described

        record = 0
        for stems, frames in zip(opened, lengths, strict=True):
            for recording in stems.values():
                for start in range(0, frames, RECORD_SAMPLES):
                    count = min(RECORD_SAMPLES, frames - start)
                    samples = np.zeros((_CHANNELS, RECORD_SAMPLES), np.int16)
                    samples[:, :count] = recording.read(start, count)
                    yield record, {"samples": samples}
                    record += 1


def _rate(track: musdb.Track) -> int:
    """The rate of a track's first stem, Hz."""
    path = next(iter(track.files.values()))
    return int(stream_lengths(path)[1] if track.is_stem_file else audio.info(path).sample_rate)
