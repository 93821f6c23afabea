"""Makes trained nets wider without changing what they compute, so that a larger net need not begin anew.

Units are added to every hidden layer. They listen to everything from the start, with weights as fresh nets have them;
what they say reaches the units that were there, and the mask, with weights of zero, from which training goes on.

Source: T. Chen, I. Goodfellow, J. Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016, for the
idea; there, units are copied.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig

__all__ = ["widen"]

_GATES = 4


def widen(
    variables: Mapping[str, Any], config: OpenUnmixConfig, hidden_size: int, *, seed: int = 0
) -> tuple[OpenUnmixConfig, Mapping[str, Any]]:
    """Variables of a wider net that gives the same masks.

    Args:
        variables: ``{"params", "batch_stats"}`` of one net.
        config: its sizes.
        hidden_size: of the wider net; even for nets that read in two directions.
        seed: of the new units' weights.

    Returns:
        The wider net's sizes and variables.

    Raises:
        ValueError: the net is as wide already, or the width does not divide by its directions.

    Example:
        >>> config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=8)
        >>> variables = openunmix.init(config, key=jax.random.key(0))
        >>> wider, _ = widen(variables, config, 12)
        >>> wider.hidden_size
        12
    """
    n_directions = 2 if config.bidirectional else 1
    if hidden_size <= config.hidden_size or hidden_size % n_directions:
        raise ValueError(
            f"expected a hidden size above {config.hidden_size} that {n_directions} divides, got {hidden_size}"
        )
    wider = replace(config, hidden_size=hidden_size)
    # Arrays to be written into.
    grown = jax.tree.map(np.array, openunmix.init(wider, key=jax.random.key(seed)))
    params, old, stats = grown["params"], variables["params"], grown["batch_stats"]
    dense = np.arange(config.hidden_size)
    # Behind the LSTM, each direction's old units come first among its own.
    halves = np.arange(hidden_size).reshape(n_directions, -1)[:, : config.hidden_size // n_directions].ravel()
    n_inputs, n_outputs = np.shape(old["fc1"]["kernel"])[0], np.shape(old["fc3"]["kernel"])[1]
    _embed(params["fc1"]["kernel"], old["fc1"]["kernel"], np.arange(n_inputs), dense)
    _embed(params["fc2"]["kernel"], old["fc2"]["kernel"], np.append(dense, hidden_size + halves), dense)
    _embed(params["fc3"]["kernel"], old["fc3"]["kernel"], dense, np.arange(n_outputs))
    for name, layer in params["lstm"].items():
        _embed_layer(layer, old["lstm"][name], dense if name == "layer_0" else halves)
    for name in ("input_mean", "input_scale", "output_mean", "output_scale"):
        params[name] = old[name]
    for name in ("bn1", "bn2", "bn3"):
        _put_first(params[name], old[name])
        _put_first(stats[name], variables["batch_stats"][name])
    return wider, grown


def _embed(kernel: np.ndarray, old: Array, rows: np.ndarray, columns: np.ndarray) -> None:
    """Write the old kernel at ``rows`` and ``columns``; old outputs do not hear new inputs."""
    kernel[:, columns] = 0
    kernel[np.ix_(rows, columns)] = old


def _embed_layer(layer: Mapping[str, np.ndarray], old: Mapping[str, Array], inputs: np.ndarray) -> None:
    """Write a layer of the LSTM, its old inputs at ``inputs`` and its old units first in every gate."""
    n_directions, n_units, _ = layer["recurrent_kernel"].shape
    units = np.arange(old["recurrent_kernel"].shape[1])
    columns = np.arange(_GATES * n_units).reshape(_GATES, n_units)[:, units].ravel()
    for direction in range(n_directions):
        _embed(layer["input_kernel"][direction], old["input_kernel"][direction], inputs, columns)
        _embed(layer["recurrent_kernel"][direction], old["recurrent_kernel"][direction], units, columns)
    for name in ("input_bias", "recurrent_bias"):
        layer[name][:, columns] = old[name]


def _put_first(new: Mapping[str, np.ndarray], old: Mapping[str, Array]) -> None:
    """Write features of a batch normalisation, the old ones first."""
    for name, values in old.items():
        new[name][: len(values)] = values
