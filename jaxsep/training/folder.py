"""The folder that a run writes: a model that `load_separator` reads, and beside it what the run needs to go on.

::

    OUTPUT/vocals.safetensors, vocals.json     the best net so far, with settings and history
    OUTPUT/runs/vocals/settings.json           what the run may go on with
    OUTPUT/runs/vocals/history.json            losses of every epoch
    OUTPUT/runs/vocals/checkpoints/            the last states
    OUTPUT/runs/vocals/curves.png              when it ends
    OUTPUT/runs/vocals/tensorboard/            on request
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsep import __version__
from jaxsep.config import OpenUnmixConfig, TrainingConfig
from jaxsep.io.checkpoint import read_json, save_weights, write_json
from jaxsep.io.files import atomic_path
from jaxsep.training.history import History
from jaxsep.training.state import unstack

__all__ = ["RunFolder"]

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")

# A run may go on with others of these: they say how long it is and where its data lie, not what it does.
_FREE = ("epochs", "patience", "root")


class RunFolder:
    """Names and writes the files of one run.

    Args:
        output: the model's folder; made if it does not exist.
        targets: of the run.
    """

    def __init__(self, output: str | os.PathLike[str], targets: Sequence[str]) -> None:
        self.output, self.targets = Path(output), tuple(targets)
        self.folder = self.output / "runs" / "+".join(targets)
        self.checkpoints = self.folder / "checkpoints"
        self.tensorboard = self.folder / "tensorboard"
        self._settings = self.folder / "settings.json"

    def begin(self, settings: Mapping[str, Any], *, resume: bool, write: bool) -> None:
        """Lay claim to the folder, or see that the run in it is the one to go on with.

        Args:
            settings: everything that makes the run what it is, as JSON.
            resume: go on with a run that is there.
            write: whether this host writes.

        Raises:
            ValueError: a run is there and is not to be resumed, or has other settings.
            OSError: the folder cannot be written to.
        """
        if self._settings.exists():
            if not resume:
                raise ValueError(
                    f"{self.output}: expected no run of {', '.join(self.targets)} in it, got one; resume goes on "
                    "with it, another folder begins anew"
                )
            there = read_json(self._settings)
            # A setting that the version which began the run did not know yet had its default's effect.
            there["settings"] = {**TrainingConfig().to_json(), **there.get("settings", {})}
            _compare(json.loads(json.dumps(settings)), there, self.folder)
        elif write:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._settings, settings)

    def write_weights(
        self, index: int, variables: Any, config: OpenUnmixConfig, metadata: Mapping[str, Any]
    ) -> None:
        """One target's net, out of stacked variables."""
        one = jax.tree.map(np.asarray, unstack(variables, index))
        save_weights(self.output, self.targets[index], one, config, metadata=metadata)

    def write_history(self, history: History, metadata: Mapping[str, Any]) -> None:
        """The history, by itself and in the description of each net that is there."""
        epochs = [asdict(epoch) for epoch in history.epochs]
        write_json(self.folder / "history.json", {"targets": self.targets, "epochs": epochs})
        for index, target in enumerate(self.targets):
            path = self.output / f"{target}.json"
            if path.exists():
                described = read_json(path)
                described["metadata"] = {**metadata, **history.of_target(index)}
                write_json(path, described)

    def draw_curves(self, history: History) -> Path | None:
        """A picture of the losses; None where there is nothing to draw, or nothing to draw with."""
        if not history.epochs or importlib.util.find_spec("matplotlib") is None:
            return None
        from jaxsep import plot

        curves = {}
        for index, target in enumerate(self.targets):
            label = f"{target} " if len(self.targets) > 1 else ""
            curves[f"{label}training"] = [epoch.train_loss[index] for epoch in history.epochs]
            curves[f"{label}validation"] = [epoch.valid_loss[index] for epoch in history.epochs]
        positive = all(min(curve) > 0 for curve in curves.values())
        best = "validation" if len(self.targets) == 1 else None
        figure = plot.curves(curves, logarithmic=positive, best=best)
        path = self.folder / "curves.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        return path


def versions() -> dict[str, str]:
    """What a run was made with."""
    found = {package: importlib.metadata.version(package) for package in _PACKAGES}
    device = jax.devices()[0].device_kind
    return {"jaxsep": __version__, "python": platform.python_version(), **found, "device": device}


def _compare(wanted: Mapping[str, Any], there: Mapping[str, Any], folder: Path, prefix: str = "") -> None:
    """Refuses settings that differ in more than how long a run is."""
    for name in sorted({*wanted, *there}):
        ours, theirs = wanted.get(name), there.get(name)
        if ours == theirs or name in _FREE:
            continue
        if isinstance(ours, dict) and isinstance(theirs, dict):
            _compare(ours, theirs, folder, f"{prefix}{name}.")
            continue
        raise ValueError(
            f"{folder}: expected the run's own {prefix}{name} = {theirs!r} to resume it, got {ours!r}"
        )
