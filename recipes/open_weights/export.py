"""Writes the nets of a training run as the model that ships: smaller numbers, calibrated masks, a card.

    python -m recipes.open_weights.export --run run --output jaxsep/weights/umx-open --dtype int8

The folder holds a pair of files a target, SHA256SUMS and CARD.md.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from jaxsep.io.checkpoint import load_weights, read_json, save_weights
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.sources import ATTRIBUTIONS

__all__ = ["main", "with_gain"]

_LARGEST = 40e6  # bytes, of the whole folder


def with_gain(variables: dict[str, Any], gain: float) -> dict[str, Any]:
    """The net whose masks are ``gain`` times as high: before the last relu both its terms scale with it."""
    scaled = {name: gain * variables["params"][name] for name in ("output_scale", "output_mean")}
    return {"params": {**variables["params"], **scaled}, "batch_stats": variables["batch_stats"]}


def main(argv: list[str] | None = None) -> int:
    """Write the folder."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--run", type=Path, required=True, help="output folder of train")
    p.add_argument(
        "--nets", choices=("last", "model"), default="last", help="the last average, or the best of each"
    )
    p.add_argument("--output", type=Path, required=True, help="folder of the model")
    p.add_argument("--dtype", default="float16", choices=("float32", "float16", "int8"))
    p.add_argument("--scores", type=Path, help="text for the card: scores and the commands that gave them")
    args = p.parse_args(argv)
    gains_file = args.run / "gains.json"
    try:
        gains = read_json(gains_file)["gains"] if gains_file.exists() else dict.fromkeys(STEMS, 1.0)
        models = {name: load_weights(args.run / args.nets, name) for name in STEMS}
        for name, model in models.items():
            metadata = {**model.metadata, "gain": gains[name]}
            variables = with_gain(model.variables, gains[name])
            save_weights(args.output, name, variables, model.config, dtype=args.dtype, metadata=metadata)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    scores = args.scores.read_text() if args.scores else ""
    _write_sums(args.output)
    (args.output / "CARD.md").write_text(
        card(models[STEMS[0]].metadata, gains, args.dtype, args.output, scores)
    )
    size = sum(file.stat().st_size for file in args.output.iterdir())
    print(f"{args.output}: {', '.join(STEMS)}, {size / 1e6:.1f} MB")
    if size > _LARGEST:
        print(f"expected at most {_LARGEST / 1e6:.0f} MB; use --dtype int8", file=sys.stderr)
        return 1
    return 0


def _write_sums(folder: Path) -> None:
    """SHA-256 of the weights, as ``sha256sum --check`` reads them."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(folder.glob("*.safetensors"))
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def card(metadata: dict[str, Any], gains: dict[str, float], dtype: str, folder: Path, scores: str) -> str:
    """The model card."""
    rows = "\n".join(f"| {name} | {licence} | {gives} |" for name, licence, gives in ATTRIBUTIONS)
    sums = (folder / "SHA256SUMS").read_text()
    facts = {key: metadata[key] for key in ("version", "licence", "songs", "init") if key in metadata}
    return f"""# umx-open

Four Open-Unmix nets (vocals, drums, bass, other) that separate stereo music at 44.1 kHz. Anyone may use them for
anything, under the MIT licence of jaxsep.

Facts: {json.dumps(facts)}; stored as {dtype}; gains of the masks {json.dumps(gains)}.

## What they are for

Stems worth having on a machine without a network. Where the licence of weights trained on MUSDB18 allows their use,
those are stronger: `python separate.py --model umxhq mix.wav` downloads them.

## What they heard

| source | licence | gives |
|---|---|---|
{rows}

No sound of these sources is in the weights' files. Held back for validation: the song rubidium, and every thirtieth
rendered song. The excerpt of Falcon 69 is the test: nothing was chosen by it.

## What to expect

They learned from one recorded album, many sampled instruments and singers made from speech: on acoustic recordings and
on voices that are neither, expect more leakage than from nets trained on a hundred real songs.

{scores}
## Made by

`recipes/open_weights`, see its README for the commands.

## SHA-256

```
{sums}```
"""


if __name__ == "__main__":
    sys.exit(main())
