"""The Open-Unmix net on a song's magnitudes and one training step, beside open-unmix's own, random weights.

``python benchmarks/bench_openunmix.py --seconds 60 --hidden-size 512``
"""

import argparse
import sys
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from harness import measure, report

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.statedict import state_dict_from_variables


def main() -> None:
    """Time them and write results/openunmix.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of the song (default: %(default)s)"
    )
    parser.add_argument("--hidden-size", type=int, default=512, help="of the net (default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=16, help="songs in a training step (default: %(default)s)"
    )
    parser.add_argument("--excerpt", type=float, default=6.0, help="their seconds (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="warmed calls (default: %(default)s)")
    arguments = parser.parse_args()

    config = OpenUnmixConfig(hidden_size=arguments.hidden_size)
    variables = jax.jit(partial(openunmix.init, config))(key=jax.random.key(0))
    rng = np.random.default_rng(0)
    song, excerpts = (
        rng.gamma(1.0, 1.0, (batch, 2, config.n_bins, int(seconds * config.sample_rate / config.hop_length)))
        for batch, seconds in ((1, arguments.seconds), (arguments.batch, arguments.excerpt))
    )
    song, excerpts = song.astype(np.float32), excerpts.astype(np.float32)
    contenders = ours(variables, config, song, excerpts) | theirs(variables, config, song, excerpts)
    timings = measure(contenders, repeats=arguments.repeats)
    options = {name: value for name, value in vars(arguments).items() if name != "repeats"}
    report("openunmix", [{"contender": name, **options, **timing.row()} for name, timing in timings.items()])


def ours(variables, config, song, excerpts):
    """What jaxsep is timed on, by name."""
    apply = jax.jit(partial(openunmix.apply, config=config))
    song, excerpts = jax.device_put((song, excerpts))

    @jax.jit
    def gradient(variables, magnitude):
        def loss(params):
            estimate, batch_stats = openunmix.apply_train(
                variables | {"params": params}, magnitude, config, key=jax.random.key(0)
            )
            return jnp.mean((estimate - 0.5 * magnitude) ** 2), batch_stats

        return jax.grad(loss, has_aux=True)(variables["params"])

    return {
        "jaxsep song": lambda: apply(variables, song),
        "jaxsep gradient": lambda: gradient(variables, excerpts),
    }


def theirs(variables, config, song, excerpts):
    """What open-unmix is timed on, with the same weights; nothing where it is not installed."""
    try:
        import torch

        sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # openunmix reads files with it
        from openunmix.model import OpenUnmix
    except ImportError:
        print("openunmix is not installed: jaxsep alone")
        return {}
    net = OpenUnmix(
        config.n_bins, config.n_channels, config.hidden_size, config.n_layers, max_bin=config.max_bin
    )
    state = state_dict_from_variables(jax.tree.map(np.asarray, variables), config)
    net.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    song, excerpts = torch.from_numpy(song), torch.from_numpy(excerpts)

    def apply():
        with torch.no_grad():
            return net.eval()(song)

    def gradient():
        net.train().zero_grad()
        torch.nn.functional.mse_loss(net(excerpts), 0.5 * excerpts).backward()

    expected = np.asarray(jax.jit(partial(openunmix.apply, config=config))(variables, song.numpy()))
    error = np.abs(apply().numpy() - expected).max() / expected.max()
    print(f"largest difference of a magnitude: {error:.1e} of the largest")
    return {"openunmix song": apply, "openunmix gradient": gradient}


if __name__ == "__main__":
    main()
