"""Writes the average weights of a training run as a model folder that `separate.py --model` loads.

python -m recipes.umx_open.export --run run --output jaxsep/weights/umx-open --dtype float16
"""

import argparse
import json
import sys
from pathlib import Path

import jax

from datasets.synthetic import STEMS
from jaxsep import training
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import save_weights
from recipes.umx_open.train import OPTIMIZER, restore

__all__ = ["main"]

SOURCES = (
    "Everything is Free, Software-Entwicklungskit (CC0 1.0)",
    "FluidR3 GM soundfont, Frank Wen and others (MIT)",
    "Sonic Pi's samples, many authors on Freesound (CC0 1.0)",
    "Audiophob drum kit (CC0 1.0)",
    "Sectoid's song pack for Frets on Fire, Carlos Viola Iborra (MIT)",
    "synthetic songs of datasets.synthetic (MIT)",
)


def main(argv: list[str] | None = None) -> int:
    """Write one pair of files a target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="output folder of train")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--dtype", default="float16", choices=("float32", "float16", "int8"))
    parser.add_argument("--licence", default="MIT")
    args = parser.parse_args(argv)
    config = OpenUnmixConfig.from_json(json.loads((args.run / "config.json").read_text()))
    fresh = training.init_state(config, OPTIMIZER, n_targets=len(STEMS), key=jax.random.key(0))
    state, progress = restore(args.run / "state.npz", fresh)
    calibrated = args.run / "gains.json"
    gains = json.loads(calibrated.read_text()) if calibrated.exists() else dict.fromkeys(STEMS, 1.0)
    for index, target in enumerate(STEMS):
        metadata = {
            "licence": args.licence,
            "sources": SOURCES,
            "steps": int(state.step),
            "minutes": round(progress["seconds"] / 60, 1),
            "gain": gains[target],
            "settings": json.loads((args.run / "settings.json").read_text()),
            "history": progress["history"],
        }
        save_weights(
            args.output,
            target,
            _with_gain(training.unstack(state.average, index), gains[target]),
            config,
            dtype=args.dtype,
            metadata=metadata,
        )
    size = sum(file.stat().st_size for file in args.output.iterdir())
    print(f"{args.output}: {', '.join(STEMS)} after {int(state.step)} steps, {size / 1e6:.1f} MB")
    return 0


def _with_gain(variables: dict, gain: float) -> dict:
    """The net whose masks are ``gain`` times as high: before the last relu both its terms scale with it."""
    scaled = {name: gain * variables["params"][name] for name in ("output_scale", "output_mean")}
    return {"params": {**variables["params"], **scaled}, "batch_stats": variables["batch_stats"]}


if __name__ == "__main__":
    sys.exit(main())
