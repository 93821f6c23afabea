"""Makes tests/reference/data/tiny-*.pth and tiny.npz: tiny Open-Unmix networks, as PyTorch itself saves them.

Run with torch and openunmix installed: ``python tests/reference/make_torchfile.py``.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # openunmix reads files with it
from openunmix.model import OpenUnmix  # noqa: E402

DATA = Path(__file__).parent / "data"


def tiny(seed: int, **sizes: int | bool) -> dict[str, torch.Tensor]:
    """The state_dict of a tiny network whose every number is drawn anew."""
    torch.manual_seed(seed)
    state = OpenUnmix(**sizes).state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1 if "var" in name else torch.randn_like(tensor))
    return state


def main() -> None:
    """Writes the files."""
    stereo = tiny(0, nb_bins=9, nb_channels=2, hidden_size=6, nb_layers=2, max_bin=5)
    mono = tiny(1, nb_bins=5, nb_channels=1, hidden_size=3, nb_layers=1, unidirectional=True)
    base = torch.randn(4, 6)
    odd = {
        "transposed": base.t(),
        "strided": base[1:, ::2],
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "long": torch.arange(-3, 3),
        "bool": base[0] > 0,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[0].clone()),
        "no tensor": 3,
    }
    for name, state in (("stereo", stereo), ("mono", mono), ("odd", odd)):
        for kind, is_zip in (("zip", True), ("stream", False)):
            torch.save(state, DATA / f"tiny-{name}-{kind}.pth", _use_new_zipfile_serialization=is_zip)
    arrays = {
        f"{group}/{name}": (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for group, state in (("stereo", stereo), ("mono", mono), ("odd", odd))
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    np.savez_compressed(DATA / "tiny.npz", **arrays)


if __name__ == "__main__":
    main()
