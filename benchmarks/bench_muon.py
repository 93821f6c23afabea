"""A direction of Muon for four nets beside optax's: ``python benchmarks/bench_muon.py --hidden-size 192``.

Both get the same gradients, and the nets are stacked as a step of training has them.
"""

import argparse

import jax
import numpy as np
from harness import measure, report
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from jaxsep import training
from jaxsep.config import OpenUnmixConfig

N_TARGETS = 4


def main() -> None:
    """Time them and write results/muon.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-size", type=int, default=192, help="of the nets (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="warmed calls (default: %(default)s)")
    arguments = parser.parse_args()
    config, key = OpenUnmixConfig(hidden_size=arguments.hidden_size), jax.random.key(0)
    state = training.init_state(config, training.adam_with_l2(), n_targets=N_TARGETS, key=key)
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), state.params)
    optimizers = {
        "jaxsep": training.muon(),
        "optax": optax_muon(-1.0, consistent_rms=0.2, muon_weight_dimension_numbers=dimensions),
        "Adam": training.adam_with_l2(),
    }
    contenders = {name: direction(optimizer, gradient, state) for name, optimizer in optimizers.items()}
    timings = measure(contenders, repeats=arguments.repeats)
    sizes = {"targets": N_TARGETS, "hidden_size": arguments.hidden_size}
    report("muon", [{"contender": name, **sizes, **timing.row()} for name, timing in timings.items()])


def direction(optimizer, gradient, state):
    """The step of all nets, whose moments go from call to call."""
    update = jax.jit(jax.vmap(optimizer.update), donate_argnums=1)
    moments = [jax.vmap(optimizer.init)(state.params)]

    def step():
        updates, moments[0] = update(gradient, moments[0], state.params)
        return updates

    return step


def dimensions(params):
    """Which axes of a kernel are a matrix: the last two."""

    def of(path, leaf):
        last_two = MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)
        return last_two if path[-1].key.endswith("kernel") else None

    return jax.tree_util.tree_map_with_path(of, params)


if __name__ == "__main__":
    main()
