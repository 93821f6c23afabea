"""Trains the four nets together on the corpus, in pieces that resume.

    python -m recipes.open_weights.train --corpus corpus --output run --steps 900 --minutes 30
    python -m recipes.open_weights.train --corpus corpus --output run --steps 900 --resume      # goes on

The learning rate warms up, stays, and falls over the last third of ``--steps``. A run that is resumed may be given
another number of steps, so that it can end sooner or later than was planned, and songs that have been rendered since.
With ``--minutes`` alone it falls over the last third of those: for a machine that is lent for a while, however quick.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsep import memory, training
from jaxsep.config import OPTIMIZERS, OpenUnmixConfig, TrainingConfig
from jaxsep.io.checkpoint import save_weights
from recipes.open_weights.augment import equalise
from recipes.open_weights.cache import Follower, Stem, open_corpus
from recipes.open_weights.corpus import STEMS, is_held_back
from recipes.open_weights.device_mixer import DeviceMixer
from recipes.open_weights.mixer import Mixer
from recipes.open_weights.nets import load_nets, replaced
from recipes.open_weights.sources import ATTRIBUTIONS, RATE
from recipes.open_weights.validate import excerpts_of, validate
from recipes.open_weights.widen import widen

__all__ = ["main", "parser", "schedule_of", "warmup_stable_decay"]

HIDDEN_SIZE = 352  # four nets of it are 40 MB in float16, the most that the package may hold


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--corpus", type=Path, required=True, help="folder that build wrote")
    p.add_argument("--cache", type=Path, help="folder for decoded sound; beside the corpus if left out")
    p.add_argument("--output", type=Path, required=True, help="folder of the run")
    p.add_argument("--steps", type=int, help="steps in all, on which the learning rate depends")
    p.add_argument(
        "--follow",
        type=float,
        metavar="HOURS",
        help="take in songs that `build --cache` makes meanwhile; an accelerator makes room for so many hours",
    )
    p.add_argument(
        "--minutes",
        type=float,
        help="stop so long after the start, to be resumed; without --steps the learning rate depends on it",
    )
    p.add_argument("--resume", action="store_true")
    p.add_argument("--init", help="model to start from: a folder, or umx-open for the packaged one")
    p.add_argument(
        "--targets",
        nargs="+",
        choices=STEMS,
        default=STEMS,
        metavar="TARGET",
        help="train these of its nets and leave the others as they are (default: all)",
    )
    p.add_argument(
        "--hidden-size",
        type=int,
        help=f"of fresh nets, {HIDDEN_SIZE} if left out; a model to start from is made as wide",
    )
    p.add_argument("--bandwidth", type=float, default=16000.0, help="Hz, of fresh nets")
    p.add_argument("--batch-size", type=int, default=12)
    p.add_argument("--seconds", type=float, default=3.0, help="length of an excerpt")
    p.add_argument("--learning-rate", type=float, default=1e-3)
    p.add_argument("--epoch", type=int, default=100, help="steps between two validations")
    p.add_argument("--ema", type=float, default=0.995, help="of the average of weights")
    p.add_argument("--dropout", type=float, default=0.25, help="between the LSTM's layers")
    p.add_argument("--frame-step", type=int, default=4)
    p.add_argument(
        "--filtered", type=float, default=0.7, help="share of the stems behind the filter in the loss"
    )
    p.add_argument("--optimizer", choices=OPTIMIZERS, default="muon")
    p.add_argument("--bf16", action="store_true", help="multiply in bfloat16: quicker on accelerators")
    p.add_argument("--seed", type=int, default=0)
    return p


def warmup_stable_decay(step: int, *, done: float, peak: float, warmup: int = 50) -> float:
    """A learning rate that rises over some steps, stays, and over the last third of what is to be done falls.

    Args:
        step: counted from 0.
        done: share of the training that lies behind, from 0 to 1.
        peak: the highest rate.
        warmup: steps in which it rises.

    Returns:
        The rate of the step; at the end a hundredth of the highest.
    """
    left = np.clip(3 * (1 - done), 0.0, 1.0)
    return float(peak * min(1.0, (step + 1) / warmup) * 0.01 ** (1 - left))


def schedule_of(args: argparse.Namespace, began: float) -> Callable[[int], float]:
    """The learning rate of each step, by the steps if there are so many to be done, else by the clock."""
    if args.steps is None:
        return lambda step: warmup_stable_decay(
            step, done=(time.monotonic() - began) / max(60 * args.minutes, 1e-9), peak=args.learning_rate
        )
    warmup = min(50, max(args.steps // 10, 1))
    return lambda step: warmup_stable_decay(
        step, done=step / max(args.steps, 1), peak=args.learning_rate, warmup=warmup
    )


def initial(args: argparse.Namespace, mixer: Mixer) -> tuple[OpenUnmixConfig, Any]:
    """Sizes and stacked variables to begin with: a model's, or fresh ones whose masks begin near a quarter."""
    if args.init:
        config, variables, _ = load_nets(args.init)
        if args.hidden_size in (None, config.hidden_size):
            return config, training.stack(variables)
        wide = [widen(one, config, args.hidden_size, seed=args.seed + n) for n, one in enumerate(variables)]
        return wide[0][0], training.stack([one for _, one in wide])
    hidden_size = HIDDEN_SIZE if args.hidden_size is None else args.hidden_size
    config = OpenUnmixConfig(hidden_size=hidden_size, bandwidth=args.bandwidth)
    mean, std = measure(mixer, config, args.seed)
    fresh = training.init_state(
        config,
        training.adam_with_l2(),
        n_targets=len(STEMS),
        key=jax.random.key(args.seed),
        input_mean=mean,
        input_std=std,
    )
    params = dict(fresh.params)
    # Adam moves a weight by about the learning rate a step: from masks of one, give or take one, the way to a
    # quarter alone would take a thousand steps.
    params["output_mean"] = jnp.full_like(params["output_mean"], 1 / len(STEMS))
    params["bn3"] = params["bn3"] | {"scale": jnp.full_like(params["bn3"]["scale"], 0.3)}
    return config, {"params": params, "batch_stats": fresh.batch_stats}


def measure(
    mixer: Mixer, config: OpenUnmixConfig, seed: int, batches: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the mixtures' magnitudes in each bin."""
    from jaxsep.stft import stft

    total = np.zeros((2, config.max_bin))
    for n in range(batches):
        batch = mixer(seed, 2**31 + n)  # which training does not reach
        stems = batch.stems * batch.gain[..., None, None]
        spectra = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length, center=False)
        equalised = equalise(np.swapaxes(spectra, -1, -2), jax.random.key(n))
        mixture = np.abs(np.asarray(equalised.sum(axis=1)))[..., : config.max_bin]
        total += [mixture.mean(axis=(0, 1, 2)), (mixture**2).mean(axis=(0, 1, 2))]
    mean, square = total / batches
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean, np.maximum(std, 1e-4 * std.max())


def settings(args: argparse.Namespace) -> TrainingConfig:
    """What the options say of the training; it ends for steps or minutes, not for epochs or patience."""
    return TrainingConfig(
        seed=args.seed,
        epochs=10**6,
        steps_per_epoch=args.epoch,
        learning_rate=args.learning_rate,
        patience=0,
        dropout=args.dropout,
        clip=5.0,
        ema=args.ema,
        bf16=args.bf16,
        frame_step=args.frame_step,
        filtered=args.filtered,
        optimizer=args.optimizer,
    )


def split(stems: list[Stem]) -> tuple[list[Stem], dict[str, np.ndarray]]:
    """What to train on, and excerpts to validate on."""
    return [stem for stem in stems if not is_held_back(stem.song)], excerpts_of(stems)


def main(argv: list[str] | None = None) -> int:
    """Train until the steps or the minutes are used up."""
    began = time.monotonic()
    args = parser().parse_args(argv)
    memory.keep()
    try:
        if args.steps is None and (args.minutes is None or args.resume):
            raise ValueError("--steps: expected a number, except in a run that --minutes are to hold whole")
        if not args.init and set(args.targets) < set(STEMS):
            raise ValueError("--targets: expected all of them, or --init with a model that has the others")
        cache = args.cache or args.corpus.with_name(args.corpus.name + "-cache")
        stems = open_corpus(args.corpus, cache)
        trained, groups = split(stems)
        follow = Follower(args.corpus, cache, stems) if args.follow else None
        make = Mixer
        if jax.default_backend() != "cpu":
            make = partial(DeviceMixer, room=round(3600 * RATE * (args.follow or 0)))
        mixer = make(trained, batch_size=args.batch_size, seconds=args.seconds, follow=follow)
        config, variables = initial(args, mixer)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    n_songs = len({stem.song for stem in trained})
    print(f"{n_songs} songs, validation on {', '.join(groups)}", flush=True)
    metadata: dict[str, Any] = {
        "licence": "MIT",
        "version": "9",
        "sources": [f"{name} ({licence})" for name, licence, _ in ATTRIBUTIONS],
        "songs": n_songs,
        "init": Path(args.init).name if args.init else "nothing",
    }
    log = args.output / "validation.jsonl"
    targets = tuple(name for name in STEMS if name in args.targets)
    places = [STEMS.index(name) for name in targets]

    def score(trained: Any) -> list[float]:
        scores = validate(replaced(variables, places, trained), groups, config)
        rounded = {name: {t: round(v, 2) for t, v in row.items()} for name, row in scores.items()}
        print(f"\nvalidation, dB: {rounded}", flush=True)
        with log.open("a") as file:
            file.write(json.dumps(rounded) + "\n")
        table = np.array([[row[name] for name in targets] for row in scores.values()])
        return [float(-np.nan_to_num(np.nanmean(column), nan=0.0)) for column in table.T]

    begin = jax.tree.map(lambda leaf: np.asarray(leaf)[places], variables)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.init and not args.resume:
        score(begin)  # where it starts from
    try:
        result = training.fit(
            mixer,
            config,
            settings(args),
            targets=targets,
            sources=STEMS,
            output=args.output / "model",
            validate=score,
            variables=begin,
            schedule=schedule_of(args, began),
            augment=equalise,
            resume=args.resume,
            max_steps=args.steps,
            minutes=None if args.minutes is None else args.minutes - (time.monotonic() - began) / 60,
            save_minutes=4.0,
            data={"corpus": "open_weights", "batch_size": args.batch_size, "seconds": args.seconds},
            metadata=metadata,
            show=sys.stderr.isatty(),
            say=lambda text: print(text, flush=True),
        )
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr)
        return 130
    except (FloatingPointError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    # The average after the last step; `model` holds the best of each target that was trained.
    ended = replaced(variables, places, result.variables)
    metadata["songs"] = n_songs + (follow.taken if follow else 0)
    for index, name in enumerate(STEMS):
        last = training.unstack(ended, index)
        save_weights(args.output / "last", name, last, config, metadata=metadata)
    score(result.variables)
    print(f"ended for {result.reason} after step {result.history.step}", flush=True)
    return 0


if __name__ == "__main__":
    memory.restart_with_huge_pages()
    sys.exit(main())
