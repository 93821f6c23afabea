"""Renders `mix.flac`, the song of the README, and its true stems on request.

    python examples/render_mix.py                  # examples/mix.flac
    python examples/render_mix.py --stems truth    # also truth/vocals.flac, drums, bass, other

The same seed gives the same song, so the stems need not be stored.
"""

import argparse
import sys
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # `datasets` is not installed with the package

from datasets.synthetic import render  # noqa: E402

SEED, SECONDS, RATE = 42, 12.0, 44100


def main(argv: list[str] | None = None) -> int:
    """Write the mixture and, if asked, its stems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, help="default: examples/mix.flac, mix_SEED.flac for other seeds"
    )
    parser.add_argument("--stems", type=Path, help="folder for the true stems")
    parser.add_argument("--seed", type=int, default=SEED, help="another song")
    args = parser.parse_args(argv)
    name = "mix.flac" if args.seed == SEED else f"mix_{args.seed}.flac"
    stems = render(args.seed, SECONDS, RATE)
    soundfile.write(args.output or ROOT / "examples" / name, sum(stems.values()).T, RATE, subtype="PCM_16")
    if args.stems:
        args.stems.mkdir(parents=True, exist_ok=True)
        for name, stem in stems.items():
            soundfile.write(args.stems / f"{name}.flac", stem.T, RATE, subtype="PCM_16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
