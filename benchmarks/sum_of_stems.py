"""How much of a song the stems leave, in dB of its level, by iterations of the Wiener filter.

python benchmarks/sum_of_stems.py examples/mix.flac [other songs] [--model umx-open] [--n-iters 1 2]
"""

import argparse
from collections.abc import Sequence

import numpy as np

from jaxsep import load_separator, separate
from jaxsep.io import audio


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each song and number of iterations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", nargs="+", help="sound files")
    parser.add_argument("--model", default="umx-open", help="name or folder (default: %(default)s)")
    parser.add_argument("--n-iters", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args(argv)
    separator = load_separator(arguments.model)
    for path in arguments.songs:
        song, rate = audio.load(path)
        for n_iters in arguments.n_iters:
            stems = separate(song, rate, separator=separator, n_iters=n_iters)
            left = song - sum(stems.values())
            print(f"{path}, n_iters {n_iters}: {10 * np.log10(np.mean(left**2) / np.mean(song**2)):.1f} dB")


if __name__ == "__main__":
    main()
