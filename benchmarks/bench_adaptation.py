"""What adaptation to the song and the second hearing cost: the model in the package with and without, audio to audio.

    python benchmarks/bench_adaptation.py
    python benchmarks/bench_adaptation.py --song song.wav --seconds 60 240 --repeats 5

The song is repeated up to the length asked for.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from bench_separation import ROOT, song_of
from harness import measure, report

from jaxsep import load_separator, memory, separate

CONTENDERS = {
    "the nets alone": {"adaptation": 0, "hearings": 1},
    "adapted": {"hearings": 1},
    "adapted, vocals heard twice": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--song", type=Path, default=ROOT / "examples" / "mix.flac")
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    memory.keep()  # as the commands do
    separator, rows = load_separator(), []
    for length in arguments.seconds:
        audio, rate = song_of(arguments.song, length)
        audio = np.ascontiguousarray(audio.T)
        contenders = {
            name: partial(separate, audio, rate, separator=separator, **options)
            for name, options in CONTENDERS.items()
        }
        timings = measure(contenders, repeats=arguments.repeats)
        rows += [{"seconds": length, "contender": name, **timing.row()} for name, timing in timings.items()]
    report("adaptation", rows)


if __name__ == "__main__":
    main()
