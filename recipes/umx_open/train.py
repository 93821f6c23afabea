"""Trains the four nets of `umx-open` together, in the time that it is given.

    python -m recipes.umx_open.train --songs everything-is-free --extra extra --output run --minutes 70

Stopped and started again with the same arguments, it goes on from its last save.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from datasets.synthetic import STEMS
from jaxsep import training
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft
from recipes.umx_open.augment import equalise
from recipes.umx_open.data import Mixer, Track, load_group, render_group, song_excerpts

__all__ = ["main"]

TARGETS = tuple(range(len(STEMS)))
OPTIMIZER = optax.inject_hyperparams(training.adam_with_l2)(learning_rate=1e-3)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--songs", type=Path, required=True, help="folder of recorded songs in stems")
    p.add_argument("--extra", type=Path, help="folder that build_extra wrote")
    p.add_argument("--synthetic", type=int, default=60, help="synthetic songs of 30 s to render beside")
    p.add_argument(
        "--output", type=Path, required=True, help="folder for the cache, the saves and the history"
    )
    p.add_argument("--hold-back", nargs="*", default=["rubidium"], help="songs for validation alone")
    p.add_argument("--minutes", type=float, default=70.0, help="time to train")
    p.add_argument("--steps", type=int, help="steps to train, instead of a time")
    p.add_argument("--stop-at", type=int, help="step at which to save and stop, to go on another day")
    p.add_argument("--hidden-size", type=int, default=192)
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--seconds", type=float, default=2.6, help="length of an excerpt")
    p.add_argument("--learning-rate", type=float, default=1.5e-3)
    p.add_argument("--save-every", type=float, default=6.0, help="minutes between two saves and validations")
    p.add_argument("--seed", type=int, default=0)
    return p


def gather(args: argparse.Namespace) -> tuple[list[Track], dict[str, np.ndarray]]:
    """All tracks to train on, and what to validate on: name to excerpts (excerpt, source, 2, time)."""
    cache = args.output / "cache"
    tracks = load_group(args.songs, cache, group="songs")
    held = [track for track in tracks if track.song in args.hold_back]
    validation = {
        song: song_excerpts([t for t in held if t.song == song], seconds=6.0)[::2] for song in args.hold_back
    }
    tracks = [track for track in tracks if track not in held]
    if args.extra:
        extra = load_group(args.extra, cache, group="extra")
        rendered = sorted({track.song for track in extra if track.group == "extra"})[::30]
        validation["rendered"] = _under_voices(extra, rendered, validation)
        tracks += [track for track in extra if track.song not in rendered]
    tracks += render_group(args.synthetic, 30.0, cache)
    return tracks, {name: excerpts for name, excerpts in validation.items() if len(excerpts)}


def _under_voices(extra: list[Track], songs: list[str], validation: dict[str, np.ndarray]) -> np.ndarray:
    """Rendered songs have no singer: lend them the held-back ones."""
    excerpts = [song_excerpts([t for t in extra if t.song == song], seconds=6.0) for song in songs]
    bands = np.concatenate(excerpts) if excerpts else np.zeros((0, len(STEMS), 2, 1), np.float32)
    for voices in validation.values():
        loud = voices[np.argsort(-(voices[:, 0] ** 2).mean(axis=(1, 2)))][: len(bands)]
        bands[: len(loud), 0] = loud[:, 0]
    return bands


def measure(
    mixer: Mixer, config: OpenUnmixConfig, key: jax.Array, n_batches: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the mixtures' magnitudes in each bin, over channels, frames and batches."""

    @jax.jit
    def sums(stems: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        spectrograms = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length, center=False)
        mixture = jnp.abs(equalise(spectrograms, key).sum(axis=1)).mean(axis=1)[:, : config.max_bin]
        return mixture.mean(axis=(0, 2)), (mixture**2).mean(axis=(0, 2))

    # Batches that training will not reach.
    moments = [sums(mixer.batch(2**31 + n)[0], jax.random.fold_in(key, n)) for n in range(n_batches)]
    mean, square = (np.mean([np.asarray(m[i]) for m in moments], axis=0) for i in range(2))
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean, np.maximum(std, 1e-4 * std.max())


def near_the_answer(state: training.TrainState) -> training.TrainState:
    """Let masks begin at a quarter, give or take 0.3, not at one, give or take one.

    Adam moves a weight by about the learning rate a step: from the usual start, the scales and offsets of the masks
    alone need a thousand steps, which a short run does not have.
    """
    params = dict(state.params)
    params["output_mean"] = jnp.full_like(params["output_mean"], 1 / len(STEMS))
    params["bn3"] = params["bn3"] | {"scale": jnp.full_like(params["bn3"]["scale"], 0.3)}
    return state._replace(params=params, average={**state.average, "params": jax.tree.map(jnp.copy, params)})


def validate(state: training.TrainState, excerpts: np.ndarray, config: OpenUnmixConfig) -> dict[str, float]:
    """Each target's signal-to-noise ratio of magnitudes in dB: the median over excerpts in which it sounds."""
    count = len(excerpts)
    excerpts = np.pad(excerpts, [(0, -count % 4), (0, 0), (0, 0), (0, 0)])
    pairs = [
        training.eval_step(state.average, excerpts[n : n + 4], config=config, targets=TARGETS)
        for n in range(0, len(excerpts), 4)
    ]
    error, power = (
        np.concatenate([np.asarray(pair[i]) for pair in pairs], axis=1)[:, :count] for i in range(2)
    )
    scores = {}
    for target, name in enumerate(STEMS):
        sounds = power[target] > 1e-3 * (power.sum(axis=0) + 1e-9)
        ratio = 10 * np.log10(power[target][sounds] / error[target][sounds])
        scores[name] = round(float(np.median(ratio)), 2) if sounds.any() else float("nan")
    return scores


def save(path: Path, state: training.TrainState, progress: dict) -> None:
    """Write everything aside, then rename, so that a save is whole or not there."""
    part = path.with_suffix(".part.npz")
    leaves = {f"leaf_{n}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(state))}
    np.savez(part, progress=json.dumps(progress), **leaves)
    part.rename(path)


def restore(path: Path, like: training.TrainState) -> tuple[training.TrainState, dict]:
    """What `save` wrote, in the shape of a fresh state."""
    leaves, structure = jax.tree.flatten(like)
    with np.load(path) as stored:
        values = [jnp.asarray(stored[f"leaf_{n}"]) for n in range(len(leaves))]
        progress = json.loads(str(stored["progress"]))
    for value, leaf in zip(values, leaves, strict=True):
        if value.shape != leaf.shape:
            raise ValueError(
                f"{path}: expected arrays of shape {leaf.shape}, got {value.shape}: other settings?"
            )
    return jax.tree.unflatten(structure, values), progress


def batches(mixer: Mixer, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches from number `first` on, made ahead in a thread."""
    ready: queue.Queue = queue.Queue(maxsize=2)

    def work() -> None:
        step = first
        while True:
            ready.put(mixer.batch(step))
            step += 1

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()


def learning_rate(done: float, step: int, peak: float) -> float:
    """Warm up over 100 steps, stay, and fall along a cosine over the last 60 % of the run (`done` in 0-1)."""
    fall = 0.5 * (1 + np.cos(np.pi * np.clip((done - 0.4) / 0.6, 0, 1)))
    return peak * min(1.0, (step + 1) / 100) * max(float(fall), 0.01)


def main(argv: list[str] | None = None) -> int:
    """Train until the time or the steps are used up."""
    args = parser().parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    config = OpenUnmixConfig(hidden_size=args.hidden_size)
    tracks, validation = gather(args)
    mixer = Mixer(tracks, seed=args.seed, batch_size=args.batch_size, seconds=args.seconds)
    print(
        f"{len(tracks)} stems, validation on {', '.join(validation)}, {jax.devices()[0].platform}", flush=True
    )

    key = jax.random.key(args.seed)
    checkpoint = args.output / "state.npz"
    fresh = partial(training.init_state, config, OPTIMIZER, n_targets=len(STEMS), key=key)
    if checkpoint.exists():
        state, progress = restore(checkpoint, fresh())
    else:
        mean, std = measure(mixer, config, key)
        state = near_the_answer(fresh(input_mean=mean, input_std=std))
        progress = {"seconds": 0.0, "history": []}
    (args.output / "config.json").write_text(json.dumps(config.to_json(), indent=1))
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    (args.output / "settings.json").write_text(json.dumps(settings, indent=1))
    run(state, progress, mixer, validation, config, args, checkpoint)
    return 0


def run(
    state: training.TrainState,
    progress: dict,
    mixer: Mixer,
    validation: dict[str, np.ndarray],
    config: OpenUnmixConfig,
    args: argparse.Namespace,
    checkpoint: Path,
) -> None:
    """The loop: a step, a line now and then, a save and a validation every few minutes."""
    key = jax.random.key(args.seed + 1)
    step, spent, saved = int(state.step), progress["seconds"], progress["seconds"]
    recent: list[np.ndarray] = []
    source = batches(mixer, step)
    last = time.monotonic()
    while True:
        done = step / args.steps if args.steps else spent / (60 * args.minutes)
        stop = done >= 1 or step == args.stop_at
        if stop or spent - saved >= 60 * args.save_every:
            scores = {name: validate(state, excerpts, config) for name, excerpts in validation.items()}
            loss = np.mean(recent, axis=0).round(4).tolist() if recent else []
            progress["history"].append(
                {"step": step, "minutes": round(spent / 60, 1), "loss": loss, "dB": scores}
            )
            progress["seconds"] = saved = spent
            save(checkpoint, state, progress)
            (args.output / "history.json").write_text(json.dumps(progress["history"], indent=1))
            print(f"\nsaved at step {step}: {scores}", flush=True)
            recent = []
            last = time.monotonic()  # validation does not count
            if stop:
                return
        stems, weights = next(source)
        rate = jnp.float32(learning_rate(done, step, args.learning_rate))
        hyperparams = {**state.opt_state.hyperparams, "learning_rate": rate}
        state = state._replace(opt_state=state.opt_state._replace(hyperparams=hyperparams))
        state, losses = training.train_step(
            state,
            stems,
            weights,
            key=key,
            config=config,
            optimizer=OPTIMIZER,
            targets=TARGETS,
            augment=equalise,
            frame_step=2,
        )
        recent.append(np.asarray(losses))
        if not np.isfinite(recent[-1]).all():
            raise FloatingPointError(f"step {step}: loss {recent[-1]}; the last save is kept in {checkpoint}")
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        if step % 20 == 0:
            left = (1 - done) / max(done, 1e-9) * spent / 60
            mean = np.mean(recent[-100:], axis=0).round(3)
            print(f"step {step}  loss {mean}  {spent / step:.2f} s a step  {left:.0f} min left", flush=True)


if __name__ == "__main__":
    sys.exit(main())
