"""The command behind ``train.py``: from options to data, settings and a run.

``train.py`` hands in the data sets, which do not belong to the installed package.
"""

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxsep import memory
from jaxsep.cli.common import FAILED, INTERRUPTED, REFUSED, complain, prepare_jax, speaker
from jaxsep.cli.stopping import check_stopped, stoppable
from jaxsep.cli.train_options import get_parser
from jaxsep.config import OpenUnmixConfig, TrainingConfig

if TYPE_CHECKING:
    from jaxsep.io.zoo import Model

__all__ = ["main"]

ALL = ("vocals", "drums", "bass", "other")

# Which options must agree with the nets that are fine-tuned, and where those have them.
_NET_OPTIONS = {
    "nfft": "n_fft", "nhop": "hop_length", "hidden_size": "hidden_size", "nb_channels": "n_channels",
    "sample_rate": "sample_rate", "bandwidth": "bandwidth",
}  # fmt: skip


def main(catalogue: Any, argv: Sequence[str] | None = None) -> int:
    """Train.

    Args:
        catalogue: the module ``datasets.catalogue``.
        argv: the arguments, by default those of the process.

    Returns:
        0; 1 where training failed; 2 where the request cannot be met; 130 after Ctrl-C or SIGTERM.
    """
    arguments = get_parser().parse_args(argv)
    try:
        with stoppable():
            return _train(arguments, catalogue)
    except FloatingPointError as error:
        return complain(error, FAILED)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        return complain(error, REFUSED)
    except MemoryError:
        return complain("out of memory; a smaller --batch-size or --accumulate needs less", REFUSED)
    except KeyboardInterrupt as stopped:
        return complain(f"interrupted, {stopped or 'nothing to save yet'}; --resume goes on", INTERRUPTED)


def _train(arguments: argparse.Namespace, catalogue: Any) -> int:
    if arguments.checkpoint is not None:
        arguments.output, arguments.resume = arguments.checkpoint, True
    memory.keep()
    _join_hosts(arguments)
    device = prepare_jax("cpu" if arguments.no_cuda else arguments.device)
    import jax

    from jaxsep import training  # here: --help need not wait for JAX

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax would print what is raised and told anyway
    say = speaker(arguments)
    targets = _targets(arguments)
    model = _model(arguments, targets)
    config = _config(arguments, model)
    options = _dataset_options(
        arguments, config, catalogue.DatasetOptions, jax.process_index(), jax.process_count()
    )
    dataset = catalogue.open_dataset(arguments.dataset, arguments.root, targets=targets, options=options)
    batches = dataset.batches
    if arguments.nb_workers:
        batches = catalogue.open_batches(dataset, workers=arguments.nb_workers)
    settings = _settings(arguments, dataset.n_samples)
    say(
        f"{', '.join(targets)} out of {arguments.dataset}: {len(dataset.training_songs)} songs, "
        f"{settings.steps_per_epoch} steps an epoch, {len(dataset.validation_songs)} songs to validate, on {device}"
    )
    check_stopped()  # from here on training heeds signals itself
    result = training.fit(
        batches,
        config,
        settings,
        targets=targets,
        sources=dataset.sources,
        output=arguments.output,
        validation_songs=dataset.validation_songs,
        input_statistics=None if arguments.debug or model else dataset.training_songs,
        variables=training.stack([net.variables for net in model.networks.values()]) if model else None,
        resume=arguments.resume,
        max_steps=arguments.max_steps,
        minutes=arguments.minutes,
        data={**dataset.description, "batch_size": arguments.batch_size, "model": arguments.model},
        metadata={"licence": model.licence} if model else None,
        tensorboard=arguments.tensorboard,
        show=not arguments.quiet,
        say=say,
    )
    for target, stopping in zip(targets, result.history.stoppings, strict=True):
        if stopping.best_epoch:
            say(f"{target}: best loss {stopping.best:.6g} in epoch {stopping.best_epoch}")
    say(f"ended for its {result.reason}; {arguments.output} is the model")
    return 0


def _join_hosts(arguments: argparse.Namespace) -> None:
    """Join the other hosts, before JAX looks for devices."""
    given = (arguments.hosts, arguments.host_index)
    if arguments.coordinator is None:
        if given != (None, None):
            raise ValueError("--hosts, --host-index: expected with --coordinator, got them without")
        return
    import jax

    if arguments.coordinator == "auto":
        jax.distributed.initialize()
        return
    if None in given or not 0 <= arguments.host_index < arguments.hosts:
        raise ValueError(f"--coordinator: expected --hosts N and --host-index 0 to N - 1, got {given}")
    jax.distributed.initialize(arguments.coordinator, arguments.hosts, arguments.host_index)


def _targets(arguments: argparse.Namespace) -> tuple[str, ...]:
    """What to train; by default what the data set's own options name."""
    if arguments.target == ["all"]:
        return ALL
    if arguments.target:
        return tuple(arguments.target)
    named = {
        "aligned": arguments.output_file,
        "trackfolder_fix": arguments.target_file,
        "trackfolder_var": arguments.target_file,
    }
    if arguments.dataset in named:
        return (named[arguments.dataset].rpartition(".")[0] or named[arguments.dataset],)
    return (arguments.target_dir if arguments.dataset == "sourcefolder" else "vocals",)


def _model(arguments: argparse.Namespace, targets: tuple[str, ...]) -> "Model | None":
    if arguments.model is None:
        return None
    from jaxsep.io import zoo

    model = zoo.resolve(arguments.model, targets, progress=not arguments.quiet)
    configs = [net.config for net in model.networks.values()]
    if any(config != configs[0] for config in configs):
        raise ValueError(
            f"{arguments.model}: expected nets of equal sizes to train together, got different ones"
        )
    return model


def _config(arguments: argparse.Namespace, model: "Model | None") -> OpenUnmixConfig:
    """The nets' sizes: those of the options, or of the model that is fine-tuned."""
    if model is None:
        return OpenUnmixConfig(
            bidirectional=not arguments.unidirectional,
            **{field: getattr(arguments, option) for option, field in _NET_OPTIONS.items()},
        )
    config = next(iter(model.networks.values())).config
    usual = get_parser()
    for option, field in _NET_OPTIONS.items():
        got, expected = getattr(arguments, option), getattr(config, field)
        if got not in (expected, usual.get_default(option)):
            flag = "--" + option.replace("_", "-")
            raise ValueError(f"{flag}: expected {expected}, as {arguments.model} has, got {got}")
    return config


def _settings(arguments: argparse.Namespace, n_samples: int) -> TrainingConfig:
    return TrainingConfig(
        seed=arguments.seed,
        epochs=arguments.epochs,
        steps_per_epoch=max(1, -(-n_samples // arguments.batch_size)),
        learning_rate=arguments.lr,
        weight_decay=arguments.weight_decay,
        lr_decay_gamma=arguments.lr_decay_gamma,
        lr_decay_patience=arguments.lr_decay_patience,
        patience=arguments.patience,
        clip=arguments.clip,
        ema=arguments.ema,
        accumulate=arguments.accumulate,
        bf16=arguments.bf16,
        frame_step=arguments.frame_step,
        filtered=arguments.filtered,
        optimizer=arguments.optimizer,
    )


def _dataset_options(
    arguments: argparse.Namespace, config: OpenUnmixConfig, kind: Any, host: int, n_hosts: int
) -> Any:
    augmentations = arguments.source_augmentations
    return kind(
        seconds=arguments.seq_dur,
        batch_size=arguments.batch_size,
        samples_per_track=arguments.samples_per_track,
        sample_rate=config.sample_rate,
        n_channels=config.n_channels,
        augmentations=None if augmentations is None else tuple(augmentations),
        part=(host, n_hosts),
        input_file=arguments.input_file,
        output_file=arguments.output_file,
        target_file=arguments.target_file,
        interferer_files=tuple(arguments.interferer_files),
        random_track_mix=arguments.random_track_mix,
        random_interferer_mix=arguments.random_interferer_mix,
        silence_missing=arguments.silence_missing,
        target_dir=arguments.target_dir,
        interferer_dirs=tuple(arguments.interferer_dirs),
        ext=arguments.ext,
        n_train_samples=arguments.nb_train_samples,
        n_valid_samples=arguments.nb_valid_samples,
    )
