"""Makes tests/reference/data/training.npz: twenty steps of open-unmix's training in double precision.

Run with torch and openunmix installed: ``PYTHONPATH=. python tests/reference/make_training.py``.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # openunmix reads files with it
from openunmix.transforms import ComplexNorm, make_filterbanks  # noqa: E402
from openunmix.utils import EarlyStopping  # noqa: E402

from tests.reference.make_openunmix import openunmix, variables  # noqa: E402

DATA = Path(__file__).parent / "data"

SIZES = (2, 33, 20, 8, 2, True)  # channels, bins, bins read, hidden size, layers, bidirectional
N_FFT, HOP, N_STEPS, N_BATCHES = 64, 16, 20, 4
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-5


def encoder() -> torch.nn.Sequential:
    """What open-unmix's train.py makes of audio: magnitudes, not centred."""
    stft, _ = make_filterbanks(n_fft=N_FFT, n_hop=HOP, sample_rate=44100.0)
    stft.window.data = torch.hann_window(N_FFT, dtype=torch.float64)
    return torch.nn.Sequential(stft, ComplexNorm(mono=False))


def train(stems: np.ndarray) -> dict[str, np.ndarray]:
    """Twenty steps towards the first stem, as train.py takes them."""
    net, encode = openunmix(SIZES, seed=3), encoder()
    arrays = {f"variables/{name}": a.astype(np.float32) for name, a in variables(net.state_dict()).items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = []
    net.train()
    for step in range(N_STEPS):
        batch = torch.from_numpy(stems[step % N_BATCHES]) / 32768.0
        mixture, truth = encode(batch.sum(dim=1)), encode(batch[:, 0].contiguous())
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(mixture), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = variables(net.state_dict())
    return arrays | {"losses": np.array(losses)} | {f"after/{name}": array for name, array in after.items()}


def plateaus(losses: np.ndarray) -> dict[str, np.ndarray]:
    """Learning rates after each epoch, and where early stopping stops."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=4, cooldown=3)
    stopping = EarlyStopping(patience=12)
    rates, stopped = [], []
    for loss in losses:
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
        stopped.append(stopping.step(loss))
    return {"plateau/losses": losses, "plateau/rates": np.array(rates), "plateau/stopped": np.array(stopped)}


def statistics(stems: np.ndarray) -> dict[str, np.ndarray]:
    """What train.py measures: a standard scaler over the frames of one song after the other."""
    scaler, encode = StandardScaler(), encoder()
    for song in stems.reshape(-1, *stems.shape[-3:]):
        mixture = encode(torch.from_numpy(song / 32768.0).sum(dim=0)[None])
        scaler.partial_fit(mixture.mean(dim=1).permute(0, 2, 1)[0].numpy())
    std = np.maximum(scaler.scale_, 1e-4 * np.max(scaler.scale_))
    return {"statistics/mean": scaler.mean_, "statistics/std": std}


def main() -> None:
    """Writes the file."""
    rng = np.random.default_rng(0)
    stems = rng.normal(0, 3000, (N_BATCHES, 3, 2, SIZES[0], 320)).astype(np.int16)
    stems[:, :, 0] = np.cumsum(stems[:, :, 0], axis=-1) // 8 % 4000  # lower than the other one
    # Falls, stays, falls by less than the threshold, rises: long enough for two decays and the end.
    walk = 1.0 + 0.3 * rng.random(80) / np.arange(1, 81)
    walk[10:14] = walk[:10].min() * (1 - 5e-5)
    arrays = {"stems": stems} | train(stems.astype(np.float64)) | plateaus(walk)
    arrays |= statistics(stems.astype(np.float64))
    np.savez_compressed(DATA / "training.npz", **arrays)


if __name__ == "__main__":
    main()
