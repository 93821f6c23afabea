"""The scores of tracks: as objects, as JSON files in museval's schema, as medians and means, as CSV.

A frame's ratios are reduced to the track's by the median, the tracks' to the method's by the median, and by
the mean beside it. Frames without a score (NaN: silence) and perfect ones (infinite) do not vote, as in
museval, whose stores read these files.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.io.files import atomic_path

__all__ = [
    "METRICS",
    "Summary",
    "TargetScores",
    "TrackScores",
    "across_tracks",
    "format_table",
    "load_scores",
    "read_scores",
    "targets_of",
    "track_medians",
    "write_csv",
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
                    "metrics": {metric: _rounded(scores.frames[metric][t]) for metric in METRICS},
                }
                for t in range(count)
            ]
            whole = {key: _rounded(value) for key, value in scores.whole.items()}
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


def targets_of(tracks: Iterable[TrackScores]) -> list[str]:
    """All targets of some tracks, in the order in which they first appear."""
    return list(dict.fromkeys(target for track in tracks for target in track.targets))


def track_medians(tracks: Iterable[TrackScores], target: str, metric: str) -> Float[np.ndarray, " track"]:
    """The tracks' medians over frames, of those tracks that have one.

    Example:
        >>> frames = {metric: np.array([1.0, np.nan, 5.0]) for metric in METRICS}
        >>> track_medians([TrackScores("song", {"bass": TargetScores(frames)})], "bass", "SDR")
        array([3.])
    """
    medians = [track.targets[target].median(metric) for track in tracks if target in track.targets]
    return np.array([median for median in medians if not math.isnan(median)])


class Summary(NamedTuple):
    """What the tracks scored together, in dB: NaN where no track has a score."""

    median: float
    mean: float
    n_tracks: int  # with a score


def across_tracks(tracks: Sequence[TrackScores], target: str, metric: str) -> Summary:
    """Median and mean over tracks of the median over frames."""
    values = track_medians(tracks, target, metric)
    if not len(values):
        return Summary(math.nan, math.nan, 0)
    return Summary(float(np.median(values)), float(np.mean(values)), len(values))


def format_table(tracks: Sequence[TrackScores]) -> str:
    """The table for the terminal: for each target the median and the mean over tracks.

    Example:
        >>> frames = {metric: np.array([1.0, 5.0]) for metric in METRICS}
        >>> print(format_table([TrackScores("song", {"bass": TargetScores(frames)})]))
        dB      tracks    SDR    ISR    SIR    SAR   SDR    ISR    SIR    SAR
                        median of tracks            mean of tracks
        bass         1   3.00   3.00   3.00   3.00   3.00   3.00   3.00   3.00
        each track: the median of its 1 s frames
    """
    targets = targets_of(tracks)
    width = max(map(len, ["dB", *targets]))
    heads = "".join(f"{metric:>7}" for metric in METRICS)
    lines = [
        f"{'dB':<{width}} {'tracks':>7} {heads}  {heads}",
        f"{'':<{width}} {'':>7} {'median of tracks':>28}  {'mean of tracks':>28}",
    ]
    for target in targets:
        found = [across_tracks(tracks, target, metric) for metric in METRICS]
        medians = "".join(_cell(summary.median) for summary in found)
        means = "".join(_cell(summary.mean) for summary in found)
        lines.append(f"{target:<{width}} {found[0].n_tracks:>7} {medians}  {means}")
    windows = {track.window for track in tracks}
    size = f"{windows.pop():g} s frames" if len(windows) == 1 else "frames"
    return "\n".join([*lines, f"each track: the median of its {size}"])


def write_csv(path: str | os.PathLike[str], tracks: Iterable[TrackScores]) -> None:
    """Write one row a track and target: medians over frames, and the scores of the whole track."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["track", "target", "frames", *METRICS, *WHOLE_TRACK])
        for track in tracks:
            for target, scores in track.targets.items():
                medians = [_rounded(scores.median(metric)) for metric in METRICS]
                whole = [_rounded(scores.whole.get(key, math.nan)) for key in WHOLE_TRACK]
                numbers = ["" if math.isnan(number) else number for number in (*medians, *whole)]
                table.writerow([track.name, target, len(scores.frames["SDR"]), *numbers])


def _finite_median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _rounded(number: float) -> float:
    """To the files' decimals; an infinite ratio counts as none, as in museval."""
    return round(float(number), _PLACES) if math.isfinite(number) else math.nan


def _cell(number: float) -> str:
    return f"{'–' if math.isnan(number) else f'{number:.2f}':>7}"
