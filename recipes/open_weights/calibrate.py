"""Finds the gain that each net's masks want on songs that they have not heard.

    python -m recipes.open_weights.calibrate --corpus corpus --model run/last --output run/gains.json

Nets that learn from few sounds are too sure of themselves elsewhere. The Wiener filter shares the mixture out by the
nets' powers, so that what matters is one net against the others: all gains together are chosen to maximise the mean
signal-to-distortion ratio of the filtered stems on the held-back excerpts, one gain after the other, twice round.
"""

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxsep import openunmix
from jaxsep.filtering import wiener
from jaxsep.io.checkpoint import Weights, load_weights, write_json
from jaxsep.stft import stft
from recipes.open_weights.cache import open_corpus
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.validate import excerpts_of

__all__ = ["best_gains", "main", "stem_sdr"]

_FACTORS = (0.63, 0.79, 1.0, 1.26, 1.58)  # steps of 2 dB
_BOUNDS = (0.3, 2.0)


@jax.jit
def _sdr(magnitudes: jax.Array, mixture: jax.Array, truth: jax.Array, gains: jax.Array) -> jax.Array:
    """SDR in dB of each source of an excerpt, of spectrograms; NaN where it is all but silent."""
    estimate = wiener(gains[:, None, None, None] * magnitudes, mixture, n_iters=1)
    power = jnp.sum(jnp.abs(truth) ** 2, axis=(1, 2, 3))
    error = jnp.sum(jnp.abs(estimate - truth) ** 2, axis=(1, 2, 3))
    sounds = power > 1e-2 * power.sum()
    # A stem that is estimated as nothing has 0 dB: below -10 dB nobody minds how bad it is.
    return jnp.where(sounds, jnp.maximum(10 * jnp.log10(power / error), -10.0), jnp.nan)


def stem_sdr(prepared: list[tuple[jax.Array, jax.Array, jax.Array]], gains: np.ndarray) -> np.ndarray:
    """Mean SDR of each source in dB over the excerpts in which it sounds."""
    rows = np.array([np.asarray(_sdr(*one, jnp.asarray(gains, jnp.float32))) for one in prepared])
    return np.nanmean(rows.astype(np.float64), axis=0)


def prepare(models: list[Weights], excerpts: np.ndarray) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
    """What the nets make of each excerpt: magnitudes, mixture, truth."""
    config = models[0].config
    apply = jax.jit(lambda variables, magnitude: openunmix.apply(variables, magnitude, config))
    prepared = []
    for stems in excerpts:
        truth = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length)
        mixture = truth.sum(axis=0)
        magnitudes = jnp.stack([apply(model.variables, jnp.abs(mixture)) for model in models])
        prepared.append((magnitudes, mixture, truth))
    return prepared


def best_gains(prepared: list[tuple[jax.Array, jax.Array, jax.Array]]) -> np.ndarray:
    """The gains, in steps of 2 dB, that maximise the mean over sources of `stem_sdr`."""
    gains = np.ones(len(STEMS))
    best = stem_sdr(prepared, gains).mean()
    for index in (*range(len(STEMS)), *range(len(STEMS))):
        start = gains[index]
        for factor in _FACTORS:
            tried = gains.copy()
            tried[index] = np.clip(start * factor, *_BOUNDS)
            score = stem_sdr(prepared, tried).mean()
            if score > best + 1e-3:
                best, gains = score, tried
    return gains


def main(argv: list[str] | None = None) -> int:
    """Write the gains."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--corpus", type=Path, required=True)
    p.add_argument("--cache", type=Path, help="folder for decoded sound; beside the corpus if left out")
    p.add_argument("--model", type=Path, required=True, help="folder of the four nets, not calibrated yet")
    p.add_argument("--output", type=Path, required=True, help="JSON file")
    p.add_argument("--excerpts", type=int, default=12, help="of 6 s from each group of held-back songs")
    args = p.parse_args(argv)
    try:
        stems = open_corpus(args.corpus, args.cache or args.corpus.with_name(args.corpus.name + "-cache"))
        groups = excerpts_of(stems, songs=12, excerpts=args.excerpts)
        models = [load_weights(args.model, name) for name in STEMS]
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not groups:
        print(f"{args.corpus}: expected held-back songs, found none", file=sys.stderr)
        return 2
    prepared = prepare(models, np.concatenate(list(groups.values())))
    gains = best_gains(prepared)
    before, after = stem_sdr(prepared, np.ones(len(STEMS))), stem_sdr(prepared, gains)
    result = {
        "gains": dict(zip(STEMS, gains.round(3).tolist(), strict=True)),
        "sdr_before": dict(zip(STEMS, before.round(2).tolist(), strict=True)),
        "sdr": dict(zip(STEMS, after.round(2).tolist(), strict=True)),
        "excerpts": len(prepared),
        "groups": sorted(groups),
    }
    write_json(args.output, result)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
