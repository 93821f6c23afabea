"""The original Open-Unmix, for the comparisons that run it live."""

import json
import sys
import types
from pathlib import Path

import pytest


def load():
    """Torch and openunmix, or a skipped test. Torchaudio, which only reads files there, gets an empty stand-in."""
    torch = pytest.importorskip("torch")
    sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
    pytest.importorskip("openunmix")
    from openunmix import filtering, model

    return torch, model, filtering


def random_model(
    folder: Path,
    *,
    hidden_size: int = 512,
    targets=("vocals", "drums", "bass", "other"),
    unidirectional=False,
) -> dict:
    """Nets with random weights and statistics, also saved as a folder in open-unmix's layout."""
    torch, model, _ = load()
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"nfft": 4096, "nhop": 1024, "sample_rate": 44100.0, "nb_channels": 2}
    (folder / "separator.json").write_text(json.dumps(settings))
    arguments = {"hidden_size": hidden_size, "nb_channels": 2, "nfft": 4096, "nhop": 1024, "bandwidth": 16000}
    nets = {}
    for target in targets:
        net = model.OpenUnmix(
            nb_bins=2049, nb_channels=2, hidden_size=hidden_size, max_bin=1487, unidirectional=unidirectional
        )
        for norm in (net.bn1, net.bn2, net.bn3):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
        net.input_mean.data.uniform_(-1, 0)
        net.input_scale.data.uniform_(0.5, 1)
        torch.save(net.state_dict(), folder / f"{target}-00000000.pth")
        (folder / f"{target}.json").write_text(json.dumps({"args": arguments}))
        nets[target] = net.eval()
    return nets


def separate(nets: dict, audio, *, n_iters: int, window: int | None, residual: bool = False, double=False):
    """The original's stems of float audio (channel, time), as an array (source, channel, time)."""
    torch, model, _ = load()
    separator = model.Separator(
        target_models=nets, niter=n_iters, residual=residual, wiener_win_len=window or None, nb_channels=2
    )
    separator.eval()
    if double:
        separator = separator.double()
    dtype = torch.float64 if double else torch.float32
    with torch.no_grad():
        return separator(torch.as_tensor(audio, dtype=dtype)[None])[0].numpy()
