"""Numbers of norbert 0.2.1 for tests/test_filtering.py: `python tests/reference/make_filtering.py`.

norbert's axes are (frame, freq, channel, source); the file has them as jaxsep does. All is double precision.
"""

from pathlib import Path

import norbert
import norbert.contrib
import numpy as np
from scipy.ndimage import gaussian_filter

OUTPUT = Path(__file__).parent / "data" / "filtering.npz"
SHAPES = {1: (2, 3, 6), 2: (3, 3, 7), 3: (2, 3, 8)}  # channels: (source, freq, frame)


def inputs(n_channels: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Full-rank input: every source has its own direction a bin, and no magnitude is near zero."""
    n_sources, n_freqs, n_frames = SHAPES[n_channels]
    v = rng.uniform(0.5, 3.0, (n_sources, n_channels, n_freqs, n_frames))
    x = rng.uniform(0.5, 12.0, v.shape[1:]) * np.exp(2j * np.pi * rng.uniform(size=v.shape[1:]))
    return v, x


def to_norbert(v: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.moveaxis(v, (3, 2, 1, 0), (0, 1, 2, 3)), x.T.copy()


def from_norbert(y: np.ndarray) -> np.ndarray:
    return np.moveaxis(y, (0, 1, 2, 3), (3, 2, 1, 0))


def main() -> None:
    rng = np.random.default_rng(0)
    numbers = {}
    for n_channels in SHAPES:
        v, x = inputs(n_channels, rng)
        numbers |= {f"v{n_channels}": v, f"x{n_channels}": x}
        for softmask in (False, True):
            for n_iters in range(4):
                for name, eps in (("small", None), ("large", 1e-10)):
                    if name == "small" and n_iters not in (1, 2):
                        continue
                    theirs_v, theirs_x = to_norbert(v, x)  # anew: norbert scales a loud x in place
                    y = norbert.wiener(theirs_v, theirs_x, n_iters, softmask, eps)
                    numbers[f"y{n_channels}_{softmask:d}_{n_iters}_{name}"] = from_norbert(y)
        theirs_v, theirs_x = to_norbert(v, x)
        y, psd, cov = norbert.expectation_maximization(
            norbert.softmask(theirs_v, theirs_x, eps=1e-10), theirs_x, 2, eps=1e-10
        )
        numbers[f"em_y{n_channels}"] = from_norbert(y)
        numbers[f"em_psd{n_channels}"] = psd.T
        numbers[f"em_cov{n_channels}"] = np.moveaxis(cov, -1, 0)
    v, x = to_norbert(numbers["v2"], numbers["x2"])
    # norbert takes the residual before its scaling, so only the scaled sources are comparable.
    numbers["autoscaled"] = from_norbert(norbert.residual_model(v, x))[:-1]
    numbers["smooth_time"] = from_norbert(norbert.smooth(v, 1.5, temporal=True))
    numbers["smooth_all"] = from_norbert(norbert.smooth(v, 2))
    numbers["smooth_plane"] = from_norbert(gaussian_filter(v, (1.5, 1.5, 0, 0), truncate=4.0))
    numbers["reduced"] = from_norbert(norbert.contrib.reduce_interferences(v))
    np.savez_compressed(OUTPUT, **numbers)


if __name__ == "__main__":
    main()
