"""The state of a run on disk, so that it can go on after anything: saved aside by Orbax while training goes on.

A save is there whole or not at all. It holds NumPy arrays, so that a run can go on on other devices.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from jaxsep.training.state import TrainState

__all__ = ["Checkpoints", "Saved"]


class Saved(NamedTuple):
    """What a save holds."""

    state: TrainState  # of NumPy arrays
    notes: dict[str, Any]  # whatever JSON can say


class Checkpoints:
    """The saves of one run: the last one and the one before it.

    Args:
        folder: theirs alone; made if it does not exist.
        keep: how many saves stay.

    Raises:
        ImportError: Orbax is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 2) -> None:
        try:
            import orbax.checkpoint as ocp  # here: it takes seconds, and only training needs it
        except ImportError:
            raise ImportError(
                "training saves with Orbax, which is not installed: pip install 'jaxsep[train]'"
            ) from None
        self._ocp = ocp
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder)) from None

    def save(self, state: TrainState, notes: dict[str, Any]) -> None:
        """Save under the state's step, in the background; a save of the same step is there already.

        Raises:
            OSError: this save could not begin, or the one before it could not end.
        """
        # Copies, made now: the next step reuses the state's memory.
        arrays = {name: np.array(leaf) for name, leaf in _named(state).items()}
        step = int(arrays["step"])
        if step in self._manager.all_steps():
            return
        items = {"arrays": self._ocp.args.StandardSave(arrays), "notes": self._ocp.args.JsonSave(notes)}
        self._attempt(lambda: self._manager.save(step, args=self._ocp.args.Composite(**items)))

    def wait(self) -> None:
        """Until what was handed to `save` is on disk.

        Raises:
            OSError: it could not be written.
        """
        self._attempt(self._manager.wait_until_finished)

    def latest(self) -> int | None:
        """The step of the last save; None without one."""
        return self._manager.latest_step()

    def restore(self, like: TrainState) -> Saved:
        """The last save.

        Args:
            like: a state of the same structure, whose numbers do not matter.

        Raises:
            ValueError: there is none, it is damaged, or it is a state of other sizes.
        """
        step = self.latest()
        if step is None:
            raise ValueError(f"{self.folder}: expected a save, got none")
        named = _named(like)
        abstract = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in named.items()}
        items = {"arrays": self._ocp.args.StandardRestore(abstract), "notes": self._ocp.args.JsonRestore()}
        try:
            restored = self._manager.restore(step, args=self._ocp.args.Composite(**items))
        except (ValueError, KeyError, OSError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{self.folder / str(step)}: damaged, or of other settings ({reason})") from None
        for name, leaf in named.items():
            got = restored["arrays"][name].shape
            if got != leaf.shape:
                raise ValueError(f"{self.folder / str(step)}: {name}: expected shape {leaf.shape}, got {got}")
        leaves = [restored["arrays"][name] for name in named]
        return Saved(jax.tree.unflatten(jax.tree.structure(like), leaves), restored["notes"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._attempt(self._manager.close)
        except OSError:
            if error is None:  # else what went wrong first is what to tell
                raise

    def _attempt(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # Orbax and TensorStore have many of their own for a full disk
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(f"{self.folder}: could not save ({reason})") from None


def _named(state: TrainState) -> dict[str, Any]:
    """The arrays of a state by their paths, in the order of its leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
