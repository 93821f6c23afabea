"""The page itself: scores and clips in, one HTML file out."""

import math
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jaxsep import __version__
from jaxsep.io.files import atomic_path
from jaxsep.report.charts import panel_of, shows_frames
from jaxsep.report.published import PUBLISHED
from jaxsep.scores import METRICS, TrackScores
from jaxsep.summary import across_tracks, targets_of

__all__ = ["import_jinja", "render", "write_report"]

# What becomes of a frame in which a true stem or its estimate is silent.
_SILENCE = {
    "nan": "A stem has no score in frames in which it or its estimate is silent; those of the others count.",
    "skip": "Frames in which any stem or estimate is silent have no score and do not count.",
    "zero": "A stem scores 0 dB in frames in which it or its estimate is silent.",
}


def write_report(
    path: str | os.PathLike[str],
    name: str,
    tracks: Sequence[TrackScores],
    *,
    others: Mapping[str, Sequence[TrackScores]] | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: the file.
        name: of what was evaluated.
        tracks: its scores, one track or more.
        others: scores of other methods to show beside it, by name.
        clips: what there is to hear, as `load_clips` gives them.

    Raises:
        ValueError: no track, or jinja2 is missing.
        OSError: the file cannot be written.
    """
    text = render(name, tracks, others=others, clips=clips)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(
    name: str,
    tracks: Sequence[TrackScores],
    *,
    others: Mapping[str, Sequence[TrackScores]] | None = None,
    clips: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page as text, see `write_report`."""
    if not tracks:
        raise ValueError("expected the scores of one track or more, got none")
    targets = targets_of(tracks)
    methods = {name: tracks}
    for other, scores in (others or {}).items():
        methods[f"{other} (compared)" if other == name else other] = scores
    panels = [panel_of(metric, targets, methods) for metric in METRICS]
    environment = _environment()
    environment.filters |= {"decibel": _decibel, "clock": _clock}
    return environment.get_template("page.html.j2").render(
        name=name,
        version=__version__,
        tracks=tracks,
        targets=targets,
        metrics=METRICS,
        methods=list(methods),
        published=list(PUBLISHED),
        summary={target: {m: across_tracks(tracks, target, m) for m in METRICS} for target in targets},
        comparison=_comparison(targets, methods),
        panels=[panel for panel in panels if panel is not None],
        each="frame" if shows_frames(methods) else "track",
        medians={
            track.name: {target: scores.median("SDR") for target, scores in track.targets.items()}
            for track in tracks
        },
        clips=clips,
        scoring=_scoring(tracks),
        silence=_SILENCE.get(_policy(tracks), _SILENCE["skip"]),
        is_published_policy=_policy(tracks) == "skip",
        style=_asset("page.css"),
        script=_asset("player.js"),
    )


def import_jinja() -> Any:
    """The template engine.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise ValueError(
            "report: expected jinja2, got an installation without: pip install 'jaxsep[report]'"
        ) from None
    return jinja2


def _environment() -> Any:
    jinja2 = import_jinja()
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _asset(name: str) -> str:
    return (resources.files("jaxsep.report") / name).read_text(encoding="utf-8")


def _comparison(targets: Sequence[str], methods: Mapping[str, Sequence[TrackScores]]) -> list[dict[str, Any]]:
    """A row a method: SDR for each target, the method evaluated first and the published ones last."""
    rows = [
        {
            "name": method,
            "is_published": False,
            "n_tracks": len(scores),
            "sdr": [across_tracks(scores, target, "SDR").median for target in targets],
        }
        for method, scores in methods.items()
    ]
    for model, scores in PUBLISHED.items():
        sdr = [scores.get(target, {}).get("SDR", math.nan) for target in targets]
        if not all(map(math.isnan, sdr)):
            rows.append({"name": model, "is_published": True, "sdr": sdr})
    return rows


def _policy(tracks: Sequence[TrackScores]) -> str:
    """What became of silent frames: scores that say nothing of it are museval's, which skips them."""
    scoring = tracks[0].settings.get("scoring", {})
    return "skip" if scoring.get("scorer") == "museval" else scoring.get("silent", "skip")


def _scoring(tracks: Sequence[TrackScores]) -> str:
    """How the tracks were scored, in words; where they differ, what the first one says."""
    first = tracks[0]
    settings = first.settings.get("scoring", {})
    version = settings.get("mode", "v4")
    frames = f"{first.window:g} s frames every {first.hop:g} s"
    words = [f"BSSEval {version}", "one frame a track" if settings.get("window") == "inf" else frames]
    if "filters_len" in settings:
        words.append(f"{settings['filters_len']} taps")
    if settings.get("scorer") == "museval":
        words.append("scored by museval")
    return ", ".join(words)


def _decibel(value: float, places: int = 2) -> str:
    """A number as typographers want it, with a real minus; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.{places}f}".replace("-", "−")


def _clock(seconds: float) -> str:
    """Minutes and seconds.

    Example:
        >>> _clock(75.4)
        '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
