"""How a run tells what it is doing: a line that moves, and TensorBoard on request."""

import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from jaxsep.training.history import Epoch

__all__ = ["Progress"]


class Progress:
    """A progress line with loss, best loss, samples a second and the time left.

    Args:
        n_steps: of the whole run, at most.
        targets: of the run.
        first: steps done before.
        show: whether there is a line at all.
        tensorboard: folder for TensorBoard's events; None for none.

    Raises:
        ImportError: TensorBoard is asked for and tensorboardX is not installed.
    """

    def __init__(
        self,
        n_steps: int,
        targets: tuple[str, ...],
        *,
        first: int,
        show: bool,
        tensorboard: Path | None = None,
    ) -> None:
        self._targets, self._best = targets, math.nan
        self._writer: Any = None
        if tensorboard is not None:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                raise ImportError(
                    "TensorBoard's events are written by tensorboardX, which is not installed: "
                    "pip install 'jaxsep[train]'"
                ) from None
            self._writer = SummaryWriter(str(tensorboard))
        layout = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {postfix} {elapsed} < {remaining}"
        self._bar = tqdm(total=n_steps, initial=first, disable=not show or None, bar_format=layout)

    def step(self, epoch: int, mean_loss: list[float], n_excerpts: int) -> None:
        """A step of an epoch was done, on so many excerpts; the epoch's losses so far."""
        rate = self._bar.format_dict["rate"]
        samples = "" if not rate else f", {rate * n_excerpts:.3g} samples/s"
        best = "" if math.isnan(self._best) else f", best {self._best:.4g}"
        self._bar.set_description_str(f"epoch {epoch}", refresh=False)
        self._bar.set_postfix_str(f"loss {_mean(mean_loss):.4g}{best}{samples}", refresh=False)
        self._bar.update()

    def epoch(self, epoch: Epoch, best: list[float]) -> None:
        """An epoch was done; each target's best loss."""
        self._best = _mean(best)
        if self._writer is None:
            return
        for index, target in enumerate(self._targets):
            for name in ("train_loss", "valid_loss", "learning_rate"):
                self._writer.add_scalar(f"{target}/{name}", getattr(epoch, name)[index], epoch.epoch)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._writer is not None:
            self._writer.close()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
