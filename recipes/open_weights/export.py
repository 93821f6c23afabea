"""Writes the nets of a training run as the model that ships: smaller numbers, calibrated masks, a card.

    python -m recipes.open_weights.export --run run --output jaxsep/weights/umx-open --dtype int8

The folder holds a pair of files a target, SHA256SUMS and CARD.md.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import jax

from jaxsep.io.checkpoint import read_json, save_weights
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.nets import Nets, load_nets, with_gain
from recipes.open_weights.sources import ATTRIBUTIONS

__all__ = ["main"]

_LARGEST = 40e6  # bytes, of the whole folder
# Steps of `jaxsep.adaptation` that separation shall make, and how often `jaxsep.hearing`: docs/open_weights.md.
_ASKED = {"adaptation": 20, "hearings": 2}


def main(argv: list[str] | None = None) -> int:
    """Write the folder."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--run", type=Path, required=True, help="output folder of train")
    p.add_argument(
        "--nets",
        choices=("last", "model", "averaged"),
        default="last",
        help="after the last step, the best of each target, or what average made",
    )
    p.add_argument("--output", type=Path, required=True, help="folder of the model")
    p.add_argument("--dtype", default="float16", choices=("float32", "float16", "int8"))
    p.add_argument("--notes", type=Path, help="text for the card: scores, commands, time and machine")
    args = p.parse_args(argv)
    gains_file = args.run / "gains.json"
    try:
        gains = read_json(gains_file)["gains"] if gains_file.exists() else dict.fromkeys(STEMS, 1.0)
        nets = load_nets(args.run / args.nets)
        for name, variables, facts in zip(STEMS, nets.variables, nets.metadata, strict=True):
            louder = with_gain(variables, gains[name])
            metadata = {**facts, "gain": gains[name], **_ASKED}
            save_weights(args.output, name, louder, nets.config, dtype=args.dtype, metadata=metadata)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    notes = args.notes.read_text() if args.notes else ""
    _write_sums(args.output)
    (args.output / "CARD.md").write_text(card(nets, gains, args.dtype, args.output, notes))
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


def card(nets: Nets, gains: dict[str, float], dtype: str, folder: Path, notes: str) -> str:
    """The model card."""
    config, facts = nets.config, nets.metadata[0]
    rows = "\n".join(f"| {name} | {licence} | {gives} |" for name, licence, gives in ATTRIBUTIONS)
    sums = (folder / "SHA256SUMS").read_text()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nets.variables[0]["params"])) / 1e6
    made = ", ".join(f"{name} {gain:g}" for name, gain in gains.items())
    chosen = any(gain != 1 for gain in gains.values())
    gained = f"the masks' gains were chosen on them ({made})" if chosen else "the masks' gains are left at 1"
    averages = [
        f"{n} of {f['averaged']}" for n, f in zip(STEMS, nets.metadata, strict=True) if "averaged" in f
    ]
    averaged = f" Averages of models: {', '.join(averages)}." if averages else ""
    return f"""# umx-open

Version {facts["version"]} · {", ".join(STEMS)} · {config.sample_rate / 1000:g} kHz stereo · licence: {facts["licence"]}

Four Open-Unmix nets (hidden size {config.hidden_size}, {config.n_layers} LSTM layers, {parameters:.1f} million
parameters each, kernels stored as {dtype}), trained together on {facts["songs"]} songs.
Begun from: {facts["init"]}.{averaged}
Separation adapts their magnitudes to the song in {_ASKED["adaptation"]} steps; the net of vocals
hears it {_ASKED["hearings"]} times.

They are in the package so that the first separation works offline and may be used for anything. Where the licence of
weights trained on MUSDB18 allows their use, those are stronger: `python separate.py --model umxhq mix.wav` downloads
them.

## What they have heard

| sound | licence | gives |
|---|---|---|
{rows}

No MUSDB18, nothing scraped, and none of these sounds is in the weights' files. The song rubidium and every thirtieth
rendered song were held back to choose by; {gained}.

## What to expect

They learned from one recorded album, many sampled instruments and singers made from speech: on acoustic recordings and
on voices that are neither, expect more leakage than from nets trained on a hundred real songs.

{notes}
## SHA-256

```
{sums}```
"""


if __name__ == "__main__":
    sys.exit(main())
