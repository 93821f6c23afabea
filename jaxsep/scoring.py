"""One song's estimates against its truth: what is scored with what, by whom, and how."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from jaxsep import metrics
from jaxsep.scores import METRICS, TargetScores
from jaxsep.songs import Estimates, Song

__all__ = ["Scorer", "ScoringConfig", "fit_estimates", "import_museval", "score"]

Scorer = Literal["jaxsep", "museval"]


@dataclass(frozen=True)
class ScoringConfig:
    """How estimates are scored. The defaults are BSSEval v4 as museval's.

    Attributes:
        window: seconds in a frame, > 0; `math.inf` for one frame with the whole track.
        hop: seconds from frame to frame, > 0.
        filters_len: taps of the distortion filters.
        mode: "v4", one filter a track; "v3", one a frame.
        silent: what a frame scores where a reference or its estimate is silent, see `metrics.bss_eval`.
        scorer: "jaxsep", or "museval" for comparison, which must be installed.
    """

    window: float = 1.0
    hop: float = 1.0
    filters_len: int = 512
    mode: Literal["v3", "v4"] = "v4"
    silent: metrics.SilentPolicy = "nan"
    scorer: Scorer = "jaxsep"

    def __post_init__(self) -> None:
        """Refuse what could only fail in the middle of the work."""
        for name in ("window", "hop"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected more than 0 seconds, got {getattr(self, name)}")
        if self.filters_len < 1:
            raise ValueError(f"filters_len: expected at least 1 tap, got {self.filters_len}")
        for name, known in (
            ("mode", ("v3", "v4")),
            ("silent", get_args(metrics.SilentPolicy)),
            ("scorer", get_args(Scorer)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}; got {getattr(self, name)!r}")
        if self.scorer == "museval" and self.silent != "nan":
            raise ValueError("silent: expected no choice with the scorer museval, which has its own way")


def score(
    references: Mapping[str, Float[np.ndarray, "channel time"]],
    estimates: Mapping[str, Float[np.ndarray, "channel time"]],
    sample_rate: float,
    *,
    mixture: Float[np.ndarray, "channel time"] | None = None,
    config: ScoringConfig | None = None,
) -> dict[str, TargetScores]:
    """Score estimates of stems against the stems of the same names.

    All that have an estimate are scored together. An estimate `accompaniment` (or `no_vocals`, `no_drums`,
    ...) is scored against the sum of the other stems, in a pair with its counterpart, whose scores then are
    those of the pair, as in museval. A single stem is paired with what it leaves of the mixture.

    Args:
        references: true stems, all of one shape.
        estimates: estimates of that shape; those whose names are unknown are left out.
        sample_rate: in Hz.
        mixture: by default the sum of the references.
        config: how to score.

    Returns:
        The scores of each target.

    Raises:
        ValueError: no estimate has a reference, shapes differ, or there are both `accompaniment` and
            `no_vocals`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> references = {"vocals": rng.standard_normal((1, 8000)), "drums": rng.standard_normal((1, 8000))}
        >>> estimates = {"vocals": references["vocals"] + 0.1 * references["drums"]}
        >>> scores = score(references, estimates, 4000, config=ScoringConfig(filters_len=4))
        >>> list(scores), round(scores["vocals"].median("SIR"))
        (['vocals', 'accompaniment'], 20)
    """
    config = config or ScoringConfig()
    truth, made = dict(references), dict(estimates)
    total = sum(truth.values()) if mixture is None else mixture
    joint = [target for target in truth if target in made]
    pairs = {}
    for target in joint:
        names = [name for name in _complements(target) if name in made and name not in truth]
        if len(names) > 1:
            raise ValueError(f"expected one estimate of all but {target}, got {' and '.join(names)}")
        if names:
            pairs[target] = names[0]
    if not joint:
        raise ValueError(
            f"expected an estimate of one of {', '.join(truth)}; got {', '.join(made) or 'none'}"
        )
    if len(joint) == 1 and not pairs:
        (target,) = joint
        pairs = {target: _complements(target)[0]}
        made[pairs[target]] = total - made[target]
    scored: dict[str, TargetScores] = {}
    if len(joint) > 1:
        scored = _score_together(joint, truth, made, sample_rate, config)
    for target, name in pairs.items():
        others = [sound for other, sound in truth.items() if other != target]
        truth_of_pair = {target: truth[target], name: sum(others) if others else total - truth[target]}
        scored.pop(target, None)
        scored |= _score_together([target, name], truth_of_pair, made, sample_rate, config)
    return scored


def fit_estimates(song: Song, estimates: Mapping[str, np.ndarray]) -> tuple[Estimates, list[str]]:
    """The estimates in the length of the song, and notes on what that took.

    Longer ones are cut and shorter ones filled with silence, as in museval.

    Raises:
        ValueError: no estimate has the name of a stem, or one has another number of channels or holds NaN or
            infinity.
    """
    channels, length = song.mixture.shape
    fitted, notes = {}, []
    for name, estimate in estimates.items():
        if estimate.ndim != 2 or len(estimate) != channels:
            raise ValueError(
                f"{song.track.name}: expected {channels} channels as in the truth, got {len(estimate)} in the "
                f"estimate of {name}"
            )
        if not np.isfinite(estimate).all():
            raise ValueError(f"{song.track.name}: expected finite estimates, got NaN or infinity in {name}")
        missing = length - estimate.shape[1]
        if missing:
            done = "filled with silence" if missing > 0 else "cut"
            notes.append(f"{name}: {abs(missing)} samples {'short' if missing > 0 else 'long'}, {done}")
        fitted[name] = np.pad(estimate[:, :length], [(0, 0), (0, max(0, missing))])
    known = {*song.references, *(name for target in song.references for name in _complements(target))}
    if not known & set(fitted):
        raise ValueError(
            f"{song.track.name}: expected an estimate of one of {', '.join(song.references)}; "
            f"got {', '.join(fitted) or 'none'}"
        )
    ignored = sorted(set(fitted) - known)
    if ignored:
        notes.append(f"not among the true stems: {', '.join(ignored)}")
    return {name: sound for name, sound in fitted.items() if name in known}, notes


def _complements(target: str) -> tuple[str, ...]:
    """What the sum of all other stems may be called."""
    return ("accompaniment", f"no_{target}") if target == "vocals" else (f"no_{target}",)


def _score_together(
    targets: Sequence[str],
    references: Mapping[str, np.ndarray],
    estimates: Mapping[str, np.ndarray],
    sample_rate: float,
    config: ScoringConfig,
) -> dict[str, TargetScores]:
    window, hop = (
        seconds if math.isinf(seconds) else max(1, int(seconds * sample_rate))
        for seconds in (config.window, config.hop)
    )
    options = {"window": window, "hop": hop, "filters_len": config.filters_len}
    bss_eval = _museval_scores if config.scorer == "museval" else _jaxsep_scores
    truth, made = (np.stack([sounds[name] for name in targets]) for sounds in (references, estimates))
    frames = bss_eval(truth, made, config, **options)  # (metric, target, frame)
    del truth, made
    return {
        target: TargetScores(
            dict(zip(METRICS, frames[:, j], strict=True)),
            # One target at a time: these hold several copies of what they are given.
            {
                "MDX_SDR": float(metrics.sdr(references[target], estimates[target])),
                "SI_SDR": float(metrics.si_sdr(references[target], estimates[target])),
            },
        )
        for j, target in enumerate(targets)
    }


def _jaxsep_scores(truth: np.ndarray, made: np.ndarray, config: ScoringConfig, **options: Any) -> np.ndarray:
    scores = metrics.bss_eval(
        truth, made, framewise_filters=config.mode == "v3", silent=config.silent, **options
    )
    return np.stack([scores.sdr, scores.isr, scores.sir, scores.sar])


def _museval_scores(truth: np.ndarray, made: np.ndarray, config: ScoringConfig, **options: Any) -> np.ndarray:
    bss_eval = import_museval().metrics.bss_eval
    try:
        *scores, _ = bss_eval(
            *(x.astype(float).swapaxes(1, 2) for x in (truth, made)),
            framewise_filters=config.mode == "v3",
            **options,
        )
    except Exception as error:  # whatever it is, it concerns this song only
        raise ValueError(f"museval cannot score it ({type(error).__name__}: {error})") from None
    return np.stack(scores)


def import_museval() -> Any:
    """The original, which also wants musdb, stempeg and ffmpeg to be there.

    Raises:
        ValueError: something of that is missing.
    """
    try:
        import museval
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"scorer: expected museval and ffmpeg, got an installation without ({reason})"
        ) from None
    return museval
