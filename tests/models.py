"""Tiny nets for the tests that need a whole separator."""

from pathlib import Path

import jax
import numpy as np

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import save_weights
from jaxsep.separation import Separator, load_separator

TARGETS = ("vocals", "drums", "bass", "other")
CONFIG = OpenUnmixConfig(n_fft=256, hop_length=64, hidden_size=8, bandwidth=16000.0)


def tiny_variables(config: OpenUnmixConfig, seed: int) -> openunmix.Variables:
    """Random weights whose masks differ between targets and depend on what the LSTM has heard."""
    rng = np.random.default_rng(seed)
    drawn = openunmix.init(config, key=jax.random.key(seed))
    shaken = jax.tree.map(lambda a: np.asarray(a) + rng.normal(0, 0.2, a.shape).astype(np.float32), drawn)
    positive = jax.tree.map(lambda a: np.abs(a) + 0.1, shaken["batch_stats"])
    return {"params": shaken["params"], "batch_stats": positive}


def tiny_folder(folder: Path, config: OpenUnmixConfig = CONFIG, targets=TARGETS) -> Path:
    """A folder with a net for each target, in our own layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, target in enumerate(targets):
        metadata = {"licence": "CC0"}
        save_weights(folder, target, tiny_variables(config, seed), config, metadata=metadata)
    return folder


def tiny_separator(folder: Path) -> Separator:
    """A separator of tiny nets."""
    return load_separator(tiny_folder(folder))
