"""The network's variables as nested dicts of NumPy arrays: their names, shapes and checks.

A path such as ``"params/lstm/layer_0/input_kernel"`` names an array in the nested dicts. Kernels are
``(in, out)``; in the LSTM a leading axis holds the directions (forward, backward), and the four gates lie
side by side in the last axis in the order input, forget, cell, output.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsep.config import OpenUnmixConfig

__all__ = ["Variables", "check_variables", "flatten", "unflatten", "variable_shapes"]

Variables = dict[str, Any]
"""``{"params": {...}, "batch_stats": {...}}`` with float32 arrays as leaves."""


def variable_shapes(config: OpenUnmixConfig) -> dict[str, tuple[int, ...]]:
    """Path and shape of every array of an Open-Unmix network.

    Example:
        >>> shapes = variable_shapes(OpenUnmixConfig())
        >>> shapes["params/fc1/kernel"], shapes["params/lstm/layer_0/recurrent_kernel"]
        ((2974, 512), (2, 256, 1024))
    """
    hidden, directions = config.hidden_size, 2 if config.bidirectional else 1
    state = hidden // directions
    read, written = config.n_channels * config.max_bin, config.n_channels * config.n_bins
    shapes: dict[str, tuple[int, ...]] = {
        "params/input_mean": (config.max_bin,),
        "params/input_scale": (config.max_bin,),
        "params/output_mean": (config.n_bins,),
        "params/output_scale": (config.n_bins,),
        "params/fc1/kernel": (read, hidden),
        "params/fc2/kernel": (2 * hidden, hidden),
        "params/fc3/kernel": (hidden, written),
    }
    for layer in range(config.n_layers):
        # Every layer reads as many values as the layer before it gives: both directions, side by side.
        shapes |= {
            f"params/lstm/layer_{layer}/input_kernel": (directions, hidden, 4 * state),
            f"params/lstm/layer_{layer}/recurrent_kernel": (directions, state, 4 * state),
            f"params/lstm/layer_{layer}/input_bias": (directions, 4 * state),
            f"params/lstm/layer_{layer}/recurrent_bias": (directions, 4 * state),
        }
    for norm, width in (("bn1", hidden), ("bn2", hidden), ("bn3", written)):
        shapes |= {
            f"params/{norm}/scale": (width,),
            f"params/{norm}/bias": (width,),
            f"batch_stats/{norm}/mean": (width,),
            f"batch_stats/{norm}/var": (width,),
        }
    return shapes


def flatten(variables: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dicts as one dict of paths.

    Example:
        >>> flatten({"params": {"fc1": {"kernel": np.zeros(3)}}})
        {'params/fc1/kernel': array([0., 0., 0.])}
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in variables.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> Variables:
    """The nested dicts that `flatten` made ``flat`` from."""
    variables: Variables = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        inner = variables
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return variables


def check_variables(flat: Mapping[str, np.ndarray], config: OpenUnmixConfig) -> None:
    """Refuses variables that are not those of ``config``'s network.

    Raises:
        ValueError: arrays are missing, unknown, of another shape, or hold NaN or infinity.
    """
    expected = variable_shapes(config)
    missing = sorted(expected.keys() - flat.keys())
    if missing:
        raise ValueError(f"expected all arrays of the network, got none for {', '.join(missing)}")
    unknown = sorted(flat.keys() - expected.keys())
    if unknown:
        raise ValueError(f"expected only arrays of the network, got also {', '.join(unknown)}")
    for path, shape in expected.items():
        if flat[path].shape != shape:
            raise ValueError(f"{path}: expected shape {shape}, got {flat[path].shape}")
        if not np.isfinite(flat[path]).all():
            raise ValueError(f"{path}: expected finite numbers, got NaN or infinity")
