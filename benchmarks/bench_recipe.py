"""A step of the packaged weights' training on this machine's device: ``python benchmarks/bench_recipe.py``.

Noise of sixteen songs of 35 s lies in the device's memory; batches are made of it there, then learned from.
"""

import argparse
from functools import partial

import jax
import numpy as np
from harness import measure, report

from jaxsep import training
from jaxsep.config import OpenUnmixConfig
from jaxsep.training.step import train_step
from recipes.open_weights.augment import equalise
from recipes.open_weights.cache import BLOCK, Stem
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.device_mixer import DeviceMixer


def main() -> None:
    """Time them and write results/recipe.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-size", type=int, default=352, help="of the nets (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="excerpts of 3 s (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=12, help="warmed calls (default: %(default)s)")
    arguments = parser.parse_args()
    stems = [noise(song, name) for song in range(16) for name in STEMS]
    mixer = DeviceMixer(stems, batch_size=arguments.batch_size, seconds=3.0)
    step = stepper(OpenUnmixConfig(hidden_size=arguments.hidden_size, bandwidth=16000.0), mixer(0, 0))
    numbers = iter(range(10**6))
    timings = measure({"mix": lambda: mixer(0, next(numbers)).stems, "step": step}, repeats=arguments.repeats)
    sizes = {"hidden_size": arguments.hidden_size, "batch_size": arguments.batch_size}
    report("recipe", [{"contender": name, **sizes, **timing.row()} for name, timing in timings.items()])


def noise(song: int, name: str) -> Stem:
    """A stem that sounds throughout."""
    rng = np.random.default_rng([song, STEMS.index(name)])
    audio = rng.integers(-8000, 8000, (2, 35 * 44100), dtype=np.int16)
    return Stem("rendered", str(song), name, audio, np.arange(audio.shape[1] // BLOCK), 0.14, False)


def stepper(config: OpenUnmixConfig, batch):
    """The step that `recipes.open_weights.train` takes, of four nets, whose state goes from call to call."""
    optimizer = training.muon(clip=5.0)
    state = [training.init_state(config, optimizer, n_targets=4, key=jax.random.key(0), average=True)]
    step = partial(
        train_step, key=jax.random.key(1), config=config, optimizer=optimizer, targets=(0, 1, 2, 3), augment=equalise,
        dropout=0.25, ema=0.998, bf16=jax.default_backend() != "cpu", frame_step=4, filtered=0.7,
    )  # fmt: skip

    def call():
        state[0], report = step(state[0], batch, np.full(4, 1e-3, np.float32))
        return report

    return call


if __name__ == "__main__":
    main()
