"""Box plots as places in percent, which the page's style sheet draws at any width."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxsep.report.published import PUBLISHED
from jaxsep.scores import TrackScores
from jaxsep.summary import frame_scores, track_medians

__all__ = ["Box", "Panel", "box_of", "panel_of", "shows_frames", "ticks_between"]


class Box(NamedTuple):
    """The tracks, or a lone track's frames, of one method and target: places in percent of the panel's width."""

    method: str
    rank: int  # 0 for the evaluation itself, 1, 2, ... for those beside it
    low: float  # whisker
    q1: float
    median: float
    q3: float
    high: float  # whisker
    dots: list[float]  # a track each, or a frame
    label: str  # what the numbers are, in words


class Row(NamedTuple):
    """One target."""

    target: str
    boxes: list[Box]
    marks: list[tuple[int, str, float, float]]  # published: rank, model, dB, percent


class Panel(NamedTuple):
    """One metric."""

    metric: str
    ticks: list[tuple[str, float]]  # label, percent
    rows: list[Row]


def box_of(values: np.ndarray) -> tuple[float, float, float, float, float]:
    """Whisker, quartiles and whisker after Tukey: whiskers end at the furthest value within 1.5 boxes.

    Example:
        >>> box_of(np.array([1.0, 2.0, 3.0, 4.0, 50.0]))
        (1.0, 2.0, 3.0, 4.0, 4.0)
    """
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    reach = 1.5 * (q3 - q1)
    within = values[(values >= q1 - reach) & (values <= q3 + reach)]
    return float(within.min()), q1, median, q3, float(within.max())


def ticks_between(low: float, high: float) -> list[float]:
    """Up to nine round numbers that cover a range, the first at or below it and the last at or above it.

    Example:
        >>> ticks_between(-1.2, 11.0)
        [-2, 0, 2, 4, 6, 8, 10, 12]
    """
    span = max(high - low, 1e-3)
    power = 10 ** math.floor(math.log10(span / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 7)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 6) for number in range(first, max(last, first + 1) + 1)]


def shows_frames(methods: Mapping[str, Sequence[TrackScores]]) -> bool:
    """Whether there is one track alone, whose frames then say more than their median."""
    return all(len(tracks) == 1 for tracks in methods.values())


def panel_of(
    metric: str, targets: Sequence[str], methods: Mapping[str, Sequence[TrackScores]]
) -> Panel | None:
    """A metric's boxes, a row a target and a box a method, with the published figures; None without any score.

    Where no method has more than one track, boxes are over its frames, see `shows_frames`.
    """
    values_of = frame_scores if shows_frames(methods) else track_medians
    found = {
        (target, method): values_of(tracks, target, metric)
        for target in targets
        for method, tracks in methods.items()
    }
    found = {key: values for key, values in found.items() if values.size}
    if not found:
        return None
    published = {
        (target, model): scores[target][metric]
        for target in targets
        for model, scores in PUBLISHED.items()
        if metric in scores.get(target, {})
    }
    everything = np.concatenate([*found.values(), list(published.values())])
    ticks = ticks_between(float(everything.min()), float(everything.max()))

    def percent(value: float) -> float:
        return round(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]), 2)

    rows = []
    for target in targets:
        boxes = []
        for rank, method in enumerate(methods):
            values = found.get((target, method))
            if values is None:
                continue
            summary = box_of(values)
            _, q1, median, q3, _ = summary
            label = f"{method}, {target}: median {median:.2f} dB, quartiles {q1:.2f} and {q3:.2f} dB"
            dots = [percent(value) for value in values]
            boxes.append(Box(method, rank, *map(percent, summary), dots, label))
        marks = [
            (rank, model, published[target, model], percent(published[target, model]))
            for rank, model in enumerate(PUBLISHED)
            if (target, model) in published
        ]
        rows.append(Row(target, boxes, marks))
    return Panel(metric, [(f"{tick:g}".replace("-", "−"), percent(tick)) for tick in ticks], rows)
