"""Scores methods on "Falcon 69" by The Easton Ellises, the six seconds of real music that `stempeg` brings along.

    python examples/falcon69.py                                         # the weights in the package, beside others
    python examples/falcon69.py --scorer museval                        # the original's numbers
    python examples/falcon69.py --model run/model --oracle mixture      # any options of `jaxsep evaluate`
    python examples/falcon69.py --report                                # and a page to look at and listen to

The true stems go to OUTDIR/truth, everything else is what `jaxsep evaluate` makes of them. It needs `pip install
--no-deps stempeg` for the song and `jaxsep[formats]` to decode it.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from jaxsep import cli
from jaxsep.io import audio, musdb

START, STOP = 0.10, 5.95  # seconds: at either end is what AAC leaves of nothing
BESIDE = ["--method", "umx", "classic", "nmf", "--oracle", "irm", "mixture"]


def main(argv: list[str] | None = None) -> int:
    """Write the stems and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--outdir", type=Path, default=Path("falcon69"), help="default: %(default)s")
    arguments, options = parser.parse_known_args(argv)
    spec = importlib.util.find_spec("stempeg")  # located, not imported: its import wants an ffmpeg program
    if spec is None:
        print("falcon69: expected the package stempeg: pip install --no-deps stempeg", file=sys.stderr)
        return 2
    (track,) = musdb.find_tracks(Path(spec.origin).parent / "data")
    sounds, rate = musdb.load_stems(track, [*track.stems, musdb.MIXTURE])
    folder = arguments.outdir / "truth" / "Falcon 69"
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in sounds.items():
        path = folder / f"{name}.wav"
        if not path.exists():  # what is known of a file that is written again is not known any more
            audio.save(path, sound[:, round(START * rate) : round(STOP * rate)], rate, subtype="FLOAT")
    asked = any(option in options for option in ("--method", "--model", "--oracle", "--estimates"))
    destination = ["--outdir", str(arguments.outdir)]
    return cli.main(["evaluate", str(folder.parent), *destination, *([] if asked else BESIDE), *options])


if __name__ == "__main__":
    sys.exit(main())
