"""Models by name or by folder: where their weights are, downloads, licences.

The public weights of the Open-Unmix family are fetched at first use and kept, in our own format, in the
user's cache folder (``JAXSEP_CACHE``). ``JAXSEP_MIRROR`` names a further address or folder to fetch from.
"""

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jaxsep.io.checkpoint import Weights, load_weights, save_weights, saved_targets
from jaxsep.io.download import fetch
from jaxsep.io.files import cache_dir
from jaxsep.io.umxfolder import load_umx_weights, read_pth, umx_targets

__all__ = [
    "DEFAULT_MODEL",
    "PUBLIC_MODELS",
    "Model",
    "PublicModel",
    "cache_folder",
    "packaged_folder",
    "resolve",
    "usual_order",
]

DEFAULT_MODEL = "umx-open"
"""The model inside the package."""

# The order in which everyone in this field names them; other targets follow by the alphabet.
_USUAL_ORDER = ("vocals", "drums", "bass", "other")
_MOST_STEPS, _MOST_HEARINGS = 1000, 10  # that a model may ask for
_ZENODO = "https://zenodo.org/records/{record}/files/{file}"
_ZENODO_API = "https://zenodo.org/api/records/{record}/files/{file}/content"
_HUGGING_FACE = "https://huggingface.co/teamup-tech/Open-Unmix-weights/resolve/main/{file}"


@dataclass(frozen=True)
class PublicModel:
    """A set of weights that others published."""

    record: int  # on Zenodo
    files: Mapping[str, str]  # target: name, which carries the first digits of the file's SHA-256
    licence: str
    megabytes: int  # of all files together
    sample_rate: float = 44100.0
    n_fft: int = 4096
    hop_length: int = 1024
    bandwidth: float = 16000.0
    addresses: tuple[str, ...] = (_ZENODO, _ZENODO_API)

    def urls(self, target: str) -> list[str]:
        """Where the weights of ``target`` can be had, best first."""
        file = self.files[target]
        return [address.format(record=self.record, file=file) for address in self.addresses]

    def sha256_prefix(self, target: str) -> str:
        """The first digits of the SHA-256 of the weights of ``target``."""
        found = re.search(r"[-_]([0-9a-f]{8,64})\.pth$", self.files[target])
        if found is None:
            raise ValueError(f"{self.files[target]}: expected a file name with a hash, got none")
        return found[1]


PUBLIC_MODELS: dict[str, PublicModel] = {
    "umx": PublicModel(
        3370486,
        {
            "vocals": "vocals-c8df74a5.pth",
            "drums": "drums-5a48008b.pth",
            "bass": "bass-646024d3.pth",
            "other": "other-f8e132cc.pth",
        },
        "unknown, see zenodo.org/records/3370486 (trained on MUSDB18)",
        136,
    ),
    "umxhq": PublicModel(
        3370489,
        {
            "vocals": "vocals-b62c91ce.pth",
            "drums": "drums-9619578f.pth",
            "bass": "bass-8d85a5bd.pth",
            "other": "other-b52fbbf7.pth",
        },
        "MIT according to a mirror, see zenodo.org/records/3370489 (trained on MUSDB18-HQ)",
        136,
        addresses=(_ZENODO, _ZENODO_API, _HUGGING_FACE),
    ),
    "umxl": PublicModel(
        5069601,
        {
            "vocals": "vocals-bccbd9aa.pth",
            "drums": "drums-69e0ebd4.pth",
            "bass": "bass-2ca1ce51.pth",
            "other": "other-c8c5b3e6.pth",
        },
        "CC BY-NC-SA 4.0: not for commercial use (trained on private stems)",
        432,
        addresses=(_ZENODO, _ZENODO_API, _HUGGING_FACE),
    ),
    "umxse": PublicModel(
        3786908,
        {"speech": "speech_f5e0d9f9.pth", "noise": "noise_04a6fc2d.pth"},
        "unknown, see zenodo.org/records/3786908 (trained on Voicebank+DEMAND)",
        16,
        sample_rate=16000.0,
        n_fft=1024,
        hop_length=512,
    ),
}


@dataclass(frozen=True)
class Model:
    """Networks that work together: one for each target, on the same STFT."""

    name: str
    networks: dict[str, Weights]
    licence: str
    adaptation: int = 0
    """Steps of `jaxsep.adaptation` that the weights ask for where all their targets are loaded."""
    hearings: int = 1
    """How often, see `jaxsep.hearing`, likewise."""

    @property
    def targets(self) -> list[str]:
        """What the model separates a song into."""
        return list(self.networks)

    @property
    def n_channels(self) -> int:
        """Audio channels that the networks read."""
        return self._first.n_channels

    @property
    def sample_rate(self) -> float:
        """Of the audio that the networks read, in Hz."""
        return self._first.sample_rate

    @property
    def n_fft(self) -> int:
        """Samples in a frame of the STFT."""
        return self._first.n_fft

    @property
    def hop_length(self) -> int:
        """Samples between two frames of the STFT."""
        return self._first.hop_length

    @property
    def _first(self) -> Any:
        return next(iter(self.networks.values())).config


def resolve(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    targets: Sequence[str] | None = None,
    *,
    progress: bool = True,
) -> Model:
    """Loads a model, downloading it first if need be.

    Args:
        model: a name of `jaxsep.io.catalogue.list_models`, or the path of a folder in open-unmix's layout or
            in ours. A folder whose path is such a name is given as ``./name``.
        targets: which of the model's targets to load, in this order; None for all.
        progress: whether to show a bar while downloading.

    Raises:
        ValueError: unknown model or target (the message lists what there is), or damaged weights.
        ConnectionError: the weights can be downloaded from nowhere; the message says what to do.
        OSError: a file is missing or cannot be written.
    """
    name = os.fspath(model)
    if name in PUBLIC_MODELS:
        public = PUBLIC_MODELS[name]
        chosen = _choose(targets, list(public.files), name)
        folder = cache_folder(name)
        missing = [target for target in chosen if target not in saved_targets(folder)]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            print(f"{name}: licence {public.licence}", file=sys.stderr)
        for target in missing:
            _download(name, public, target, progress)
        return Model(name, {target: load_weights(folder, target) for target in chosen}, public.licence)
    folder = packaged_folder() if name == DEFAULT_MODEL else Path(name).expanduser()
    if not folder.is_dir():
        known = ", ".join((DEFAULT_MODEL, *PUBLIC_MODELS))
        got = "a model that is not part of this installation" if name == DEFAULT_MODEL else repr(name)
        raise ValueError(f"model: expected one of {known}, or a folder; got {got}")
    return _load_folder(name, folder, targets)


def _load_folder(name: str, folder: Path, targets: Sequence[str] | None) -> Model:
    ours, theirs = saved_targets(folder), umx_targets(folder)
    known = usual_order(ours or theirs)
    if not known:
        raise ValueError(
            f"{folder}: expected a model, TARGET.safetensors with TARGET.json or open-unmix's TARGET.pth "
            "with separator.json; got a folder without"
        )
    load = load_weights if ours else load_umx_weights
    networks = {target: load(folder, target) for target in _choose(targets, known, name)}
    # Some of the targets are no model of the mixture.
    asked = _asked(folder, networks) if len(networks) == len(known) else {}
    model = Model(name, networks, _licence(list(networks.values())), **asked)
    for target, weights in networks.items():
        mine, first = weights.config, model._first
        for field in ("n_fft", "hop_length", "sample_rate", "n_channels"):
            if getattr(mine, field) != getattr(first, field):
                raise ValueError(
                    f"{folder}: expected one {field} for all targets, got {getattr(first, field)} for "
                    f"{model.targets[0]} and {getattr(mine, field)} for {target}"
                )
    return model


def _download(name: str, public: PublicModel, target: str, progress: bool) -> None:
    """Puts the weights of a public model into the cache, in our format."""
    folder, file = cache_folder(name), public.files[target]
    # What the user has put there comes first, and stays.
    own = [folder / file] if (folder / file).is_file() else []
    urls = [*(path.resolve().as_uri() for path in own), *_mirrors(file), *public.urls(target)]
    stft = {"n_fft": public.n_fft, "hop_length": public.hop_length, "sample_rate": public.sample_rate}
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        download = Path(temporary) / file
        try:
            sha256 = fetch(urls, download, sha256_prefix=public.sha256_prefix(target), progress=progress)
        except ConnectionError as error:
            raise ConnectionError(
                f"{name}: cannot download {file}. Put the file into {folder}, or set JAXSEP_MIRROR to an "
                f"address or a folder that has it, or give the path of a model folder. ({error})"
            ) from None
        source = {"licence": public.licence, "source": public.urls(target)[0], "sha256": sha256}
        weights = read_pth(download, bandwidth=public.bandwidth, metadata=source, **stft)
    save_weights(folder, target, weights.variables, weights.config, metadata=weights.metadata)


def _mirrors(file: str) -> list[str]:
    mirror = os.environ.get("JAXSEP_MIRROR")
    if not mirror:
        return []
    base = mirror if "://" in mirror else Path(mirror).expanduser().resolve().as_uri()
    return [f"{base.rstrip('/')}/{file}"]


def cache_folder(name: str) -> Path:
    """Where a public model is kept; it may not exist yet."""
    return cache_dir() / "models" / name


def packaged_folder() -> Path:
    """Where the model in the package is."""
    return Path(str(resources.files("jaxsep"))) / "weights" / DEFAULT_MODEL


def _choose(targets: Sequence[str] | None, known: Sequence[str], name: str) -> list[str]:
    if targets is None:
        return list(known)
    if isinstance(targets, str):
        raise TypeError(f"targets: expected a list of names, got the string {targets!r}")
    unknown = [target for target in targets if target not in known]
    if unknown or not targets:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"targets: expected some of {', '.join(known)} (model {name}), got {got}")
    return list(dict.fromkeys(targets))


def usual_order(targets: Sequence[str]) -> list[str]:
    """The targets as everyone in this field orders them."""
    usual = [target for target in _USUAL_ORDER if target in targets]
    return usual + sorted(set(targets) - set(usual))


def _licence(networks: Sequence[Weights]) -> str:
    """The licence that the weights name, if they do."""
    named = dict.fromkeys(
        str(weights.metadata["licence"]) for weights in networks if "licence" in weights.metadata
    )
    return "; ".join(named) or "not stated"


def _asked(folder: Path, networks: Mapping[str, Weights]) -> dict[str, int]:
    """How the weights ask to be used, if they do."""
    asked = {}
    for name, least, most in (("adaptation", 0, _MOST_STEPS), ("hearings", 1, _MOST_HEARINGS)):
        numbers = {target: weights.metadata.get(name, least) for target, weights in networks.items()}
        for target, number in numbers.items():
            if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
                raise ValueError(
                    f"{folder / target}.json: expected {name} of {least} to {most}, got {number!r}"
                )
        asked[name] = min(numbers.values())
    return asked
