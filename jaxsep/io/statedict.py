"""The state_dict of an Open-Unmix network in PyTorch, and our variables: the same numbers, two layouts."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxsep.config import OpenUnmixConfig
from jaxsep.io.variables import Variables, check_variables, flatten, unflatten, variable_shapes

__all__ = ["config_fields", "state_dict_from_variables", "variables_from_state_dict"]

_NORM_NAMES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_LSTM_NAMES = {
    "input_kernel": "weight_ih",
    "recurrent_kernel": "weight_hh",
    "input_bias": "bias_ih",
    "recurrent_bias": "bias_hh",
}


class _Entry(NamedTuple):
    """Where one tensor of the state_dict lies in the variables."""

    key: str
    path: str
    direction: int | None  # index into the leading axis of the variable; None where there is none
    shape: tuple[int, ...]  # in PyTorch: matrices are (out, in)


def _entries(config: OpenUnmixConfig) -> list[_Entry]:
    entries = []
    for path, shape in variable_shapes(config).items():
        _, *layers, name = path.split("/")
        if layers[:1] == ["lstm"]:
            layer = layers[1].removeprefix("layer_")
            for direction, suffix in enumerate(("", "_reverse")[: shape[0]]):
                key = f"lstm.{_LSTM_NAMES[name]}_l{layer}{suffix}"
                entries.append(_Entry(key, path, direction, shape[:0:-1]))
        elif not layers:
            entries.append(_Entry(name, path, None, shape))
        else:
            key = f"{layers[0]}.{'weight' if name == 'kernel' else _NORM_NAMES[name]}"
            entries.append(_Entry(key, path, None, shape[::-1]))
    return entries


def config_fields(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the names and shapes of a state_dict tell about its network.

    Returns:
        ``n_channels, hidden_size, n_layers, bidirectional, max_bin, n_bins``.

    Raises:
        ValueError: tensors that tell the sizes are missing or of the wrong shape.
    """
    needed = ("input_mean", "output_mean", "fc1.weight", "lstm.weight_ih_l0")
    missing = [key for key in needed if key not in state]
    if missing:
        raise ValueError(f"expected the tensors of an Open-Unmix network, got none for {', '.join(missing)}")
    for key, rank in (("input_mean", 1), ("output_mean", 1), ("fc1.weight", 2)):
        if state[key].ndim != rank or not state[key].size:
            raise ValueError(f"{key}: expected {rank} dimensions, got shape {state[key].shape}")
    max_bin, n_bins = len(state["input_mean"]), len(state["output_mean"])
    hidden_size, n_read = state["fc1.weight"].shape
    if n_read % max_bin:
        raise ValueError(
            f"fc1.weight: expected a multiple of input_mean's {max_bin} bins in its shape, got {n_read}"
        )
    layers = [m for key in state if (m := re.fullmatch(r"lstm\.weight_ih_l(\d+)(_reverse)?", key))]
    return {
        "n_channels": n_read // max_bin,
        "hidden_size": hidden_size,
        # The count, not the largest number: a gap then shows as missing tensors.
        "n_layers": len({layer[1] for layer in layers}),
        "bidirectional": any(layer[2] for layer in layers),
        "max_bin": max_bin,
        "n_bins": n_bins,
    }


def variables_from_state_dict(state: Mapping[str, np.ndarray]) -> tuple[Variables, dict[str, Any]]:
    """The variables that hold the numbers of a state_dict, and what it tells about its network.

    Tensors of other names (``num_batches_tracked``, ``stft.window``, ...) are ignored.

    Args:
        state: arrays by PyTorch's names, of any real type.

    Returns:
        Variables in float32, and `config_fields` of ``state``.

    Raises:
        ValueError: tensors are missing (all are listed), of the wrong shape, or not finite.
    """
    fields = config_fields(state)
    config = _config(fields)
    entries = _entries(config)
    missing = [entry.key for entry in entries if entry.key not in state]
    if missing:
        raise ValueError(f"expected the tensors of an Open-Unmix network, got none for {', '.join(missing)}")
    for entry in entries:
        if state[entry.key].shape != entry.shape:
            raise ValueError(f"{entry.key}: expected shape {entry.shape}, got {state[entry.key].shape}")
    flat = {path: np.empty(shape, np.float32) for path, shape in variable_shapes(config).items()}
    with np.errstate(over="ignore"):  # a float64 too large for float32 is found just below
        for entry in entries:
            place = flat[entry.path] if entry.direction is None else flat[entry.path][entry.direction]
            place[...] = state[entry.key].T
    check_variables(flat, config)
    return unflatten(flat), fields


def state_dict_from_variables(variables: Variables, config: OpenUnmixConfig) -> dict[str, np.ndarray]:
    """The state_dict that PyTorch's Open-Unmix loads, with the numbers of ``variables``.

    Raises:
        ValueError: ``variables`` are not those of ``config``'s network.
    """
    flat = flatten(variables)
    check_variables(flat, config)
    state = {}
    for entry in _entries(config):
        value = flat[entry.path] if entry.direction is None else flat[entry.path][entry.direction]
        state[entry.key] = np.ascontiguousarray(value.T, dtype=np.float32)
    for norm in ("bn1", "bn2", "bn3"):
        state[f"{norm}.num_batches_tracked"] = np.array(0, np.int64)
    return state


def _config(fields: Mapping[str, Any]) -> OpenUnmixConfig:
    """A configuration with the right sizes; how the STFT was made is not in a state_dict."""
    values = dict(fields)
    max_bin, n_bins = values.pop("max_bin"), values.pop("n_bins")
    return OpenUnmixConfig.from_max_bin(max_bin, n_fft=2 * (n_bins - 1), hop_length=1, **values)
