"""Many tracks' scores in few numbers: medians and means, tables for the terminal, CSV.

A frame's ratios are reduced to the track's by the median, the tracks' to the method's by the median, and by
the mean beside it. Frames without a score (NaN: silence) and perfect ones (infinite) do not vote, as in museval.
"""

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsep.io.files import atomic_path
from jaxsep.scores import METRICS, WHOLE_TRACK, TrackScores, rounded

__all__ = [
    "Summary",
    "across_tracks",
    "format_comparison",
    "format_table",
    "frame_scores",
    "targets_of",
    "track_medians",
    "write_comparison",
    "write_csv",
]


def targets_of(tracks: Iterable[TrackScores]) -> list[str]:
    """All targets of some tracks, in the order in which they first appear."""
    return list(dict.fromkeys(target for track in tracks for target in track.targets))


def track_medians(tracks: Iterable[TrackScores], target: str, metric: str) -> Float[np.ndarray, " track"]:
    """The tracks' medians over frames, of those tracks that have one.

    Example:
        >>> from jaxsep.scores import TargetScores
        >>> frames = {metric: np.array([1.0, np.nan, 5.0]) for metric in METRICS}
        >>> track_medians([TrackScores("song", {"bass": TargetScores(frames)})], "bass", "SDR")
        array([3.])
    """
    medians = [track.targets[target].median(metric) for track in tracks if target in track.targets]
    return np.array([median for median in medians if not math.isnan(median)])


def frame_scores(tracks: Iterable[TrackScores], target: str, metric: str) -> Float[np.ndarray, " frame"]:
    """The finite scores of all frames of some tracks."""
    frames = [track.targets[target].frames[metric] for track in tracks if target in track.targets]
    values = np.concatenate([np.zeros(0), *frames])
    return values[np.isfinite(values)]


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
        >>> from jaxsep.scores import TargetScores
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
    return "\n".join([*lines, f"each track: the median of its {_size(tracks)}"])


def format_comparison(methods: Mapping[str, Sequence[TrackScores]], metric: str = "SDR") -> str:
    """Methods side by side, for the terminal: a row a method, the median over tracks for each target.

    Example:
        >>> from jaxsep.scores import TargetScores
        >>> frames = {metric: np.array([1.0, 5.0]) for metric in METRICS}
        >>> track = TrackScores("song", {"bass": TargetScores(frames), "vocals": TargetScores(frames)})
        >>> print(format_comparison({"a net": [track], "another": [track]}))
        SDR, dB   tracks     bass   vocals     mean
        a net          1     3.00     3.00     3.00
        another        1     3.00     3.00     3.00
        median of tracks, each the median of its 1 s frames; the mean is over targets
    """
    targets = targets_of(track for tracks in methods.values() for track in tracks)
    width = max(map(len, [f"{metric}, dB", *methods]))
    wide = max(7, *map(len, targets))
    heads = "".join(f"{target:>{wide + 2}}" for target in [*targets, "mean"])
    lines = [f"{f'{metric}, dB':<{width}} {'tracks':>8}{heads}"]
    for method, tracks in methods.items():
        medians = [across_tracks(tracks, target, metric).median for target in targets]
        cells = "".join(f"{_cell(median):>{wide + 2}}" for median in [*medians, float(np.mean(medians))])
        lines.append(f"{method:<{width}} {len(tracks):>8}{cells}")
    everyone = [track for tracks in methods.values() for track in tracks]
    return "\n".join(
        [*lines, f"median of tracks, each the median of its {_size(everyone)}; the mean is over targets"]
    )


def write_comparison(path: str | os.PathLike[str], methods: Mapping[str, Sequence[TrackScores]]) -> None:
    """Write one row a method and target: the medians over tracks of the medians over frames."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["method", "target", "tracks", *METRICS])
        for method, tracks in methods.items():
            for target in targets_of(tracks):
                found = [across_tracks(tracks, target, metric) for metric in METRICS]
                table.writerow(
                    [method, target, found[0].n_tracks, *_csv_numbers(one.median for one in found)]
                )


def write_csv(path: str | os.PathLike[str], tracks: Iterable[TrackScores]) -> None:
    """Write one row a track and target: medians over frames, and the scores of the whole track."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["track", "target", "frames", *METRICS, *WHOLE_TRACK])
        for track in tracks:
            for target, scores in track.targets.items():
                medians = [scores.median(metric) for metric in METRICS]
                whole = [scores.whole.get(key, math.nan) for key in WHOLE_TRACK]
                numbers = _csv_numbers([*medians, *whole])
                table.writerow([track.name, target, len(scores.frames["SDR"]), *numbers])


def _cell(number: float) -> str:
    return f"{'–' if math.isnan(number) else f'{number:.2f}':>7}"


def _size(tracks: Iterable[TrackScores]) -> str:
    windows = {track.window for track in tracks}
    return f"{windows.pop():g} s frames" if len(windows) == 1 else "frames"


def _csv_numbers(numbers: Iterable[float]) -> list[float | str]:
    return ["" if math.isnan(number) else number for number in map(rounded, numbers)]
