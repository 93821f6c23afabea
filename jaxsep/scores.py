"""The scores of a track: as an object, and as a JSON file in museval's schema, whose stores read it."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.io.files import atomic_path

__all__ = [
    "METRICS",
    "WHOLE_TRACK",
    "TargetScores",
    "TrackScores",
    "load_scores",
    "read_scores",
    "rounded",
    "write_scores",
]

METRICS = ("SDR", "ISR", "SIR", "SAR")
WHOLE_TRACK = ("MDX_SDR", "SI_SDR")

_PLACES = 5  # decimals in the files, as in museval's


class TargetScores(NamedTuple):
    """What one target of one track scored, in dB."""

    frames: Mapping[str, Float[np.ndarray, " frame"]]  # for each of METRICS; NaN where there is no score
    whole: Mapping[str, float] = {}  # "MDX_SDR" and "SI_SDR" of the whole track

    def median(self, metric: str) -> float:
        """The median of the frames that have a finite score, or NaN."""
        return _finite_median(self.frames[metric])


@dataclass(frozen=True)
class TrackScores:
    """The scores of one track.

    Attributes:
        name: of the track.
        targets: the scores of each target, in the order in which they are listed.
        window: seconds in a frame.
        hop: seconds from frame to frame.
        settings: whatever the scores depend on: equal settings, equal scores.
        notes: what was done to make the estimates fit, for people.
    """

    name: str
    targets: Mapping[str, TargetScores]
    window: float = 1.0
    hop: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object in museval's schema, with keys of our own that museval passes over."""
        targets = []
        for name, scores in self.targets.items():
            count = len(scores.frames["SDR"])
            frames = [
                {
                    "time": t * self.hop if t else 0.0,  # one frame of a whole track may have an infinite hop
                    "duration": self.window,
                    "metrics": {metric: rounded(scores.frames[metric][t]) for metric in METRICS},
                }
                for t in range(count)
            ]
            whole = {key: rounded(value) for key, value in scores.whole.items()}
            targets.append({"name": name, "frames": frames, "whole_track": whole})
        return {"targets": targets, "settings": dict(self.settings), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], name: str) -> "TrackScores":
        """The scores that `to_json`, or museval, wrote.

        Raises:
            ValueError: `value` does not follow the schema.
        """
        try:
            targets, window, hop = {}, 1.0, 1.0
            for target in value["targets"]:
                frames = target["frames"]
                if frames:
                    window = float(frames[0]["duration"])
                    hop = float(frames[1]["time"] - frames[0]["time"]) if len(frames) > 1 else window
                columns = {m: np.array([float(f["metrics"][m]) for f in frames]) for m in METRICS}
                targets[str(target["name"])] = TargetScores(columns, dict(target.get("whole_track", {})))
            return cls(name, targets, window, hop, value.get("settings", {}), tuple(value.get("notes", ())))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{name}: expected scores in museval's schema, got something else ({error!r})"
            ) from None


def write_scores(path: str | os.PathLike[str], scores: TrackScores) -> None:
    """Write a track's JSON file; it appears whole or not at all, its folder too."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        # NaN is no JSON by the letter, but museval's files have it and its schema allows no null.
        temporary.write_text(json.dumps(scores.to_json(), indent=1), encoding="utf-8")


def read_scores(path: str | os.PathLike[str], name: str | None = None) -> TrackScores:
    """Read a track's JSON file, ours or museval's.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, or not in the schema.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got something else ({error})") from None
    return TrackScores.from_json(value, path.stem if name is None else name)


def load_scores(folder: str | os.PathLike[str]) -> list[TrackScores]:
    """The scores of all tracks in a folder that `jaxsep evaluate`, or museval, wrote; sorted by name.

    Raises:
        ValueError: there are none, or a file is not in the schema.
    """
    folder = Path(folder)
    root = folder / "test" if (folder / "test").is_dir() else folder
    paths = sorted(path for path in root.rglob("*.json") if not path.name.startswith("."))
    if not paths:
        raise ValueError(f"{folder}: expected a folder with the scores of an evaluation, got none in it")
    return [read_scores(path, path.relative_to(root).with_suffix("").as_posix()) for path in paths]


def _finite_median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def rounded(number: float) -> float:
    """To the files' decimals; an infinite ratio counts as none, as in museval."""
    return round(float(number), _PLACES) if math.isfinite(number) else math.nan
