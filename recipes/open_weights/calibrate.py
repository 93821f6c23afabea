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

import numpy as np

from jaxsep import training
from jaxsep.io.checkpoint import write_json
from recipes.open_weights.cache import open_corpus
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.nets import load_nets
from recipes.open_weights.validate import Prepared, excerpts_of, mean_sdr, prepare

__all__ = ["best_gains", "main"]

_FACTORS = (0.63, 0.79, 1.0, 1.26, 1.58)  # steps of 2 dB
_BOUNDS = (0.3, 2.0)


def best_gains(prepared: list[Prepared]) -> np.ndarray:
    """The gains, in steps of 2 dB, that maximise the mean over sources of `mean_sdr`."""
    gains = np.ones(len(STEMS))
    best = mean_sdr(prepared, gains).mean()
    for index in (*range(len(STEMS)), *range(len(STEMS))):
        start = gains[index]
        for factor in _FACTORS:
            tried = gains.copy()
            tried[index] = np.clip(start * factor, *_BOUNDS)
            score = mean_sdr(prepared, tried).mean()
            if score > best + 1e-3:
                best, gains = score, tried
    return gains


def main(argv: list[str] | None = None) -> int:
    """Write the gains."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--corpus", type=Path, required=True)
    p.add_argument("--cache", type=Path, help="folder for decoded sound; beside the corpus if left out")
    p.add_argument("--model", type=Path, required=True, help="folder of the four nets")
    p.add_argument("--output", type=Path, required=True, help="JSON file")
    p.add_argument("--excerpts", type=int, default=12, help="of 6 s from each group of held-back songs")
    args = p.parse_args(argv)
    try:
        stems = open_corpus(args.corpus, args.cache or args.corpus.with_name(args.corpus.name + "-cache"))
        groups = excerpts_of(stems, songs=12, excerpts=args.excerpts)
        config, nets, _ = load_nets(args.model)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if not groups:
        print(f"{args.corpus}: expected held-back songs, found none", file=sys.stderr)
        return 2
    variables = training.stack(nets)
    excerpts = np.concatenate(list(groups.values()))
    prepared = [prepare(variables, stems, config) for stems in excerpts]
    gains = best_gains(prepared)
    before, after = mean_sdr(prepared, np.ones(len(STEMS))), mean_sdr(prepared, gains)
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
