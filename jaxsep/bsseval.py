"""BSSEval: how much of an estimate is the source itself, its filtering, the other sources, artifacts.

An estimate is projected on the space spanned by the delayed references, once on those of its own source and
once on those of all sources. What the first projection adds to the truth is filtering (spatial) distortion,
what the second adds to the first is interference, and what is left over are artifacts. Version 4 finds the
projection filters once for the whole track and measures energies frame by frame; version 3 finds new filters
in every frame.

Sources:
    E. Vincent, R. Gribonval and C. Févotte, "Performance measurement in blind audio source separation", IEEE
    Trans. Audio, Speech and Language Processing 14(4), 2006 (the decomposition).
    E. Vincent, H. Sawada, P. Bofill, S. Makino and J. Rosca, "First stereo audio source separation evaluation
    campaign", ICA 2007 (source images, ISR).
    A. Liutkus, F.-R. Stöter and N. Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018
    (version 4).

Everything is computed in double precision, whatever the caller's setting.
"""

import math
from typing import Literal, NamedTuple, get_args

import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from jaxsep.projection import Energies, projection_energies
from jaxsep.sample_blocks import double_precision

__all__ = ["BSSEvalScores", "SilentPolicy", "bss_eval"]

SilentPolicy = Literal["nan", "skip", "zero"]


class BSSEvalScores(NamedTuple):
    """Ratios in dB, float64, one row a source and one column a frame; `inf` where nothing is wrong."""

    sdr: Float[np.ndarray, "source frame"]  # source to distortion: all errors
    isr: Float[np.ndarray, "source frame"]  # source image to spatial (filtering) distortion
    sir: Float[np.ndarray, "source frame"]  # source to interference
    sar: Float[np.ndarray, "source frame"]  # sources to artifacts
    permutation: Int[np.ndarray, "source frame"]  # which estimate was scored against the source


def bss_eval(
    references: ArrayLike,
    estimates: ArrayLike,
    *,
    window: float = 44100,
    hop: float = 44100,
    filters_len: int = 512,
    framewise_filters: bool = False,
    bsseval_sources_version: bool = False,
    compute_permutation: bool = False,
    silent: SilentPolicy = "nan",
) -> BSSEvalScores:
    r"""Score estimates against references by BSSEval version 4 (or 3), frame by frame.

    With :math:`P_j` the projection on the delayed channels of reference j and :math:`P` that on all of them,

    .. math::
        \hat s_j = s_j + \underbrace{P_j \hat s_j - s_j}_{e_{spat}}
                 + \underbrace{P \hat s_j - P_j \hat s_j}_{e_{interf}}
                 + \underbrace{\hat s_j - P \hat s_j}_{e_{artif}}

        SDR = \frac{\|s_j\|^2}{\|e_{spat} + e_{interf} + e_{artif}\|^2} \quad
        ISR = \frac{\|s_j\|^2}{\|e_{spat}\|^2} \quad
        SIR = \frac{\|s_j + e_{spat}\|^2}{\|e_{interf}\|^2} \quad
        SAR = \frac{\|s_j + e_{spat} + e_{interf}\|^2}{\|e_{artif}\|^2}

    The defaults are version 4 as the SiSEC 2018 campaign and museval's `evaluate` use it at 44.1 kHz: one
    second a frame, no overlap. Version 3 is `framewise_filters=True`; the oldest `bss_eval_sources` is
    `framewise_filters=True, bsseval_sources_version=True`; for one number a song say `window=math.inf`.

    It takes concrete arrays, compiles its own pieces and must not be jitted, vmapped or differentiated.

    Args:
        references: true sources, `(source, channel, time)`, any real type, any scale, finite.
        estimates: estimates, of the same shape and in the order of the references.
        window: samples in a frame, >= 1; `math.inf`, or more than there are: one frame with everything.
        hop: samples from frame to frame, >= 1. A frame that would be incomplete at the end is left out.
        filters_len: taps of the distortion filters, i.e. delays 0 to filters_len - 1.
        framewise_filters: find filters anew in every frame (version 3: slow).
        bsseval_sources_version: take the filtered source for the truth, as `bss_eval_sources` does; filtering
            is then no error and the ISR is NaN.
        compute_permutation: find the order of estimates with the highest mean SIR, once for the track, or in
            each frame with `framewise_filters`.
        silent: what a frame scores in which a reference or its estimate has only zeros. "nan": NaN, for that
            source alone. "zero": 0 dB, for that source alone. "skip": NaN for all sources, as museval has it,
            whose published medians skip such frames; a source silent from start to end, which museval
            refuses, is NaN itself and makes no other source skip.

    Returns:
        BSSEvalScores, NumPy float64 arrays `(source, frame)`.

    Raises:
        TypeError: for complex or traced input.
        ValueError: for shapes that differ, have not three axes or hold no samples, for NaN or infinite
            samples, and for options out of range.

    Example:
        >>> import numpy as np
        >>> from jaxsep import metrics
        >>> references = np.random.default_rng(0).standard_normal((2, 1, 4000))
        >>> leaky = references + 0.1 * references[::-1]
        >>> scores = metrics.bss_eval(references, leaky, window=2000, hop=2000, filters_len=8)
        >>> scores.sir.shape, scores.sir.round().tolist()
        ((2, 2), [[20.0, 20.0], [20.0, 20.0]])
    """
    references, estimates = _checked_audio(references, estimates)
    _check_options(window, hop, filters_len, silent)
    n_sources, _, n_samples = references.shape
    frames = _frames(n_samples, window, hop)
    pairs = _pairs(n_sources, compute_permutation)

    with double_precision():
        if framewise_filters:
            parts = [
                projection_energies(
                    references[..., a:b], estimates[..., a:b], pairs, [(0, b - a)], filters_len
                )
                for a, b in frames
            ]
            energies = Energies(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
        else:
            energies = projection_energies(references, estimates, pairs, frames, filters_len)

    ratios = _ratios(energies, bsseval_sources_version)  # (ratio, pair, frame)
    table = np.full((4, n_sources, n_sources, len(frames)), np.nan)
    table[:, pairs[:, 0], pairs[:, 1]] = ratios

    silent_references, silent_estimates = _silent(references, frames), _silent(estimates, frames)
    permutation = np.repeat(np.arange(n_sources)[:, None], len(frames), axis=1)
    if compute_permutation:
        unscored = silent_references[:, None] | silent_estimates[None]
        sir = np.where(unscored, np.nan, table[2])
        groups = [slice(t, t + 1) for t in range(len(frames))] if framewise_filters else [slice(None)]
        for group in groups:
            permutation[:, group] = _best_permutation(sir[..., group])[:, None]
    row, column = np.arange(n_sources)[:, None], np.arange(len(frames))[None]
    scores = table[:, row, permutation, column]
    unscored = silent_references | silent_estimates[permutation, column]
    return BSSEvalScores(*_with_policy(scores, unscored, silent), permutation)


def _checked_audio(references: ArrayLike, estimates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both signals as arrays on the host, in the precision they came in."""
    checked = []
    for name, value in (("references", references), ("estimates", estimates)):
        if isinstance(value, jax.core.Tracer):
            raise TypeError(
                f"bss_eval expected concrete {name}, got a traced array: call it outside jit, vmap and grad"
            )
        array = np.asarray(value)
        if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
            raise TypeError(f"expected real {name}, got dtype {array.dtype}")
        if array.ndim != 3:
            raise ValueError(f"expected {name} of shape (source, channel, time), got shape {array.shape}")
        checked.append(array)
    references, estimates = checked
    if references.shape != estimates.shape:
        raise ValueError(
            f"expected references and estimates of the same shape (source, channel, time), "
            f"got {references.shape} and {estimates.shape}"
        )
    if references.size == 0:
        raise ValueError(f"expected at least one source, channel and sample, got shape {references.shape}")
    for name, array in (("references", references), ("estimates", estimates)):
        # One source at a time: the mask of finite samples must not cost as much as the song.
        bad = [j for j, source in enumerate(array) if not np.isfinite(source).all()]
        if bad:
            raise ValueError(f"expected finite {name}, got NaN or infinite samples in source {bad[0]}")
    return references, estimates


def _check_options(window: float, hop: float, filters_len: int, silent: str) -> None:
    for name, value in (("window", window), ("hop", hop)):
        if not value >= 1:  # also NaN
            raise ValueError(f"expected {name} of at least one sample, got {value}")
    if filters_len != int(filters_len) or filters_len < 1:
        raise ValueError(f"expected filters_len to be a whole number of at least one tap, got {filters_len}")
    if silent not in get_args(SilentPolicy):
        raise ValueError(f"expected silent to be one of {get_args(SilentPolicy)}, got {silent!r}")


def _frames(n_samples: int, window: float, hop: float) -> list[tuple[int, int]]:
    """Start and stop of every complete frame, or the whole signal where not one is complete."""
    if window >= n_samples:
        return [(0, n_samples)]
    n_frames = 1 if math.isinf(hop) else int((n_samples - window + hop) // hop)
    starts = [0.0] if n_frames == 1 else [t * hop for t in range(n_frames)]
    return [(int(start), int(start + window)) for start in starts]


def _pairs(n_sources: int, all_pairs: bool) -> Int[np.ndarray, "pair 2"]:
    """Which (reference, estimate) to compare: each with its own, or all with all."""
    if all_pairs:
        return np.stack(np.meshgrid(*2 * [np.arange(n_sources)], indexing="ij"), axis=-1).reshape(-1, 2)
    return np.repeat(np.arange(n_sources)[:, None], 2, axis=1)


def _ratios(energies: Energies, bsseval_sources_version: bool) -> Float[np.ndarray, "ratio pair frame"]:
    e = energies
    if bsseval_sources_version:
        sdr, isr = _decibels(e.filtered, e.unfiltered), np.full_like(e.true, np.nan)
    else:
        sdr, isr = _decibels(e.true, e.error), _decibels(e.true, e.spatial)
    return np.stack([sdr, isr, _decibels(e.filtered, e.interference), _decibels(e.projected, e.artifacts)])


def _decibels(wanted: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """10 log10 of the ratio; infinite where nothing is unwanted, also where nothing is wanted either."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.where(unwanted == 0, np.inf, wanted / np.where(unwanted == 0, 1, unwanted)))


def _silent(audio: np.ndarray, frames: list[tuple[int, int]]) -> np.ndarray:
    """Which sources have only zeros in which frames, `(source, frame)`."""
    return np.stack([~audio[..., a:b].any(axis=(1, 2)) for a, b in frames], axis=1)


def _with_policy(scores: np.ndarray, unscored: np.ndarray, silent: SilentPolicy) -> np.ndarray:
    if silent == "zero":
        return np.where(unscored, np.where(np.isnan(scores), scores, 0.0), scores)
    if silent == "skip":
        throughout = unscored.all(axis=1, keepdims=True)
        unscored = unscored | (unscored & ~throughout).any(axis=0, keepdims=True)
    return np.where(unscored, np.nan, scores)


def _best_permutation(sir: Float[np.ndarray, "source estimate frame"]) -> Int[np.ndarray, " source"]:
    """The estimate for each source with which the mean SIR over sources and scored frames is highest."""
    from scipy.optimize import linear_sum_assignment  # JAX itself stands on SciPy

    # Frames without a score do not vote, and an infinite ratio counts as a very good one.
    votes = np.isfinite(sir) | np.isinf(sir)
    bounded = np.clip(np.where(votes, sir, 0.0), -1e3, 1e3)
    mean = bounded.sum(axis=-1) / np.maximum(votes.sum(axis=-1), 1)
    return linear_sum_assignment(mean, maximize=True)[1]
