"""The loop of a run: steps, and what happens between them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from jaxsep.batches import Batch, BatchFunction
from jaxsep.config import OpenUnmixConfig, TrainingConfig
from jaxsep.training import placement
from jaxsep.training.checkpoints import Checkpoints
from jaxsep.training.folder import RunFolder
from jaxsep.training.history import History
from jaxsep.training.interruption import interruption
from jaxsep.training.prefetch import prefetch
from jaxsep.training.progress import Progress
from jaxsep.training.schedule import Schedule
from jaxsep.training.state import TrainState, kept_variables
from jaxsep.training.step import Augment, StepReport, train_step

__all__ = ["Limits", "Loop", "Parts", "Validate"]

Validate = Callable[[Any], Sequence[float]]
"""``validate(stacked variables)`` to a loss for each target."""


class Parts(NamedTuple):
    """What a run is made of; none of it changes."""

    batches: BatchFunction
    config: OpenUnmixConfig
    settings: TrainingConfig
    targets: tuple[str, ...]
    sources: tuple[str, ...]
    optimizer: optax.GradientTransformation
    key: np.ndarray  # of the steps, as its bits: the same on all hosts
    augment: Augment | None
    schedule: Schedule | None
    validate: Validate | None
    metadata: dict[str, Any]


class Limits(NamedTuple):
    """When a run ends, or saves in between."""

    last_step: int
    reason: str  # what it ends for there
    end: float  # on `time.monotonic`'s clock
    save_seconds: float

    @classmethod
    def of(
        cls, settings: TrainingConfig, *, max_steps: int | None, minutes: float | None, save_minutes: float
    ) -> Self:
        """From what `fit` was given.

        Raises:
            ValueError: a time on several hosts, whose clocks differ.
        """
        if jax.process_count() > 1:
            if minutes is not None:
                raise ValueError(f"minutes: expected None on several hosts, got {minutes}")
            save_minutes = float("inf")
        epochs = settings.epochs * settings.steps_per_epoch
        end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        if max_steps is not None and max_steps < epochs:
            return cls(max_steps, "steps", end, 60 * save_minutes)
        return cls(epochs, "epochs", end, 60 * save_minutes)


class Loop:
    """Runs the steps of one run.

    Args:
        parts: what it is made of.
        limits: when it ends.
        mesh: its devices.
        folder: where to write; None on hosts that do not.
        checkpoints: of this run.
        progress: told of every step.
        history: changed as the run goes on.
    """

    def __init__(
        self,
        parts: Parts,
        limits: Limits,
        mesh: Mesh,
        folder: RunFolder | None,
        checkpoints: Checkpoints,
        progress: Progress,
        history: History,
    ) -> None:
        self._parts, self._limits, self._mesh = parts, limits, mesh
        self._folder, self._checkpoints, self._progress, self._history = (
            folder,
            checkpoints,
            progress,
            history,
        )
        settings = parts.settings
        self._step = partial(
            train_step,
            key=jax.random.wrap_key_data(placement.replicate(parts.key, mesh)),
            config=parts.config,
            optimizer=parts.optimizer,
            targets=tuple(parts.sources.index(target) for target in parts.targets),
            augment=parts.augment,
            dropout=settings.dropout,
            ema=settings.ema,
            accumulate=settings.accumulate,
            bf16=settings.bf16,
            frame_step=settings.frame_step,
            filtered=settings.filtered,
        )
        # Losses are looked at one step late, so that an accelerator never waits for it. A CPU has nothing to hide;
        # and its hosts must not have sums under way whose order differs.
        self._n_excerpts = 0  # in a batch, of all hosts
        self._lag = 0 if self._mesh.devices.flat[0].platform == "cpu" else 1

    def run(self, state: TrainState) -> tuple[Any, str]:
        """Train until a limit is reached.

        Returns:
            The stacked variables of the last step, and what ended the run.
        """
        history, settings = self._history, self._parts.settings
        waiting: deque[StepReport] = deque()
        saved = begun = time.monotonic()
        reason = "patience" if history.stopped else self._limits.reason
        last = history.step if history.stopped else max(history.step, self._limits.last_step)
        with (
            prefetch(self._batch, history.step, last) as batches,
            interruption() as interrupted,
        ):
            for step, batch in enumerate(batches, history.step + 1):
                self._n_excerpts = len(batch.stems)
                state, report = self._step(state, batch, np.array(self._rates(step - 1), np.float32))
                waiting.append(report)
                ends = step % settings.steps_per_epoch == 0
                while len(waiting) > (0 if ends else self._lag):
                    self._settle(waiting.popleft())
                now = time.monotonic()
                history.seconds, begun = history.seconds + now - begun, now
                if ends:
                    self._end_epoch(state, begun)
                    begun = time.monotonic()
                stop = self._why_stop(step, interrupted)
                if ends or stop or now - saved > self._limits.save_seconds:
                    while waiting:
                        self._settle(waiting.popleft())
                    self._checkpoints.save(state, history.to_json())
                    saved = now
                if stop:
                    reason = stop
                    break
        while waiting:
            self._settle(waiting.popleft())
        self._checkpoints.save(state, history.to_json())
        self._checkpoints.wait()
        if self._folder is not None:
            self._folder.draw_curves(history)
        if reason == "interrupted":
            raise KeyboardInterrupt(f"saved after step {history.step}")
        return kept_variables(state), reason

    def _batch(self, step: int) -> Batch:
        """The batch of a step on the devices; made in the prefetching thread."""
        parts = self._parts
        batch = parts.batches(parts.settings.seed, step)
        _, n_sources, channels, n_samples = batch.stems.shape
        expected = (len(parts.sources), parts.config.n_channels)
        if (n_sources, channels) != expected or n_samples < parts.config.n_fft:
            raise ValueError(
                f"batches: expected stems (batch, {expected[0]}, {expected[1]}, {parts.config.n_fft} or more), "
                f"got shape {batch.stems.shape}"
            )
        placement.check_batch_size(len(batch.stems), self._mesh, accumulate=parts.settings.accumulate)
        return placement.place(batch, self._mesh)

    def _rates(self, step: int) -> list[float]:
        """The learning rate of each net in a step, counted from 0."""
        if self._parts.schedule is not None:
            return [float(self._parts.schedule(step))] * len(self._parts.targets)
        return [plateau.rate for plateau in self._history.plateaus]

    def _settle(self, report: StepReport) -> None:
        """Look at what a step found.

        Raises:
            FloatingPointError: it is not finite.
        """
        loss, norm = np.asarray(report.loss), np.asarray(report.gradient_norm)
        step = self._history.step + 1
        for name, values in (("loss", loss), ("gradient", norm)):
            wrong = [
                target
                for target, value in zip(self._parts.targets, values, strict=True)
                if not np.isfinite(value)
            ]
            if wrong:
                raise FloatingPointError(
                    f"step {step}: expected a finite {name}, got NaN or infinity for {', '.join(wrong)}; "
                    f"the last save in {self._checkpoints.folder} is before it"
                )
        self._history.add_step(loss)
        epoch = (step - 1) // self._parts.settings.steps_per_epoch + 1
        self._progress.step(epoch, self._history.mean_loss(self._parts.settings), self._n_excerpts)

    def _end_epoch(self, state: TrainState, begun: float) -> None:
        """Validate, keep what is best, write down what happened."""
        parts, history = self._parts, self._history
        rates = self._rates(history.step - 1)
        variables = kept_variables(state)
        if parts.validate is None:
            losses = history.mean_loss(parts.settings)
        else:
            losses = [float(loss) for loss in parts.validate(variables)]
        if not np.isfinite(losses).all():
            raise FloatingPointError(
                f"step {history.step}: expected a finite validation loss, got {losses}; the last save in "
                f"{self._checkpoints.folder} is before it"
            )
        history.seconds += time.monotonic() - begun
        improved = history.end_epoch(losses, rates, parts.settings)
        if self._folder is not None:
            for index in improved:
                metadata = {**parts.metadata, **history.of_target(index)}
                self._folder.write_weights(index, variables, parts.config, metadata)
            self._folder.write_history(history, parts.metadata)
        self._progress.epoch(history.epochs[-1], [stopping.best for stopping in history.stoppings])

    def _why_stop(self, step: int, interrupted: Callable[[int], bool]) -> str:
        """What ends the run after this step; nothing for none."""
        if interrupted(step):
            return "interrupted"
        if self._history.stopped:
            return "patience"
        if time.monotonic() > self._limits.end:
            return "minutes"
        return ""
