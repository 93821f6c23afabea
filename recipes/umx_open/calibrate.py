"""Finds, for each net of a training run, the gain that its masks want on songs it has not heard.

    python -m recipes.umx_open.calibrate --songs everything-is-free --extra extra --output run

Nets that learn from few singers are too sure of themselves elsewhere: what they estimate is partly wrong, and then a
part of it is the better estimate. That part is found by least squares on the validation excerpts, each weighed as in
training. The Wiener filter shares the mixture out by power, so that a quiet source grows with the square of its mask:
the mask's gain is the square root. `export` multiplies the masks by it. Written to `run/gains.json`.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from datasets.synthetic import STEMS
from jaxsep import openunmix, training
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft
from recipes.umx_open.train import OPTIMIZER, gather, parser, restore

__all__ = ["best_part", "main"]


@jax.jit
def _products(estimate: jax.Array, truth: jax.Array, mixture: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted ``<estimate, truth>`` and ``<estimate, estimate>`` of one excerpt's magnitudes."""
    power, whole = jnp.mean(truth**2), jnp.mean(mixture**2) + 1e-12
    weight = 1.0 / jnp.sqrt(whole * (power + 0.05 * whole))
    return weight * jnp.vdot(estimate, truth), weight * jnp.vdot(estimate, estimate)


def best_part(
    variables: openunmix.Variables, config: OpenUnmixConfig, excerpts: np.ndarray, target: int
) -> float:
    """The factor, at most 1, that brings a net's magnitudes closest to the truth.

    Args:
        variables: the net's arrays.
        config: its sizes.
        excerpts: audio ``(excerpt, source, channel, time)``.
        target: which source the net is to find.
    """
    apply = jax.jit(lambda magnitude: openunmix.apply(variables, magnitude, config))
    with_truth = with_itself = 0.0
    for stems in excerpts:
        spectra = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length)
        mixture = jnp.abs(spectra.sum(axis=0))
        products = _products(apply(mixture), jnp.abs(spectra[target]), mixture)
        with_truth += float(products[0])
        with_itself += float(products[1])
    return min(1.0, with_truth / max(with_itself, 1e-12))


def main(argv: list[str] | None = None) -> int:
    """Write the gains."""
    args = parser().parse_args(argv)
    config = OpenUnmixConfig.from_json(json.loads((args.output / "config.json").read_text()))
    fresh = training.init_state(config, OPTIMIZER, n_targets=len(STEMS), key=jax.random.key(0))
    state, _ = restore(args.output / "state.npz", fresh)
    _, validation = gather(args)
    excerpts = np.concatenate([group.astype(np.float32) for group in validation.values()])
    gains = {}
    for index, name in enumerate(STEMS):
        part = best_part(training.unstack(state.average, index), config, excerpts, index)
        gains[name] = round(part**0.5, 3)
    (args.output / "gains.json").write_text(json.dumps(gains))
    print(f"{len(excerpts)} excerpts of {', '.join(validation)}: {gains}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
