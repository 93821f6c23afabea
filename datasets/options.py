"""What can be chosen about a data set."""

from dataclasses import dataclass
from typing import Any

from datasets.draws import check_augmentations
from datasets.recordings import Format

__all__ = ["DatasetOptions"]


@dataclass(frozen=True)
class DatasetOptions:
    """Choices for `datasets.catalogue.open_dataset`; each layout reads those that concern it.

    Attributes:
        seconds: length of an excerpt.
        batch_size: excerpts in a batch, all hosts together.
        samples_per_track: excerpts an epoch of each track; None: what is usual for the layout, 64 for musdb, tfds and
            synthetic, else 1.
        sample_rate: Hz; files of other rates are converted as they are read.
        n_channels: 1 or 2; see `datasets.recordings.open_file` for files with another number.
        augmentations: names among `datasets.draws.AUGMENTATIONS`; None: gain and channelswap for musdb, tfds and
            synthetic, else none.
        part: (index, count) of this host: which of so many equal parts of each batch it reads.
        input_file: aligned: file with the mixture in each track's folder, or a pattern.
        output_file: aligned: file with the target, or a pattern.
        target_file: trackfolder_fix, trackfolder_var: file with the target in each track's folder.
        interferer_files: trackfolder_fix: files with the other sources.
        random_track_mix: trackfolder_fix: every source from a track and place of its own.
        random_interferer_mix: trackfolder_var: the target from one track, everything else from another.
        silence_missing: trackfolder_var: take tracks without the target too; it is silent in them.
        target_dir: sourcefolder: folder of the target's sounds.
        interferer_dirs: sourcefolder: folders of the other sources' sounds.
        ext: sourcefolder, trackfolder_var: end of the names of the files to take.
        n_train_samples: sourcefolder: excerpts an epoch.
        n_valid_samples: sourcefolder: excerpts to validate with, drawn once.
        decoded_bytes: memory for songs that must be decoded whole.
    """

    seconds: float = 6.0
    batch_size: int = 16
    samples_per_track: int | None = None
    sample_rate: float = 44100.0
    n_channels: int = 2
    augmentations: tuple[str, ...] | None = None
    part: tuple[int, int] = (0, 1)
    input_file: str = "mixture.wav"
    output_file: str = "vocals.wav"
    target_file: str = "vocals.wav"
    interferer_files: tuple[str, ...] = ("bass.wav", "drums.wav")
    random_track_mix: bool = False
    random_interferer_mix: bool = False
    silence_missing: bool = False
    target_dir: str = "vocals"
    interferer_dirs: tuple[str, ...] = ("bass", "drums")
    ext: str = ".wav"
    n_train_samples: int = 1000
    n_valid_samples: int = 100
    decoded_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        """Check what can be checked without a look at the files."""
        rate = self.sample_rate
        _check("sample_rate", rate >= 1 and rate == int(rate), "a whole number of Hz", rate)
        _check("seconds", self.seconds * rate >= 1, "at least one sample", self.seconds)
        _check("n_channels", self.n_channels in (1, 2), "1 or 2", self.n_channels)
        for name in ("batch_size", "n_train_samples", "n_valid_samples"):
            _check(name, getattr(self, name) >= 1, "1 or more", getattr(self, name))
        each = self.samples_per_track
        _check("samples_per_track", each is None or each >= 1, "1 or more", each)
        index, count = self.part
        _check("part", 0 <= index < count, "0 <= index < count", self.part)
        _check(
            "batch_size", self.batch_size % count == 0, f"a multiple of the {count} hosts", self.batch_size
        )
        if self.augmentations is not None:
            check_augmentations(self.augmentations)

    @property
    def format(self) -> Format:
        """What recordings are delivered as."""
        return Format(int(self.sample_rate), self.n_channels)

    @property
    def count(self) -> int:
        """Samples an excerpt."""
        return round(self.seconds * self.sample_rate)


def _check(name: str, good: bool, expected: str, got: Any) -> None:
    if not good:
        raise ValueError(f"{name}: expected {expected}, got {got}")
