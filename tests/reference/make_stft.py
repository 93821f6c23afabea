"""Makes tests/reference/data/stft.npz: what torch.stft and torch.istft return, in double precision.

Run with torch installed: ``python tests/reference/make_stft.py``.
"""

from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"

# n_samples, n_fft, hop_length, center
FORWARD = [
    (130, 64, 16, True),
    (130, 64, 16, False),
    (131, 63, 16, True),  # odd window
    (131, 63, 16, False),
    (130, 64, 24, True),  # hop that does not divide the window
    (130, 64, 24, False),
    (130, 16, 40, True),  # gaps between the windows
    (130, 16, 40, False),
    (33, 64, 16, True),  # the shortest that torch reflects
    (64, 64, 16, False),
]
# n_fft, hop_length, n_frames, length; torch refuses window sums of 0, hence centred and overlapping only
INVERSE = [(64, 16, 12, None), (64, 16, 12, 150), (64, 16, 12, 200), (63, 16, 9, None), (64, 24, 7, 140)]


def forward(audio: np.ndarray, n_fft: int, hop_length: int, center: bool) -> np.ndarray:
    """The spectrogram ``(..., freq, frame)`` that torch makes."""
    window = torch.hann_window(n_fft, dtype=torch.float64)
    x = torch.from_numpy(audio)
    return torch.stft(
        x, n_fft, hop_length, window=window, center=center, pad_mode="reflect", return_complex=True
    ).numpy()


def inverse(spectrogram: np.ndarray, n_fft: int, hop_length: int, length: int | None) -> np.ndarray:
    """The signal ``(..., time)`` that torch makes of a spectrogram with centred frames."""
    window = torch.hann_window(n_fft, dtype=torch.float64)
    x = torch.from_numpy(spectrogram)
    return torch.istft(x, n_fft, hop_length, window=window, center=True, length=length).numpy()


def main() -> None:
    """Writes the file."""
    rng = np.random.default_rng(0)
    arrays = {}
    for case in FORWARD:
        audio = rng.standard_normal(case[0])
        name = "stft/" + "/".join(map(str, case))
        arrays |= {f"{name}/audio": audio, f"{name}/spectrogram": forward(audio, *case[1:])}
    for n_fft, hop_length, n_frames, length in INVERSE:
        # The transform of no signal at all: the first and last bins are not even real.
        shape = (n_fft // 2 + 1, n_frames)
        spectrogram = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        name = f"istft/{n_fft}/{hop_length}/{n_frames}/{length}"
        signal = inverse(spectrogram, n_fft, hop_length, length)
        arrays |= {f"{name}/spectrogram": spectrogram, f"{name}/audio": signal}
    np.savez_compressed(DATA / "stft.npz", **arrays)


if __name__ == "__main__":
    main()
