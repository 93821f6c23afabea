"""How well nets do on songs that they have not heard, in a form quick enough for every epoch."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.filtering import wiener
from jaxsep.stft import stft
from recipes.open_weights.cache import Stem, held_back, whole_song
from recipes.open_weights.corpus import STEMS

__all__ = ["Prepared", "excerpts_of", "mean_sdr", "prepare", "stem_sdr", "validate"]


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


class Prepared(NamedTuple):
    """What the nets make of an excerpt."""

    magnitudes: Float[Array, "source channel freq frame"]
    mixture: Complex[Array, "channel freq frame"]
    truth: Complex[Array, "source channel freq frame"]


@partial(jax.jit, static_argnames="config")
def prepare(variables: Any, stems: Float[Array, "source 2 time"], config: OpenUnmixConfig) -> Prepared:
    """Run the nets, stacked ``{"params", "batch_stats"}``, on the sum of the stems."""
    truth = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length)
    mixture = truth.sum(axis=0)
    magnitude = jnp.abs(mixture)
    magnitudes = jax.lax.map(lambda one: openunmix.apply(one, magnitude, config), variables)
    return Prepared(magnitudes, mixture, truth)


@jax.jit
def stem_sdr(prepared: Prepared, gains: Float[Array, " source"]) -> Float[Array, " source"]:
    """SDR in dB of each source behind the Wiener filter, of spectrograms; NaN where it is all but silent."""
    estimate = wiener(gains[:, None, None, None] * prepared.magnitudes, prepared.mixture, n_iters=1)
    power = jnp.sum(jnp.abs(prepared.truth) ** 2, axis=(1, 2, 3))
    error = jnp.sum(jnp.abs(estimate - prepared.truth) ** 2, axis=(1, 2, 3))
    sounds = power > 1e-2 * power.sum()
    # A stem that is estimated as nothing has 0 dB: below -10 dB nobody minds how bad it is.
    return jnp.where(sounds, jnp.maximum(10 * jnp.log10(power / error), -10.0), jnp.nan)


def mean_sdr(prepared: Iterable[Prepared], gains: np.ndarray) -> np.ndarray:
    """Mean of `stem_sdr` over the excerpts in which a source sounds; NaN where it never does."""
    gains = jnp.asarray(gains, jnp.float32)
    rows = np.array([np.asarray(stem_sdr(one, gains)) for one in prepared], np.float64)
    known = [column[~np.isnan(column)] for column in rows.T]
    return np.array([column.mean() if column.size else np.nan for column in known])


def validate(
    variables: Any, groups: Mapping[str, np.ndarray], config: OpenUnmixConfig
) -> dict[str, dict[str, float]]:
    """Signal-to-distortion ratio of each stem in dB, the mean over excerpts in which it sounds.

    Args:
        variables: stacked ``{"params", "batch_stats"}`` of the four nets.
        groups: name to excerpts ``(excerpt, source, 2, time)``.
        config: sizes of the nets.

    Returns:
        For each group, target to dB; NaN where it never sounds.
    """
    scores = {}
    for name, excerpts in groups.items():
        means = mean_sdr((prepare(variables, stems, config) for stems in excerpts), np.ones(len(STEMS)))
        scores[name] = dict(zip(STEMS, means.tolist(), strict=True))
    return scores
