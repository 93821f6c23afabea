"""Where the estimates that are scored come from: a separator, a folder, an oracle."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Float

from jaxsep import oracle
from jaxsep.config import SeparationConfig
from jaxsep.factorised import Factorisation
from jaxsep.io.musdb import MIXTURE, Track, find_tracks, load_stems
from jaxsep.separation import Separator, StemSource, separate
from jaxsep.songs import Estimates, Song, file_stamps

__all__ = [
    "Estimator",
    "FolderEstimator",
    "OracleEstimator",
    "SeparatorEstimator",
    "group_components",
]


class Estimator(Protocol):
    """What makes, or finds, estimates of a track's stems."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def settings(self, track: Track) -> dict[str, Any]:
        """What the estimates of this track depend on, ready for JSON: equal settings, equal estimates."""

    def __call__(self, song: Song, progress: Callable[[float], None]) -> Estimates:
        """The estimates, by the names of the stems; at the song's rate, of any length."""


@dataclass(frozen=True, eq=False)
class SeparatorEstimator:
    """Separates the mixture.

    Attributes:
        source: nets, or a method without weights.
        config: how magnitudes become stems.
    """

    source: StemSource
    config: SeparationConfig = field(default_factory=SeparationConfig)

    @property
    def name(self) -> str:
        """The separator's."""
        return self.source.name

    @cached_property
    def _source_settings(self) -> dict[str, Any]:
        if not isinstance(self.source, Separator):
            return {"source": repr(self.source)}
        weights = {"+".join(stack.targets): _digest(stack) for stack in self.source.stacks}
        asked = {"adaptation": self.source.adaptation, "hearings": self.source.hearings}
        return {"source": self.source.name, "weights": weights} | asked

    def settings(self, track: Track) -> dict[str, Any]:
        """The weights' digests and the configuration."""
        return self._source_settings | {"config": asdict(self.config)}

    def __call__(self, song: Song, progress: Callable[[float], None]) -> Estimates:
        """The stems; the nameless components of a factorisation each go to the true stem they resemble most."""
        made = separate(
            song.mixture, song.sample_rate, separator=self.source, progress=progress, **asdict(self.config)
        )
        if isinstance(self.source, Factorisation):
            return group_components(list(made.values()), song.references)
        return made


@dataclass(frozen=True)
class FolderEstimator:
    """Finds estimates on disk, each track's by the name of the track, each stem's by that of the stem.

    Attributes:
        name: what to call them.
        tracks: the tracks with the estimates, by name.
    """

    name: str
    tracks: Mapping[str, Track]

    @classmethod
    def from_folder(cls, folder: Path) -> "FolderEstimator":
        """All estimates in a folder: `TRACK/STEM.wav`, or `test/TRACK/STEM.wav`.

        Also what `jaxsep separate` makes of MUSDB18: `TRACK/mixture/STEM.wav` and `TRACK.stem/STEM.wav`.
        """
        return cls(folder.resolve().name, {track.name: track for track in find_tracks(folder)})

    def settings(self, track: Track) -> dict[str, Any]:
        """The files and when they were written."""
        return {"estimates": file_stamps(self._found(track))}

    def __call__(self, song: Song, progress: Callable[[float], None]) -> Estimates:
        """The estimates, converted to the rate of the song.

        Of a part of a song: an estimate whose length is nearer to the whole song's is cut to the part, one
        whose length is nearer to the part's is one of the part.
        """
        found = self._found(song.track)
        stems = [stem for stem in found.stems if stem != MIXTURE]
        made, _ = load_stems(found, stems, sample_rate=song.sample_rate)
        return {stem: song.part_of(sound) for stem, sound in made.items()}

    def _found(self, track: Track) -> Track:
        # `jaxsep separate` names its folders after the files: SONG/mixture for MUSDB18-HQ, SONG.stem for MUSDB18.
        for name in (track.name, f"{track.name}/{MIXTURE}", f"{track.name}.stem"):
            if name in self.tracks:
                return self.tracks[name]
        raise ValueError(f"{track.name}: expected estimates of it in {self.name}, got none")


@dataclass(frozen=True)
class OracleEstimator:
    """Knows the truth.

    Attributes:
        kind: one of `jaxsep.oracle.ORACLES`.
    """

    kind: oracle.Oracle

    @property
    def name(self) -> str:
        """The kind of oracle, in words."""
        return {
            "ibm": "ideal binary mask",
            "irm": "ideal ratio mask",
            "mwf": "oracle multichannel Wiener filter",
            "mixture": "mixture in equal shares",
        }[self.kind]

    def settings(self, track: Track) -> dict[str, Any]:
        """The kind alone."""
        return {"oracle": self.kind}

    def __call__(self, song: Song, progress: Callable[[float], None]) -> Estimates:
        """The best estimates of its kind, or the worst."""
        references = np.stack(list(song.references.values()))
        made = oracle.estimate(references, song.mixture, oracle=self.kind, progress=progress)
        return dict(zip(song.references, made, strict=True))


def group_components(
    components: Sequence[Float[np.ndarray, "channel time"]],
    references: Mapping[str, Float[np.ndarray, "channel time"]],
) -> Estimates:
    """The sum of those components that correlate best with each reference.

    Example:
        >>> kick, bass = np.eye(2)[:, None]
        >>> grouped = group_components([0.5 * bass, 0.5 * bass, kick], {"drums": kick, "bass": bass})
        >>> grouped["drums"].tolist(), grouped["bass"].tolist()
        ([[1.0, 0.0]], [[0.0, 1.0]])
    """
    grouped = {name: np.zeros_like(reference) for name, reference in references.items()}
    norms = {name: max(float(np.linalg.norm(sound)), 1e-12) for name, sound in references.items()}
    for component in components:
        likeness = {name: np.vdot(component, sound) / norms[name] for name, sound in references.items()}
        grouped[max(likeness, key=likeness.__getitem__)] += component
    return grouped


def _digest(stack: Any) -> str:
    """A fingerprint of nets: their configuration and all their numbers."""
    found = hashlib.sha256(repr(stack.config).encode())
    leaves, _ = jax.tree.flatten_with_path((stack.variables, stack.layers))
    for path, leaf in leaves:
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]
