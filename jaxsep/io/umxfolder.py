"""Folders in open-unmix's own layout: ``separator.json``, ``TARGET.json`` and ``TARGET*.pth``."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import Weights, read_json, write_json
from jaxsep.io.statedict import state_dict_from_variables, variables_from_state_dict
from jaxsep.io.torchfile import read_state_dict
from jaxsep.io.torchwriter import write_state_dict

__all__ = ["load_umx_weights", "read_pth", "save_umx_weights", "umx_targets"]

# A released file carries the start of its hash: vocals-b62c91ce.pth, speech_f5e0d9f9.pth.
_HASH = re.compile(r"[-_][0-9a-f]{8,64}$")


def umx_targets(folder: str | os.PathLike[str]) -> list[str]:
    """The targets with a ``.pth`` file in ``folder``, in alphabetical order."""
    return sorted({_HASH.sub("", path.stem) for path in Path(folder).glob("*.pth")})


def load_umx_weights(folder: str | os.PathLike[str], target: str) -> Weights:
    """One network of a folder that open-unmix wrote.

    Layers, directions, channels and bins are read from the weights, because the JSON may not say.

    Raises:
        OSError: ``separator.json`` or the weights are missing.
        ValueError: a file is damaged, or the files do not fit each other.
    """
    folder = Path(folder)
    found = [path for path in sorted(folder.glob("*.pth")) if _HASH.sub("", path.stem) == target]
    if not found:
        raise FileNotFoundError(
            f"{folder / target}.pth: expected the weights of {target!r}, got no such file"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: expected one weights file for {target!r}, got {names}")
    stft_path = folder / "separator.json"
    stft = read_json(stft_path)
    try:
        values = {"n_fft": stft["nfft"], "hop_length": stft["nhop"], "sample_rate": stft["sample_rate"]}
    except KeyError as error:
        raise ValueError(f"{stft_path}: expected the key {error}, got none") from None
    description_path = folder / f"{target}.json"
    description = read_json(description_path) if description_path.exists() else {}
    args = description.get("args")
    bandwidth = args.get("bandwidth") if isinstance(args, Mapping) else None
    return read_pth(found[0], bandwidth=bandwidth, metadata={"open_unmix": description}, **values)


def read_pth(path: Path, *, bandwidth: Any, metadata: Mapping[str, Any], **stft: Any) -> Weights:
    """The network in one weights file of open-unmix.

    Args:
        path: the ``.pth`` file.
        bandwidth: what its author called the bandwidth, in Hz; kept if the weights agree.
        metadata: to go along.
        **stft: ``n_fft``, ``hop_length`` and ``sample_rate``, which the file does not tell.
    """
    state = read_state_dict(path)
    try:
        variables, fields = variables_from_state_dict(state)
        max_bin, n_bins = fields.pop("max_bin"), fields.pop("n_bins")
        config = OpenUnmixConfig.from_max_bin(max_bin, **stft, **fields)
        if config.n_bins != n_bins:
            raise ValueError(
                f"expected weights for n_fft = {config.n_fft}: {config.n_bins} bins, got {n_bins}"
            )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if isinstance(bandwidth, int | float) and bandwidth > 0:
        named = OpenUnmixConfig(**{**config.to_json(), "bandwidth": float(bandwidth)})
        config = named if named.max_bin == max_bin else config
    return Weights(variables, config, dict(metadata))


def save_umx_weights(folder: str | os.PathLike[str], target: str, weights: Weights) -> None:
    """Writes a network as open-unmix stores it, with ``separator.json`` for the folder.

    open-unmix 1.3 itself rebuilds every network with three layers in both directions, whatever the
    weights say; others than these are for readers that look.

    Raises:
        ValueError: the variables do not belong to the configuration.
        OSError: the folder cannot be written to.
    """
    config = weights.config
    state = state_dict_from_variables(weights.variables, config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_state_dict(folder / f"{target}.pth", state)
    stft = {
        "nfft": config.n_fft,
        "nhop": config.hop_length,
        "sample_rate": config.sample_rate,
        "nb_channels": config.n_channels,
    }
    args = {
        "target": target,
        "hidden_size": config.hidden_size,
        "nb_layers": config.n_layers,
        "unidirectional": not config.bidirectional,
        "bandwidth": config.bandwidth,
        **stft,
    }
    write_json(folder / f"{target}.json", {"args": args})
    write_json(folder / "separator.json", stft)
