"""Reads the four nets of a model as training wants them, and scales their masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsep.config import OpenUnmixConfig
from jaxsep.io import zoo
from jaxsep.io.checkpoint import load_weights
from recipes.open_weights.corpus import STEMS

__all__ = ["Nets", "load_nets", "replaced", "with_gain"]


class Nets(NamedTuple):
    """The four nets of a model, in the order of `corpus.STEMS`."""

    config: OpenUnmixConfig
    variables: list[dict[str, Any]]  # ``{"params", "batch_stats"}``
    metadata: list[dict[str, Any]]


def load_nets(model: str | Path) -> Nets:
    """Read a model with its masks as they were before `export` scaled them.

    Args:
        model: a folder, or ``umx-open`` for the packaged one.

    Raises:
        FileNotFoundError: a target is not in it.
        ValueError: a file is damaged.
    """
    folder = zoo.packaged_folder() if str(model) == zoo.DEFAULT_MODEL else Path(model)
    loaded = [load_weights(folder, name) for name in STEMS]
    plain = [with_gain(one.variables, 1 / one.metadata.get("gain", 1.0)) for one in loaded]
    metadata = [{key: fact for key, fact in one.metadata.items() if key != "gain"} for one in loaded]
    return Nets(loaded[0].config, plain, metadata)


def replaced(variables: Any, places: Sequence[int], trained: Any) -> dict[str, Any]:
    """Stacked ``{"params", "batch_stats"}`` with other nets, stacked too, at some of the places."""

    def put(everything: Any, some: Any) -> np.ndarray:
        together = np.array(everything)
        together[list(places)] = some
        return together

    return {name: jax.tree.map(put, variables[name], trained[name]) for name in ("params", "batch_stats")}


def with_gain(variables: dict[str, Any], gain: float) -> dict[str, Any]:
    """The net whose masks are ``gain`` times as high: before the last relu both its terms scale with it."""
    params = variables["params"]
    scaled = {name: gain * np.asarray(params[name]) for name in ("output_scale", "output_mean")}
    return {"params": {**params, **scaled}, "batch_stats": dict(variables["batch_stats"])}
