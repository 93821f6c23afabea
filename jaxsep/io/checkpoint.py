"""Weights on disk: one ``TARGET.safetensors`` with the numbers and one ``TARGET.json`` with the rest.

A folder with such pairs is a model: one network for each target.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from jaxsep.config import OpenUnmixConfig
from jaxsep.io.files import atomic_path
from jaxsep.io.variables import Variables, check_variables, flatten, unflatten

__all__ = ["FORMAT_VERSION", "Weights", "load_weights", "save_weights", "saved_targets", "write_json"]

FORMAT_VERSION = 1
_DTYPES = ("float32", "float16", "int8")
_SCALE = ".scale"  # ends the name of the scales that belong to an int8 kernel


class Weights(NamedTuple):
    """One trained network."""

    variables: Variables  # float32, as the network takes them
    config: OpenUnmixConfig
    metadata: dict[str, Any]  # licence, training history, ...: whatever JSON can say


def save_weights(
    folder: str | os.PathLike[str],
    target: str,
    variables: Variables,
    config: OpenUnmixConfig,
    *,
    dtype: str = "float32",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Saves a network as ``TARGET.safetensors`` and ``TARGET.json``; each appears whole or not at all.

    Args:
        folder: made if it does not exist.
        target: what the network extracts: "vocals", ...; a plain file name.
        variables: of ``config``'s network, finite.
        config: of the network.
        dtype: how the kernels are stored. "float32" loses nothing, "float16" takes half the room, "int8" a
            quarter: each output of a layer then has its own scale, so that the error is at most 1/254 of
            its largest weight. Vectors (biases, batch statistics, ...) are always float32: they are small,
            and their range can exceed what float16 holds.
        metadata: anything JSON can say, for instance the licence.

    Raises:
        ValueError: the variables do not belong to ``config``, or ``dtype`` or ``target`` is unknown.
        OSError: the folder cannot be written to.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: expected {', '.join(_DTYPES)}; got {dtype!r}")
    _check_target(target)
    flat = flatten(variables)
    check_variables(flat, config)
    stored: dict[str, np.ndarray] = {}
    for path, array in flat.items():
        stored |= _pack(path, array.astype(np.float32, copy=False), dtype)
    description = {
        "format_version": FORMAT_VERSION,
        "target": target,
        "dtype": dtype,
        "config": config.to_json(),
        "metadata": dict(metadata or {}),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / f"{target}.safetensors") as temporary:
        # Not save_file: it makes a new file that only its owner may read.
        temporary.write_bytes(save({name: np.ascontiguousarray(array) for name, array in stored.items()}))
    write_json(folder / f"{target}.json", description)


def load_weights(folder: str | os.PathLike[str], target: str) -> Weights:
    """The network that `save_weights` saved, whatever type it was stored in.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: they are damaged, or do not fit each other.
    """
    _check_target(target)
    path, description_path = (Path(folder) / f"{target}{suffix}" for suffix in (".safetensors", ".json"))
    description = read_json(description_path)
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{description_path}: expected format_version {FORMAT_VERSION}, got {version!r}")
    metadata = description.get("metadata", {})
    if not isinstance(metadata, dict):
        raise ValueError(f"{description_path}: expected a JSON object as metadata, got {metadata!r}")
    with path.open("rb"):  # safetensors' own error for a missing file has no number and no file name
        pass
    try:
        config = OpenUnmixConfig.from_json(description.get("config", {}))
        flat = _unpack(load_file(path))
        check_variables(flat, config)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: damaged weights ({error})") from None
    return Weights(unflatten(flat), config, metadata)


def saved_targets(folder: str | os.PathLike[str]) -> list[str]:
    """The targets whose weights `save_weights` saved in ``folder``, in alphabetical order."""
    found = sorted(Path(folder).glob("*.safetensors"))
    return [path.stem for path in found if path.with_suffix(".json").is_file()]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object in the readable form; it appears whole or not at all."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it holds anything else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _check_target(target: str) -> None:
    if not target or Path(target).name != target or target.startswith("."):
        raise ValueError(f"target: expected a plain name such as 'vocals', got {target!r}")


def _pack(path: str, array: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """A variable in the type it is stored in."""
    is_kernel = array.ndim >= 2 and path.endswith("kernel")
    if dtype == "float32" or not is_kernel:
        return {path: array}
    if dtype == "float16":
        if np.abs(array).max() > np.finfo(np.float16).max:
            raise ValueError(f"{path}: expected weights that float16 can hold, got {np.abs(array).max()}")
        return {path: array.astype(np.float16)}
    # The last axis counts the outputs, the one before it the inputs that share an output's scale.
    largest = np.abs(array).max(axis=-2, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return {path: np.rint(array / scale).astype(np.int8), path + _SCALE: scale}


def _unpack(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables in float32; `_pack` undone."""
    flat = {}
    for path, array in stored.items():
        if path.endswith(_SCALE) and path.removesuffix(_SCALE) in stored:
            continue
        flat[path] = array.astype(np.float32, copy=False)
        if array.dtype == np.int8:
            flat[path] = flat[path] * stored[path + _SCALE]
    return flat
