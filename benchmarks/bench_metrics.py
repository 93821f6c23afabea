"""BSSEval version 4: museval and jaxsep in turn, on the same song of stereo sources.

    python benchmarks/bench_metrics.py [--seconds 30 240] [--sources 4] [--repeats 1] [--no-museval]

The song is noise with the spectrum of music and estimates that leak: the work does not depend on what they hold.
jaxsep is called once to compile and then before and after every call of museval, which has nothing to warm up and
takes minutes. Beside the seconds stand those that the processor spent, on all cores: they say more where others use
the machine. The peak is that of the whole process up to then, input included, jaxsep before museval.
"""

import argparse
import importlib.metadata
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import report

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
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--no-museval", action="store_true")
    args = parser.parse_args(argv)

    rows = []
    for seconds in args.seconds:
        audio = song(seconds, args.sources)
        ours = jaxsep_contender(*audio)
        first, _ = timed(ours)
        peak = peak_megabytes()
        theirs = None if args.no_museval else museval_contender(*audio)
        taken: dict[str, list[tuple[float, float]]] = {"jaxsep": [timed(ours)], "museval": []}
        for _ in range(args.repeats):
            if theirs is not None:
                taken["museval"].append(timed(theirs))
            taken["jaxsep"].append(timed(ours))
        for name, times in taken.items():
            if times:
                best, processor = (min(column) for column in zip(*times, strict=True))
                row = {"seconds": seconds, "sources": args.sources, "contender": name}
                rows.append(row | {"best_s": best, "processor_s": processor})
        rows[-1 if theirs is None else -2] |= {"first_s": first, "peak_mb": peak}
        if theirs is not None:
            for column in ("best_s", "processor_s"):
                rows[-2][f"times_{column}"] = rows[-1][column] / rows[-2][column]
    report("metrics", rows)


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
