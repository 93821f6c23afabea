"""A run of training in a process of its own, for the tests that kill it or give it many devices or hosts.

``python -m tests.training_child OUTPUT [--hosts N --host I --port P] [--slow SECONDS]``
"""

import argparse
import sys
import time

import numpy as np


def main() -> None:
    """Train, a line after every batch; the losses at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--host", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slow", type=float, default=0.0)
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_platforms", "cpu")
    if arguments.hosts > 1:
        jax.distributed.initialize(f"localhost:{arguments.port}", arguments.hosts, arguments.host)

    from jaxsep import training
    from jaxsep.training.fit import validation_over
    from tests.training import CONFIG, SETTINGS, SOURCES, drawn_variables, noise_batches, songs

    def batches(seed, step):
        whole = noise_batches(seed, step)
        # What each host gets is moved between excerpts beforehand: a host has only its own.
        whole = whole._replace(stems=whole.stems[whole.origin, np.arange(3)[None]], origin=None)
        n = len(whole.stems) // arguments.hosts
        time.sleep(arguments.slow)
        print(f"batch {step}", flush=True)
        return jax.tree.map(lambda a: a[arguments.host * n : (arguments.host + 1) * n], whole)

    validate = validation_over(songs(900, 700, 800), CONFIG, ("vocals",))
    print("songs", *validate(drawn_variables(CONFIG, 1)), flush=True)
    result = training.fit(
        batches,
        CONFIG,
        training.TrainingConfig(**SETTINGS.to_json() | {"epochs": 5, "dropout": 0.0}),
        targets=["vocals"],
        sources=SOURCES,
        output=arguments.output,
        variables=drawn_variables(CONFIG, 1),
        validation_songs=songs(900, 700, 800),
        resume=True,
    )
    for epoch in result.history.epochs:
        print("loss", *epoch.train_loss, *epoch.valid_loss, flush=True)
    print("devices", jax.device_count())


if __name__ == "__main__":
    sys.exit(main())
