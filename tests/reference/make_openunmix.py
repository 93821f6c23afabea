"""Makes tests/reference/data/openunmix.npz and lstm.npz: what torch's own nets compute, in double precision.

Run with torch and openunmix installed: ``python tests/reference/make_openunmix.py``.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # openunmix reads files with it
from openunmix.model import OpenUnmix, Separator  # noqa: E402

DATA = Path(__file__).parent / "data"

# channels, bins, bins read, hidden size, layers, bidirectional
NETS = {
    "stereo": (2, 17, 11, 8, 3, True),
    "causal": (1, 17, 17, 5, 2, False),
    "three": (3, 9, 4, 6, 1, True),
}
# input size, hidden size, layers, bidirectional, batch, frames
LSTMS = {"one": (3, 4, 1, False, 2, 7), "both": (3, 4, 1, True, 2, 7), "stack": (3, 2, 3, True, 1, 5)}


def randomise(net: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Gives every number of a net its own value, a float32, and makes the net a double precision one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point():
            continue
        drawn = torch.randn(tensor.shape, generator=generator)
        if "var" in name:
            drawn = drawn.abs() + 0.5
        elif tensor.ndim == 2:
            drawn = drawn / tensor.shape[1] ** 0.5
        tensor.copy_(drawn)
    return net.double()


def openunmix(sizes: tuple, seed: int) -> OpenUnmix:
    """A small net of these sizes, without dropout, so that training repeats."""
    channels, bins, max_bin, hidden, layers, bidirectional = sizes
    net = OpenUnmix(bins, channels, hidden, layers, not bidirectional, max_bin=max_bin)
    net.lstm.dropout = 0.0
    return randomise(net, seed)


def lstm_arrays(tensors: dict[str, torch.Tensor], layer: int, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of one layer of ``torch.nn.LSTM`` under our names, directions stacked."""
    ours = {
        "input_kernel": "weight_ih",
        "recurrent_kernel": "weight_hh",
        "input_bias": "bias_ih",
        "recurrent_bias": "bias_hh",
    }
    arrays = {}
    for name, theirs in ours.items():
        keys = [f"{prefix}{theirs}_l{layer}{suffix}" for suffix in ("", "_reverse")]
        arrays[name] = np.stack([tensors[key].detach().numpy().T for key in keys if key in tensors])
    return arrays


def variables(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The tensors of a net, or their gradients, as our variables: by path, kernels ``(in, out)``."""
    norms = {
        "weight": "params/{}/scale",
        "bias": "params/{}/bias",
        "running_mean": "batch_stats/{}/mean",
        "running_var": "batch_stats/{}/var",
    }
    arrays = {}
    for key, tensor in tensors.items():
        part, _, name = key.rpartition(".")
        if not part:
            arrays[f"params/{key}"] = tensor.detach().numpy()
        elif part.startswith("fc"):
            arrays[f"params/{part}/kernel"] = tensor.detach().numpy().T
        elif name in norms:
            arrays[norms[name].format(part)] = tensor.detach().numpy()
    layer = 0
    while f"lstm.weight_ih_l{layer}" in tensors:
        for name, array in lstm_arrays(tensors, layer, "lstm.").items():
            arrays[f"params/lstm/layer_{layer}/{name}"] = array
        layer += 1
    return {name: array.copy() for name, array in arrays.items()}


def run(net: OpenUnmix, magnitude: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The estimates in both modes, the statistics after one batch, and the gradient of the training loss."""
    x, y = torch.from_numpy(magnitude), torch.from_numpy(truth)
    arrays = {f"variables/{name}": a.astype(np.float32) for name, a in variables(net.state_dict()).items()}
    with torch.no_grad():
        arrays["eval"] = net.eval()(x).numpy()
    net.train()
    estimate = net(x)
    loss = torch.nn.functional.mse_loss(estimate, y)
    loss.backward()
    arrays |= {"magnitude": magnitude, "truth": truth, "train": estimate.detach().numpy()}
    arrays["loss"] = loss.detach().numpy()
    after = variables(net.state_dict())
    arrays |= {f"after/{name}": array for name, array in after.items() if name.startswith("batch_stats")}
    gradient = variables({name: parameter.grad for name, parameter in net.named_parameters()})
    return arrays | {f"gradient/{name}": array for name, array in gradient.items()}


def separate(
    nets: dict[str, OpenUnmix], audio: np.ndarray, n_fft: int, hop_length: int, **options
) -> np.ndarray:
    """The stems ``(source, channel, time)`` of open-unmix's own separator."""
    separator = Separator(nets, n_fft=n_fft, n_hop=hop_length, nb_channels=audio.shape[0], **options).double()
    separator.stft.window.data = torch.hann_window(n_fft, dtype=torch.float64)
    separator.istft.window.data = separator.stft.window.data
    separator.eval()
    with torch.no_grad():
        return separator(torch.from_numpy(audio)[None])[0].numpy()


def main() -> None:
    """Writes the files."""
    rng = np.random.default_rng(0)
    arrays = {}
    for seed, (name, sizes) in enumerate(NETS.items()):
        shape = (2, sizes[0], sizes[1], 6)
        case = run(openunmix(sizes, seed), rng.gamma(1.0, 1.0, shape), rng.gamma(1.0, 1.0, shape))
        arrays |= {f"{name}/{key}": array for key, array in case.items()}
    np.savez_compressed(DATA / "openunmix.npz", **arrays)

    arrays = {}
    for seed, (name, sizes) in enumerate(LSTMS.items()):
        features, hidden, layers, bidirectional, batch, frames = sizes
        net = torch.nn.LSTM(features, hidden, layers, batch_first=True, bidirectional=bidirectional)
        randomise(net, seed)
        x = rng.standard_normal((batch, frames, features))
        arrays |= {f"{name}/x": x, f"{name}/y": net(torch.from_numpy(x))[0].detach().numpy()}
        for layer in range(layers):
            for key, array in lstm_arrays(net.state_dict(), layer).items():
                arrays[f"{name}/layer_{layer}/{key}"] = array
    np.savez_compressed(DATA / "lstm.npz", **arrays)

    # Two nets on a song of two and a half filter windows.
    sizes = (2, 33, 20, 6, 2, True)
    nets = {"first": openunmix(sizes, 10), "second": openunmix(sizes, 11)}
    audio = 0.3 * rng.standard_normal((2, 397))
    arrays = {"audio": audio}
    for target, net in nets.items():
        arrays |= {
            f"{target}/{name}": a.astype(np.float32) for name, a in variables(net.state_dict()).items()
        }
    for n_iters, residual in ((0, False), (1, False), (2, True)):
        stems = separate(nets, audio, 64, 16, niter=n_iters, residual=residual, wiener_win_len=10)
        arrays[f"stems/{n_iters}/{residual}"] = stems.astype(np.float32)
    np.savez_compressed(DATA / "separation.npz", **arrays)


if __name__ == "__main__":
    main()
