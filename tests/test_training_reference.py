"""Training beside open-unmix's: twenty steps of Adam, the plateau, early stopping, statistics."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxsep import training
from jaxsep.batches import Batch
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.variables import flatten, unflatten

pytestmark = pytest.mark.usefixtures("quick_compilation")

DATA = np.load(Path(__file__).parent / "reference" / "data" / "training.npz")
# Those of tests/reference/make_training.py.
CONFIG = OpenUnmixConfig.from_max_bin(20, n_fft=64, hop_length=16, hidden_size=8, n_layers=2)


def twenty_steps(dtype) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The losses, and all variables at the end by their paths."""
    flat = {
        name.removeprefix("variables/"): DATA[name] for name in DATA.files if name.startswith("variables/")
    }
    variables = unflatten({name: array[None].astype(dtype) for name, array in flat.items()})
    optimizer = training.adam_with_l2(weight_decay=1e-5)
    key, losses = jax.random.key(0), []
    state = training.init_state(CONFIG, optimizer, n_targets=1, key=key, variables=variables)
    for step in range(20):
        stems = DATA["stems"][step % 4].astype(dtype) / 32768
        shape = stems.shape[:2]
        batch = Batch(stems, np.ones(shape, dtype), np.zeros(shape, bool), None, np.ones(shape, dtype))
        rates = np.full(1, 1e-3, dtype)
        options = {"key": key, "config": CONFIG, "optimizer": optimizer, "targets": (0,), "dropout": 0.0}
        state, report = training.train_step(state, batch, rates, **options)
        losses.append(float(report.loss[0]))
    return np.array(losses), flatten(training.unstack(training.kept_variables(state), 0))


def test_twenty_steps_are_those_of_torch_in_double_precision(x64):
    losses, variables = twenty_steps(np.float64)
    np.testing.assert_allclose(losses, DATA["losses"], rtol=1e-8)
    for path, made in variables.items():
        # The gradients of input_mean and of bn1's neighbours are zero in truth: Adam makes steps of their rounding.
        if path != "params/input_mean" and not path.startswith("batch_stats/bn1/mean"):
            expected = DATA[f"after/{path}"]
            np.testing.assert_allclose(
                made, expected, rtol=0, atol=1e-6 * np.abs(expected).max(), err_msg=path
            )


def test_twenty_steps_in_single_precision():
    losses, _ = twenty_steps(np.float32)
    # The relative error of a loss is that of its sum of squares; Adam spreads rounding of gradients near zero.
    np.testing.assert_allclose(losses, DATA["losses"], rtol=1e-5)


def test_the_rate_falls_when_torch_lets_it_fall():
    plateau, rates = training.Plateau(1e-3), []
    for loss in DATA["plateau/losses"]:
        plateau = plateau.after(loss, gamma=0.3, patience=4, cooldown=3)
        rates.append(plateau.rate)
    np.testing.assert_allclose(rates, DATA["plateau/rates"], rtol=1e-12)
    assert len(np.unique(rates)) > 3


def test_training_ends_when_open_unmix_ends():
    stopping = training.Stopping()
    expected = int(DATA["plateau/stopped"].argmax()) + 1
    assert expected > 1
    for epoch, loss in enumerate(DATA["plateau/losses"][:expected], 1):
        assert not stopping.stopped
        stopping = stopping.after(loss, epoch, patience=12)
    assert stopping.stopped
    assert stopping.best == DATA["plateau/losses"][:expected].min()


def test_statistics_are_those_of_a_standard_scaler():
    class Excerpt(NamedTuple):
        name: str
        sound: np.ndarray

        def pieces(self, names):
            assert names == ["mixture"]
            yield from (self.sound[None, ..., :100], self.sound[None, ..., 100:])

    # The sums of two loud stems need not fit 16 bits; these do.
    mixtures = DATA["stems"].reshape(-1, *DATA["stems"].shape[-3:]).sum(axis=1)
    assert np.abs(mixtures).max() < 32768
    songs = [Excerpt(f"{number}", mixture.astype(np.int16)) for number, mixture in enumerate(mixtures)]
    mean, std = training.measure(songs, CONFIG)
    # Magnitudes are single precision here.
    np.testing.assert_allclose(mean, DATA["statistics/mean"][:20], rtol=2e-6)
    np.testing.assert_allclose(std, DATA["statistics/std"][:20], rtol=2e-6)


def test_a_bin_that_never_changes_has_a_deviation_of_one():
    class Silence(NamedTuple):
        name: str = "silence"

        def pieces(self, names):
            yield np.zeros((1, 2, 500), np.int16)

    mean, std = training.measure([Silence()], CONFIG)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(std, 1)


@pytest.mark.parametrize("patience", [0, 5])
def test_no_patience_is_no_end(patience):
    stopping = training.Stopping()
    for epoch in range(1, 50):
        stopping = stopping.after(float(epoch), epoch, patience=patience)
    assert stopping.stopped == (patience > 0)
    assert (stopping.best, stopping.best_epoch) == (1.0, 1)
