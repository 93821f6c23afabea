"""Averages the weights of models that one run passed through, or that several made from one start.

    python -m recipes.open_weights.average run/last1 run/last2 run/last --output run/averaged

Steps of a dozen excerpts wander about a place that is better than where they are; an average over far more of them
than `train --ema` remembers is nearer to it. Nets that began from different weights have nothing in common to average.

Source: M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", ICML 2022.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np

from jaxsep.io.checkpoint import save_weights
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.nets import Nets, load_nets

__all__ = ["average", "main"]


def average(models: list[Nets]) -> Nets:
    """The mean of each weight; metadata are the last model's, with the number of models.

    Raises:
        ValueError: there is no model, or they have different sizes.
    """
    if not models:
        raise ValueError("expected at least one model, got none")
    config = models[-1].config
    for model in models:
        if model.config != config:
            raise ValueError(f"expected models of one size, got {model.config} and {config}")
    together = zip(*(model.variables for model in models), strict=True)
    variables = [
        jax.tree.map(lambda *arrays: np.mean(arrays, axis=0, dtype=np.float64).astype(np.float32), *nets)
        for nets in together
    ]
    metadata = [facts | {"averaged": len(models)} for facts in models[-1].metadata]
    return Nets(config, variables, metadata)


def main(argv: list[str] | None = None) -> int:
    """Write the average."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="folder of four nets")
    p.add_argument("--output", type=Path, required=True, help="folder to write")
    args = p.parse_args(argv)
    try:
        averaged = average([load_nets(model) for model in args.models])
        for name, variables, facts in zip(STEMS, averaged.variables, averaged.metadata, strict=True):
            save_weights(args.output, name, variables, averaged.config, metadata=facts)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{args.output}: the average of {len(args.models)} models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
