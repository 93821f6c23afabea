"""Writes data/metrics.npz: museval 0.4.1's scores of small signals, for tests that do not need museval.

    python tests/reference/make_metrics.py

The signals are coloured noise in 16 bits, stored with the scores: three stereo sources, once with a frame in
which the second is silent, and their leaky, filtered and noisy estimates in an order of their own.
"""

import importlib.metadata
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np

DATA = Path(__file__).parent / "data" / "metrics.npz"

# The arguments of each stored case, named as museval and jaxsep both name them.
CASES = {
    "v4": {"window": 600, "hop": 600, "filters_len": 16},
    "v4_overlap": {"window": 601, "hop": 250.5, "filters_len": 33},
    "v4_whole": {"window": math.inf, "hop": math.inf, "filters_len": 16},
    "v4_reordered": {"window": 600, "hop": 600, "filters_len": 16, "compute_permutation": True},
    "v3_images": {"window": 600, "hop": 400, "filters_len": 16, "framewise_filters": True},
    "v3_sources": {
        "window": 600,
        "hop": 600,
        "filters_len": 16,
        "framewise_filters": True,
        "bsseval_sources_version": True,
    },
    "v3_sources_reordered": {
        "window": math.inf,
        "hop": math.inf,
        "filters_len": 16,
        "framewise_filters": True,
        "bsseval_sources_version": True,
        "compute_permutation": True,
    },
}


def museval_metrics() -> ModuleType:
    """museval's metrics module alone: the package itself does not import without ffmpeg."""
    files = importlib.metadata.files("museval") or []
    path = next(file for file in files if str(file).endswith("museval/metrics.py")).locate()
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def signals(silent_frame: bool) -> tuple[np.ndarray, np.ndarray]:
    """References and estimates, int16 `(source, channel, time)`."""
    rng = np.random.default_rng(7)
    references = rng.standard_normal((3, 2, 2500))
    references[1] += 0.8 * np.roll(references[1], 1, axis=-1)  # not white
    references[:, 1] += 0.5 * references[:, 0]  # channels have something in common
    if silent_frame:
        references[1, :, 600:1200] = 0
    estimates = references + 0.2 * references[[1, 2, 0]]
    estimates[0] = 0.7 * estimates[0] + 0.3 * np.roll(estimates[0], 3, axis=-1)
    estimates = estimates[[2, 0, 1]] + 0.05 * rng.standard_normal(references.shape)
    return tuple(np.round(4000 * x).astype(np.int16) for x in (references, estimates))


def main() -> None:
    """Score every case and write the file."""
    bss_eval = museval_metrics().bss_eval
    stored = {}
    for name, silent_frame in (("sound", False), ("gap", True)):
        references, estimates = signals(silent_frame)
        stored[f"{name}_references"], stored[f"{name}_estimates"] = references, estimates
        # museval's framewise filters do not survive a silent frame on NumPy 2.
        cases = {"v4": CASES["v4"]} if silent_frame else CASES
        for case, options in cases.items():
            audio = (x.astype(float).swapaxes(1, 2) for x in (references, estimates))
            *scores, permutation = bss_eval(*audio, **options)
            stored[f"{name}_{case}"] = np.stack(scores)
            stored[f"{name}_{case}_permutation"] = permutation
    DATA.parent.mkdir(exist_ok=True)
    np.savez_compressed(DATA, **stored)
    print(f"{DATA.name}: {DATA.stat().st_size} bytes, {len(stored)} arrays")


if __name__ == "__main__":
    main()
