"""A whole run of training: batches in, a folder with a model out."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxsep.batches import BatchFunction, Song
from jaxsep.config import OpenUnmixConfig, TrainingConfig
from jaxsep.training import placement, statistics
from jaxsep.training.checkpoints import Checkpoints
from jaxsep.training.folder import RunFolder, versions
from jaxsep.training.history import History
from jaxsep.training.loop import Limits, Loop, Parts, Validate
from jaxsep.training.muon import muon
from jaxsep.training.progress import Progress
from jaxsep.training.schedule import Schedule
from jaxsep.training.state import adam_with_l2, init_state, state_shapes
from jaxsep.training.step import Augment
from jaxsep.training.validation import song_losses

__all__ = ["TrainResult", "fit"]


class TrainResult(NamedTuple):
    """What a run came to."""

    history: History
    variables: Any  # stacked, NumPy: those after the last step (their average, with `ema`), not the best ones
    reason: str  # why it ended: "epochs", "patience", "steps" or "minutes"


def fit(
    batches: BatchFunction,
    config: OpenUnmixConfig,
    settings: TrainingConfig,
    *,
    targets: Sequence[str],
    sources: Sequence[str],
    output: str | os.PathLike[str],
    validation_songs: Sequence[Song] = (),
    validate: Validate | None = None,
    input_statistics: statistics.Statistics | Sequence[Song] | None = None,
    variables: Any = None,
    schedule: Schedule | None = None,
    augment: Augment | None = None,
    resume: bool = False,
    max_steps: int | None = None,
    minutes: float | None = None,
    save_minutes: float = 10.0,
    data: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tensorboard: bool = False,
    show: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> TrainResult:
    """Train nets for ``targets`` together and keep each one's best in ``output``.

    The run is a function of its settings and of ``batches``: stopped by whatever and resumed, it ends in the very
    same weights, on the same machine bit for bit. On several devices every batch lies on all of them; on several
    hosts (`jax.distributed`) each host's ``batches`` gives its own part of the batch.

    Args:
        batches: ``(seed, step)`` to the batch of a step; called in a thread, one step ahead.
        config: sizes of each net.
        settings: how to train.
        targets: what to train nets for, out of ``sources``.
        sources: along the source axis of every batch; their sum is the mixture.
        output: the model's folder, see :mod:`jaxsep.training.folder`.
        validation_songs: an epoch's loss is the mean over them. Without them, that of its steps.
        validate: makes an epoch's loss of each target from the stacked variables, instead of songs.
        input_statistics: what the nets standardise their input by, or songs to measure it on; None for neither.
        variables: stacked, to start from; fresh ones if None.
        schedule: learning rate of each step, instead of one that falls when the loss does not.
        augment: changes the stems' spectrograms before they are added, see `train_step`.
        resume: go on with the run in ``output``, if there is one.
        max_steps: end after so many steps in all; ``output`` may be resumed later, as after ``minutes``.
        minutes: end when this call has taken so long.
        save_minutes: between two saves within an epoch.
        data: what identifies the data, as JSON: a run with other data is not resumed.
        metadata: for the description of the nets, as JSON, for instance the licence.
        tensorboard: write events for TensorBoard too.
        show: a progress line.
        say: told of what is worth a line.

    Returns:
        The history and the last weights; the best ones are in ``output``.

    Raises:
        ValueError: settings or batches that do not go together, a folder with another run.
        FloatingPointError: the loss became NaN or infinite; the message names the step. What was saved stays.
        OSError: the folder cannot be written to, or there is no room in it.
        KeyboardInterrupt: SIGTERM or SIGINT, after a save.
        ImportError: Orbax, or tensorboardX where asked for, is not installed.
    """
    targets, sources = tuple(targets), tuple(sources)
    _check_targets(targets, sources)
    mesh = placement.all_devices()
    folder = RunFolder(output, targets)
    described = {
        "config": config.to_json(),
        "settings": settings.to_json(),
        "targets": targets,
        "sources": sources,
        "data": dict(data or {}),
    }
    writes = jax.process_index() == 0
    folder.begin(described, resume=resume, write=writes)
    make = {"adam": adam_with_l2, "muon": muon}[settings.optimizer]
    optimizer = make(weight_decay=settings.weight_decay, clip=settings.clip)
    key_init, key_steps = jax.random.split(jax.random.key(settings.seed))

    with Checkpoints(folder.checkpoints) as checkpoints:
        if checkpoints.latest() is not None:
            shapes = state_shapes(config, optimizer, n_targets=len(targets), average=settings.ema > 0)
            state, notes = checkpoints.restore(shapes)
            history = History.from_json(notes)
            say(f"going on after step {history.step}, epoch {len(history.epochs)}")
        else:
            history = History.fresh(len(targets), settings)
            mean, std = _measured(input_statistics, config, say)
            state = init_state(
                config,
                optimizer,
                n_targets=len(targets),
                key=key_init,
                input_mean=mean,
                input_std=std,
                variables=variables,
                average=settings.ema > 0,
            )
        limits = Limits.of(settings, max_steps=max_steps, minutes=minutes, save_minutes=save_minutes)
        parts = Parts(
            batches=batches,
            config=config,
            settings=settings,
            targets=targets,
            sources=sources,
            optimizer=optimizer,
            key=np.asarray(jax.random.key_data(key_steps)),
            augment=augment,
            schedule=schedule,
            validate=validate or validation_over(validation_songs, config, targets),
            metadata={
                "licence": "unknown",
                **(metadata or {}),
                "training": described,
                "versions": versions(),
            },
        )
        with Progress(
            limits.last_step,
            targets,
            first=history.step,
            show=show and writes,
            tensorboard=folder.tensorboard if tensorboard and writes else None,
        ) as progress:
            loop = Loop(parts, limits, mesh, folder if writes else None, checkpoints, progress, history)
            last, reason = loop.run(placement.replicate(state, mesh))
    return TrainResult(history, jax.tree.map(np.asarray, last), reason)


def _check_targets(targets: tuple[str, ...], sources: tuple[str, ...]) -> None:
    unknown = [target for target in targets if target not in sources]
    if unknown or not targets or len(set(targets)) < len(targets):
        raise ValueError(
            f"targets: expected different ones out of {', '.join(sources)}; got {', '.join(targets) or 'none'}"
        )


def _measured(
    given: statistics.Statistics | Sequence[Song] | None, config: OpenUnmixConfig, say: Callable[[str], None]
) -> tuple[Any, Any]:
    if given is None or isinstance(given, statistics.Statistics):
        return given or (None, None)
    say(f"measuring statistics of {len(given)} songs")
    return statistics.measure(given, config)


def validation_over(
    songs: Sequence[Song], config: OpenUnmixConfig, targets: tuple[str, ...]
) -> Validate | None:
    """The mean loss over songs, which hosts share."""
    if not songs:
        return None
    mine = list(songs)[jax.process_index() :: jax.process_count()]

    def validate(variables: Any) -> Any:
        losses = song_losses(variables, mine, config, targets=targets)
        return placement.gather(losses, len(songs)).mean(axis=0)

    return validate
