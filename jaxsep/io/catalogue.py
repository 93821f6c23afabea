"""The models with a name, and the card of any model: what it is, who made it, what one may do with it."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from jaxsep.io import zoo
from jaxsep.io.checkpoint import read_json, saved_targets

__all__ = ["CARD", "ModelRow", "list_models", "model_card"]

CARD = "CARD.md"
"""Name of the file beside a model's weights that describes it, in Markdown."""

_DIGITS = 8  # of a SHA-256: as many as the public files carry in their names


class ModelRow(NamedTuple):
    """What the list says of one model."""

    name: str
    targets: list[str]
    version: str
    licence: str
    megabytes: float  # of the weights: to download, or on disk
    sha256: dict[str, str]  # target: first digits, of the file as published
    on_disk: bool  # usable without a network
    is_default: bool


def list_models() -> list[ModelRow]:
    """The models with a name: the one in the package, then the public ones.

    Example:
        >>> [row.name for row in list_models()]
        ['umx-open', 'umx', 'umxhq', 'umxl', 'umxse']
    """
    return [_packaged_row(), *(_public_row(name, public) for name, public in zoo.PUBLIC_MODELS.items())]


def model_card(model: str | os.PathLike[str] = zoo.DEFAULT_MODEL) -> str:
    """The card of a model by name or folder, in Markdown; nothing is downloaded.

    The file `CARD` beside the weights where there is one, otherwise what is known without it.

    Args:
        model: as for `jaxsep.io.zoo.resolve`.

    Raises:
        ValueError: no such model, or it is damaged.
        OSError: a file cannot be read.

    Example:
        >>> model_card("umxhq").splitlines()[0]
        '# umxhq'
    """
    name = os.fspath(model)
    public = zoo.PUBLIC_MODELS.get(name)
    if public is not None:
        return _public_card(name, public)
    folder = zoo.packaged_folder() if name == zoo.DEFAULT_MODEL else Path(name).expanduser()
    card = folder / CARD
    return card.read_text(encoding="utf-8") if card.is_file() else _plain_card(zoo.resolve(model))


def _packaged_row() -> ModelRow:
    folder = zoo.packaged_folder()
    targets = zoo.usual_order(saved_targets(folder))
    if not targets:
        return ModelRow(zoo.DEFAULT_MODEL, [], "none", "not part of this installation", 0.0, {}, False, True)
    notes = [read_json(folder / f"{target}.json").get("metadata", {}) for target in targets]
    files = {target: (folder / f"{target}.safetensors").read_bytes() for target in targets}
    return ModelRow(
        name=zoo.DEFAULT_MODEL,
        targets=targets,
        version=_joined(note.get("version") for note in notes),
        licence=_joined(note.get("licence") for note in notes),
        megabytes=round(sum(map(len, files.values())) / 1e6, 1),
        sha256={target: hashlib.sha256(data).hexdigest()[:_DIGITS] for target, data in files.items()},
        on_disk=True,
        is_default=True,
    )


def _public_row(name: str, public: zoo.PublicModel) -> ModelRow:
    return ModelRow(
        name=name,
        targets=list(public.files),
        version=f"Zenodo record {public.record}",
        licence=public.licence,
        megabytes=public.megabytes,
        sha256={target: public.sha256_prefix(target)[:_DIGITS] for target in public.files},
        on_disk=set(public.files) <= set(saved_targets(zoo.cache_folder(name))),
        is_default=False,
    )


def _joined(values: Iterable[object]) -> str:
    """The values that are stated, each once."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "not stated"


def _public_card(name: str, public: zoo.PublicModel) -> str:
    row = _public_row(name, public)
    facts = {
        "stems": ", ".join(row.targets),
        "published": f"https://zenodo.org/records/{public.record}",
        "licence": row.licence,
        "size": f"{row.megabytes:g} MB, {'on disk' if row.on_disk else 'downloaded at first use'}",
        "audio": f"{public.sample_rate:g} Hz, STFT of {public.n_fft} samples every {public.hop_length}",
        **{f"{target}.pth": f"SHA-256 begins with {digits}" for target, digits in row.sha256.items()},
    }
    return _facts(name, facts)


def _plain_card(model: zoo.Model) -> str:
    first = next(iter(model.networks.values())).config
    facts = {
        "stems": ", ".join(model.targets),
        "version": _joined(weights.metadata.get("version") for weights in model.networks.values()),
        "licence": model.licence,
        "audio": f"{model.sample_rate:g} Hz, STFT of {model.n_fft} samples every {model.hop_length}",
        "net": f"hidden size {first.hidden_size}, {first.n_layers} LSTM layers, {first.n_channels} channels",
    }
    return _facts(model.name, facts)


def _facts(name: str, facts: dict[str, str]) -> str:
    return "\n".join([f"# {name}", "", *(f"- {key}: {value}" for key, value in facts.items())]) + "\n"
