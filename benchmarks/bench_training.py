"""A step of training beside open-unmix's: ``python benchmarks/bench_training.py --batch 16 --seconds 6``.

Open-unmix gets the mixture and the target as float audio; ours gets four stems as 16-bit integers, with gains and
exchanged channels still to be applied. Both run in one process, with the allocator as train.py sets it.
"""

import argparse
import sys
import types

import jax
import numpy as np
from harness import measure, report

from jaxsep import memory, training
from jaxsep.batches import Batch
from jaxsep.config import OpenUnmixConfig

N_SOURCES = 4


def main() -> None:
    """Time them and write results/training.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16, help="excerpts in a step (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of an excerpt (default: %(default)s)")
    parser.add_argument("--hidden-size", type=int, default=512, help="of the net (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="warmed calls (default: %(default)s)")
    parser.add_argument("--targets", type=int, nargs="+", default=[1], help="nets a step (default: 1)")
    parser.add_argument("--frame-step", type=int, nargs="+", default=[1], help="see --help of train.py")
    parser.add_argument("--bf16", action="store_true", help="time half-precision products too")
    parser.add_argument("--alone", action="store_true", help="leave open-unmix out")
    arguments = parser.parse_args()
    memory.restart_with_huge_pages()
    memory.keep()

    config = OpenUnmixConfig(hidden_size=arguments.hidden_size)
    rng = np.random.default_rng(0)
    shape = (arguments.batch, N_SOURCES)
    stems = rng.normal(0, 2000, (*shape, 2, int(arguments.seconds * 44100))).astype(np.int16)
    gain, swap = rng.uniform(0.25, 1.25, shape).astype(np.float32), rng.random(shape) < 0.5
    batch = jax.device_put(Batch(stems, gain, swap, None, np.ones(shape, np.float32)))
    contenders = {}
    for n_targets in arguments.targets:
        for frame_step in arguments.frame_step:
            for bf16 in (False, True) if arguments.bf16 else (False,):
                name = f"jaxsep, {n_targets} target{'s' * (n_targets > 1)}, frame step {frame_step}"
                options = {"frame_step": frame_step, "bf16": bf16}
                contenders[name + ", bf16" * bf16] = ours(config, batch, n_targets, **options)
    if not arguments.alone:
        contenders |= theirs(config, stems)
    timings = measure(contenders, repeats=arguments.repeats)
    sizes = {"batch": arguments.batch, "seconds": arguments.seconds, "hidden_size": arguments.hidden_size}
    rows = [{"contender": name, **sizes, **timing.row()} for name, timing in timings.items()]
    if "openunmix" in timings:
        for row in rows:
            row["openunmix / this"] = timings["openunmix"].best / row["best_s"]
    report("training", rows)


def ours(config, batch, n_targets, **options):
    """A step of so many nets, whose state goes from call to call."""
    optimizer, key = training.adam_with_l2(), jax.random.key(0)
    state = [training.init_state(config, optimizer, n_targets=n_targets, key=key)]
    rates = np.full(n_targets, 1e-3, np.float32)

    def step():
        state[0], report = training.train_step(
            state[0],
            batch,
            rates,
            key=key,
            config=config,
            optimizer=optimizer,
            targets=tuple(range(n_targets)),
            **options,
        )
        return report

    return step


def theirs(config, stems):
    """The step of open-unmix's train.py; nothing where it is not installed."""
    try:
        import torch

        sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # openunmix reads files with it
        from openunmix.model import OpenUnmix
        from openunmix.transforms import ComplexNorm, make_filterbanks
    except ImportError:
        print("openunmix is not installed: jaxsep alone")
        return {}
    net = OpenUnmix(config.n_bins, config.n_channels, config.hidden_size, max_bin=config.max_bin)
    encoder = torch.nn.Sequential(make_filterbanks(n_fft=config.n_fft)[0], ComplexNorm(mono=False))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)
    audio = stems.astype(np.float32) / 32768
    mixture, target = torch.from_numpy(audio.sum(axis=1)), torch.from_numpy(audio[:, 0].copy())
    net.train()

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(encoder(mixture)), encoder(target))
        loss.backward()
        optimizer.step()
        return loss.item()

    return {"openunmix": step}


if __name__ == "__main__":
    main()
