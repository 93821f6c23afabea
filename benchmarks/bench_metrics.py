"""BSSEval version 4: museval and jaxsep in turn, on the same song of stereo sources.

    python benchmarks/bench_metrics.py [--seconds 30 240] [--sources 4] [--repeats 3] [--no-museval]

The song is noise with the spectrum of music and estimates that leak: the work does not depend on what they hold.
The peak is that of the whole process up to then, input included, jaxsep before museval.
"""

import argparse
import importlib.metadata
import importlib.util
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import measure, report

from jaxsep import metrics

RATE = 44100


def song(seconds: float, n_sources: int) -> tuple[np.ndarray, np.ndarray]:
    """References and estimates, float32 `(source, channel, time)`."""
    rng = np.random.default_rng(0)
    references = 0.1 * rng.standard_normal((n_sources, 2, int(seconds * RATE)), np.float32)
    references[..., 1:] += 0.9 * references[..., :-1]
    references[:, 1] += 0.5 * references[:, 0]
    return references, references + 0.2 * np.roll(references, 1, axis=0)


def jaxsep_contender(references: np.ndarray, estimates: np.ndarray) -> Callable[[], Any]:
    return lambda: metrics.bss_eval(references, estimates)


def museval_contender(references: np.ndarray, estimates: np.ndarray) -> Callable[[], Any]:
    # The module alone: the package itself does not import without ffmpeg.
    files = importlib.metadata.files("museval") or []
    path = next(file for file in files if str(file).endswith("museval/metrics.py")).locate()
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    audio = [np.ascontiguousarray(x.swapaxes(1, 2), float) for x in (references, estimates)]
    return lambda: module.bss_eval(*audio, window=RATE, hop=RATE)


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0])
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-museval", action="store_true")
    args = parser.parse_args(argv)

    rows = []
    for seconds in args.seconds:
        audio = song(seconds, args.sources)
        contenders = {"jaxsep": jaxsep_contender(*audio)}
        contenders["jaxsep"]()
        peak = peak_megabytes()
        if not args.no_museval:
            contenders["museval"] = museval_contender(*audio)
        timings = measure(contenders, repeats=args.repeats)
        slowest = max(timing.best for timing in timings.values())
        for name, timing in timings.items():
            row = {"seconds": seconds, "sources": args.sources, "contender": name, **timing.row()}
            row["times_slowest"] = slowest / timing.best
            if name == "jaxsep":
                row["peak_mb"] = peak
            rows.append(row)
    report("metrics", rows)


if __name__ == "__main__":
    main()
