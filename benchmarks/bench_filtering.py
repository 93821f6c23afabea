"""Multichannel Wiener filter: norbert, openunmix and jaxsep in turn, on the same stereo mixture.

    python benchmarks/bench_filtering.py [--frames 300 1294] [--n-iters 0 1 2] [--repeats 5]

Magnitudes and mixture are random: the work does not depend on what they hold. Each contender gets its own
axes and types (norbert double precision, as its authors advise) before the clock starts.
"""

import argparse
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from harness import measure, report

from jaxsep import filtering

N_FREQS, N_CHANNELS, N_SOURCES = 2049, 2, 4


def jaxsep_contender(v: np.ndarray, x: np.ndarray, n_iters: int) -> Callable[[], Any]:
    v, x = jax.device_put((v, x))
    return lambda: filtering.wiener(v, x, n_iters=n_iters)


def openunmix_contender(v: np.ndarray, x: np.ndarray, n_iters: int) -> Callable[[], Any]:
    # openunmix needs torchaudio only to read files: an empty module stands in where it is not installed.
    try:
        import torchaudio  # noqa: F401
    except ImportError:
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    import torch
    from openunmix.filtering import wiener

    v = torch.from_numpy(np.ascontiguousarray(np.moveaxis(v, (3, 2, 1, 0), (0, 1, 2, 3))))
    x = torch.view_as_real(torch.from_numpy(np.ascontiguousarray(x.T)))

    def run() -> Any:
        with torch.no_grad():
            return wiener(v, x.clone(), n_iters)  # it writes into its input

    return run


def norbert_contender(v: np.ndarray, x: np.ndarray, n_iters: int) -> Callable[[], Any]:
    import norbert

    v = np.ascontiguousarray(np.moveaxis(v, (3, 2, 1, 0), (0, 1, 2, 3)), np.float64)
    x = np.ascontiguousarray(x.T, np.complex128)
    return lambda: norbert.wiener(v, x.copy(), n_iters, use_softmask=False)  # it writes into its input


CONTENDERS = {"norbert": norbert_contender, "openunmix": openunmix_contender, "jaxsep": jaxsep_contender}


def temporary_megabytes(v: np.ndarray, x: np.ndarray, n_iters: int) -> float:
    """What the compiled filter needs beside its arguments and its result."""
    compiled = jax.jit(lambda v, x: filtering.wiener(v, x, n_iters=n_iters)).lower(v, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[300, 1294])
    parser.add_argument("--n-iters", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--output", help="JSON file (default: results/filtering.json)")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    rows = []
    for n_frames in args.frames:
        v = np.abs(rng.standard_normal((N_SOURCES, N_CHANNELS, N_FREQS, n_frames), np.float32))
        x = rng.standard_normal((2, N_CHANNELS, N_FREQS, n_frames), np.float32)
        x = 3 * (x[0] + 1j * x[1]).astype(np.complex64)
        for n_iters in args.n_iters:
            contenders = {name: CONTENDERS[name](v, x, n_iters) for name in args.contenders}
            for name, timing in measure(contenders, repeats=args.repeats).items():
                row = {"frames": n_frames, "n_iters": n_iters, "contender": name, **timing.row()}
                if name == "jaxsep":
                    row["temporary_mb"] = temporary_megabytes(v, x, n_iters)
                rows.append(row)
    report("filtering", rows, args.output)


if __name__ == "__main__":
    main()
