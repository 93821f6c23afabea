"""How well nets do on songs that they have not heard, in a form quick enough for every epoch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsep.config import OpenUnmixConfig
from jaxsep.training import eval_step
from recipes.open_weights.cache import Stem, held_back, whole_song
from recipes.open_weights.corpus import STEMS

__all__ = ["excerpts_of", "magnitude_snr"]

_BATCH = 4


def excerpts_of(
    stems: list[Stem], *, seconds: float = 6.0, songs: int = 4, excerpts: int = 12
) -> dict[str, np.ndarray]:
    """Excerpts of the held-back songs: the recorded ones each, the first few rendered ones together."""
    cut = {name: whole_song(song, seconds=seconds) for name, song in sorted(held_back(stems).items())}
    rendered = [name for name in cut if name.startswith("rendered")][:songs]
    groups = {name: cut[name] for name in cut if name.startswith("recorded")}
    if rendered:
        groups["rendered"] = np.concatenate([cut[name] for name in rendered])
    return {
        name: group[np.unique(np.linspace(0, len(group) - 1, excerpts).astype(int))]
        for name, group in groups.items()
        if len(group)
    }


def magnitude_snr(
    variables: Any, groups: Mapping[str, np.ndarray], config: OpenUnmixConfig
) -> dict[str, dict[str, float]]:
    """Signal-to-noise ratio of each target's magnitudes in dB, the mean over excerpts in which it sounds.

    Args:
        variables: stacked ``{"params", "batch_stats"}`` of the four nets.
        groups: name to excerpts ``(excerpt, source, 2, time)``.
        config: sizes of the nets.

    Returns:
        For each group, target to dB; NaN where it never sounds.
    """
    return {name: _group_snr(variables, excerpts, config) for name, excerpts in groups.items()}


def _group_snr(variables: Any, excerpts: np.ndarray, config: OpenUnmixConfig) -> dict[str, float]:
    count = len(excerpts)
    padded = np.pad(excerpts, [(0, -count % _BATCH), (0, 0), (0, 0), (0, 0)])
    pairs = [
        eval_step(variables, padded[n : n + _BATCH], config=config, targets=tuple(range(len(STEMS))))
        for n in range(0, len(padded), _BATCH)
    ]
    error, power = (
        np.concatenate([np.asarray(pair[i]) for pair in pairs], axis=1)[:, :count] for i in range(2)
    )
    scores = {}
    for index, name in enumerate(STEMS):
        sounds = power[index] > 1e-2 * (power.sum(axis=0) + 1e-9)
        ratio = 10 * np.log10(power[index][sounds] / error[index][sounds])
        scores[name] = float(np.mean(ratio)) if sounds.any() else float("nan")
    return scores
