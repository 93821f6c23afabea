"""When the learning rate falls and when training ends, counted as torch and open-unmix count."""

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Plateau", "Schedule", "Stopping"]

Schedule = Callable[[int], float]
"""``schedule(step)``: the learning rate of a step, where it is not to follow the loss."""

THRESHOLD = 1e-4  # torch's: how much lower, relatively, a loss must be to count as better


class Plateau(NamedTuple):
    """A learning rate that falls when the loss does not, as ``torch.optim.lr_scheduler.ReduceLROnPlateau``.

    A rate is not lowered by less than 1e-8, as in torch.

    Example:
        >>> plateau = Plateau(rate=1.0)
        >>> for loss in (3.0, 3.0, 3.0, 3.0):
        ...     plateau = plateau.after(loss, gamma=0.5, patience=2, cooldown=0)
        >>> plateau.rate
        0.5
    """

    rate: float
    best: float = math.inf
    bad: int = 0  # epochs without a better loss
    resting: int = 0  # epochs that are still not counted after the rate fell

    def after(self, loss: float, *, gamma: float, patience: int, cooldown: int) -> "Plateau":
        """The next state: after an epoch with this loss.

        Args:
            loss: of the epoch.
            gamma: what the rate is multiplied by, below 1.
            patience: the rate falls when more epochs than this were no better in a row.
            cooldown: epochs after that which do not count.
        """
        better = loss < self.best * (1.0 - THRESHOLD)
        best, bad, resting = (loss, 0, self.resting) if better else (self.best, self.bad + 1, self.resting)
        if resting > 0:
            bad, resting = 0, resting - 1
        if bad <= patience:
            return Plateau(self.rate, best, bad, resting)
        lowered = self.rate * gamma
        return Plateau(lowered if self.rate - lowered > 1e-8 else self.rate, best, 0, cooldown)


class Stopping(NamedTuple):
    """Ends training when the loss has not fallen for long, as open-unmix's ``EarlyStopping``.

    Example:
        >>> stopping = Stopping()
        >>> for epoch, loss in enumerate((3.0, 2.0, 2.5, 2.5), 1):
        ...     stopping = stopping.after(loss, epoch, patience=2)
        >>> stopping
        Stopping(best=2.0, best_epoch=2, bad=2, stopped=True)
    """

    best: float = math.inf
    best_epoch: int = 0  # counted from 1
    bad: int = 0
    stopped: bool = False

    def after(self, loss: float, epoch: int, *, patience: int) -> "Stopping":
        """The next state; ``best_epoch`` is ``epoch`` if the loss is the best so far.

        Args:
            loss: of the epoch.
            epoch: its number.
            patience: epochs without a better one that end training; 0 for never.
        """
        if self.stopped:  # a net that trains on beside others keeps what it had
            return self
        if loss < self.best:
            return Stopping(loss, epoch)
        bad = self.bad + 1
        return Stopping(self.best, self.best_epoch, bad, stopped=patience > 0 and bad >= patience)
