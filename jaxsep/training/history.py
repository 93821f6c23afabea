"""What a run has done so far, apart from its arrays: counters, losses, schedules. All of it JSON can say."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from jaxsep.config import TrainingConfig
from jaxsep.training.schedule import Plateau, Stopping

__all__ = ["Epoch", "History"]


@dataclass(frozen=True)
class Epoch:
    """One line of a run's history; a list has a number for each target."""

    epoch: int  # from 1
    step: int  # steps done at its end
    train_loss: list[float]
    valid_loss: list[float]
    learning_rate: list[float]
    seconds: float  # with its validation


@dataclass
class History:
    """Of all targets; a run that goes on begins with the one that was saved."""

    step: int
    plateaus: list[Plateau]
    stoppings: list[Stopping]
    epochs: list[Epoch] = field(default_factory=list)
    loss_sum: list[float] = field(default_factory=list)  # over the steps of this epoch
    seconds: float = 0.0  # of this epoch

    @classmethod
    def fresh(cls, n_targets: int, settings: TrainingConfig) -> Self:
        """Before the first step."""
        plateaus = [Plateau(settings.learning_rate)] * n_targets
        return cls(0, plateaus, [Stopping()] * n_targets, loss_sum=[0.0] * n_targets)

    @property
    def stopped(self) -> bool:
        """Whether no target has got better for long."""
        return all(stopping.stopped for stopping in self.stoppings)

    def add_step(self, loss: Float[np.ndarray, " target"]) -> None:
        """A step was done."""
        self.step += 1
        self.loss_sum = [total + float(one) for total, one in zip(self.loss_sum, loss, strict=True)]

    def mean_loss(self, settings: TrainingConfig) -> list[float]:
        """Of this epoch so far; at its end, of all of it."""
        n_steps = (self.step - 1) % settings.steps_per_epoch + 1
        return [total / n_steps for total in self.loss_sum]

    def end_epoch(self, valid_loss: list[float], rates: list[float], settings: TrainingConfig) -> list[int]:
        """An epoch was done; which targets were never better."""
        number = len(self.epochs) + 1
        train_loss = self.mean_loss(settings)
        self.epochs.append(Epoch(number, self.step, train_loss, valid_loss, rates, round(self.seconds, 3)))
        rules = {"gamma": settings.lr_decay_gamma, "patience": settings.lr_decay_patience}
        self.plateaus = [
            plateau.after(loss, **rules, cooldown=settings.lr_decay_cooldown)
            for plateau, loss in zip(self.plateaus, valid_loss, strict=True)
        ]
        self.stoppings = [
            stopping.after(loss, number, patience=settings.patience)
            for stopping, loss in zip(self.stoppings, valid_loss, strict=True)
        ]
        self.loss_sum, self.seconds = [0.0] * len(valid_loss), 0.0
        return [index for index, stopping in enumerate(self.stoppings) if stopping.best_epoch == number]

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        values = asdict(self)
        # JSON knows no infinity, which is the best loss before the first.
        for name, kind in (("plateaus", Plateau), ("stoppings", Stopping)):
            rows = [kind(*row)._asdict() for row in getattr(self, name)]
            values[name] = [
                row | {"best": row["best"] if math.isfinite(row["best"]) else None} for row in rows
            ]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` made ``values`` from."""

        def rows(kind: type, name: str) -> list[Any]:
            return [
                kind(**row | {"best": math.inf if row["best"] is None else row["best"]})
                for row in values[name]
            ]

        made = cls(**values)
        made.plateaus, made.stoppings = rows(Plateau, "plateaus"), rows(Stopping, "stoppings")
        made.epochs = [Epoch(**epoch) for epoch in values["epochs"]]
        return made

    def of_target(self, index: int) -> dict[str, Any]:
        """One target's history under open-unmix's names."""
        stopping = self.stoppings[index]
        return {
            "epochs_trained": len(self.epochs),
            "best_loss": stopping.best if math.isfinite(stopping.best) else None,
            "best_epoch": stopping.best_epoch,
            "train_loss_history": [epoch.train_loss[index] for epoch in self.epochs],
            "valid_loss_history": [epoch.valid_loss[index] for epoch in self.epochs],
            "learning_rate_history": [epoch.learning_rate[index] for epoch in self.epochs],
            "train_time_history": [epoch.seconds for epoch in self.epochs],
            "num_bad_epochs": stopping.bad,
        }
