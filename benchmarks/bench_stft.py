"""STFT and inverse of a stereo song, beside torch's: ``python benchmarks/bench_stft.py --seconds 240``."""

import argparse
from functools import partial

import jax
import numpy as np
from harness import measure, report

from jaxsep import stft

SIZES = {"n_fft": 4096, "hop_length": 1024}


def main() -> None:
    """Time them and write results/stft.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="length of the song (default: %(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="warmed calls (default: %(default)s)")
    arguments = parser.parse_args()

    audio = np.random.default_rng(0).standard_normal((2, int(arguments.seconds * 44100))).astype(np.float32)
    forward = jax.jit(partial(stft.stft, **SIZES))
    backward = jax.jit(partial(stft.istft, length=audio.shape[-1], **SIZES))
    x = jax.device_put(audio)
    spectrogram = jax.block_until_ready(forward(x))
    contenders = {"jaxsep stft": lambda: forward(x), "jaxsep istft": lambda: backward(spectrogram)}
    try:
        import torch
    except ImportError:
        print("torch is not installed: jaxsep alone")
    else:
        window, options = torch.hann_window(SIZES["n_fft"]), (SIZES["n_fft"], SIZES["hop_length"])
        x_torch = torch.from_numpy(audio)
        theirs = torch.stft(x_torch, *options, window=window, return_complex=True)
        contenders["torch stft"] = lambda: torch.stft(x_torch, *options, window=window, return_complex=True)
        # What the line above returns has the frames' order in memory; in that of its shape, as jaxsep's is:
        contenders["torch stft, copied into order"] = lambda: contenders["torch stft"]().contiguous()
        contenders["torch istft"] = lambda: torch.istft(theirs, *options, window=window, length=x.shape[-1])
        error = np.abs(theirs.numpy() - np.asarray(spectrogram)).max() / np.abs(theirs.numpy()).max()
        print(f"largest difference of a bin: {error:.1e} of the largest bin")

    timings = measure(contenders, repeats=arguments.repeats)
    rows = [
        {"contender": name, "seconds_of_audio": arguments.seconds, **timing.row()}
        for name, timing in timings.items()
    ]
    report("stft", rows)


if __name__ == "__main__":
    main()
