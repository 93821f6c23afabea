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
    grown = jax.tree.map(np.array, openunmix.init(wider, key=jax.random.key(seed)))
    params, old = dict(grown["params"]), variables["params"]
    dense = np.arange(config.hidden_size)
    # Behind the LSTM, each direction's old units come first among its own.
    halves = np.arange(hidden_size).reshape(n_directions, -1)[:, : config.hidden_size // n_directions].ravel()
    n_inputs, n_outputs = np.shape(old["fc1"]["kernel"])[0], np.shape(old["fc3"]["kernel"])[1]
    params["fc1"] = _dense(params["fc1"], old["fc1"], np.arange(n_inputs), dense)
    params["fc2"] = _dense(params["fc2"], old["fc2"], np.append(dense, hidden_size + halves), dense)
    params["fc3"] = _dense(params["fc3"], old["fc3"], dense, np.arange(n_outputs))
    params["lstm"] = {
        name: _layer(layer, old["lstm"][name], dense if name == "layer_0" else halves)
        for name, layer in params["lstm"].items()
    }
    for name in ("input_mean", "input_scale", "output_mean", "output_scale", "bn3"):
        params[name] = old[name]
    for name in ("bn1", "bn2"):
        params[name] = _first(params[name], old[name])
    stats = grown["batch_stats"]
    stats = {name: _first(stats[name], old_stats) for name, old_stats in variables["batch_stats"].items()}
    return wider, {"params": params, "batch_stats": stats}


def _dense(new: Mapping, old: Mapping, rows: np.ndarray, columns: np.ndarray) -> dict:
    """The old kernel at ``rows`` and ``columns``; old outputs do not hear new inputs."""
    kernel = np.array(new["kernel"])
    kernel[:, columns] = 0
    kernel[np.ix_(rows, columns)] = old["kernel"]
    return {"kernel": kernel}


def _first(new: Mapping, old: Mapping) -> dict:
    """Features of a batch normalisation: the old ones first."""
    return {name: np.append(old[name], np.asarray(new[name])[len(old[name]) :]) for name in old}


def _layer(new: Mapping, old: Mapping, inputs: np.ndarray) -> dict:
    """A layer of the LSTM whose old inputs are at ``inputs``, and whose old units come first in every gate."""
    n_directions, n_units, _ = np.shape(new["recurrent_kernel"])
    n_old = np.shape(old["recurrent_kernel"])[1]
    columns = np.arange(_GATES * n_units).reshape(_GATES, n_units)[:, :n_old].ravel()
    grown = {name: np.array(array) for name, array in new.items()}
    for direction in range(n_directions):
        for name, rows in (("input_kernel", inputs), ("recurrent_kernel", np.arange(n_old))):
            kernel = grown[name][direction]
            kernel[:, columns] = 0
            kernel[np.ix_(rows, columns)] = np.asarray(old[name])[direction]
        for name in ("input_bias", "recurrent_bias"):
            grown[name][direction][columns] = np.asarray(old[name])[direction]
    return grown
