"""One step, many steps, several targets: what training must and must not change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsep import openunmix, training
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft

CONFIG = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=8, n_layers=1)
TARGETS = (0, 2)
OPTIMIZER = training.adam_with_l2(1e-2)
KEY = jax.random.key(0)
step = partial(training.train_step, key=KEY, config=CONFIG, optimizer=OPTIMIZER, targets=TARGETS)


@pytest.fixture
def stems(rng) -> np.ndarray:
    return (0.1 * rng.normal(size=(3, 4, 2, 400))).astype(np.float32)


def fresh(n_targets: int = 2) -> training.TrainState:
    return training.init_state(CONFIG, OPTIMIZER, n_targets=n_targets, key=jax.random.key(1))


def ones(n_targets: int = 2) -> np.ndarray:
    return np.ones((3, n_targets), np.float32)


def assert_trees_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_loss_falls(stems):
    state, losses = fresh(), []
    for _ in range(30):
        state, loss = step(state, stems, ones())
        losses.append(np.asarray(loss))
    assert (losses[-1] < 0.8 * losses[0]).all()
    assert int(state.step) == 30


def test_two_runs_are_the_same_run(stems):
    a, b = fresh(), fresh()
    for _ in range(3):
        a, _ = step(a, stems, ones())
        b, _ = step(b, stems, ones())
    assert_trees_equal(a, b)


def test_the_first_loss_is_the_mean_squared_error_of_magnitudes(stems):
    state = fresh()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    spectrograms = stft(stems, n_fft=64, hop_length=16, center=False)
    mixture = jnp.abs(spectrograms.sum(axis=1))
    keys = jax.random.split(jax.random.split(jax.random.fold_in(KEY, 0))[1], 2)
    expected = []
    for index, source in enumerate(TARGETS):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], variables)
        estimate, _ = openunmix.apply_train(one, mixture, CONFIG, key=keys[index])
        expected.append(float(((estimate - jnp.abs(spectrograms[:, source])) ** 2).mean()))
    # The stacked nets add up in another order than each alone.
    np.testing.assert_allclose(step(state, stems, ones())[1], expected, rtol=1e-4)


def test_nets_share_nothing(stems):
    # A weight of 0 for one target leaves the other's step as it was.
    weights = ones()
    both, _ = step(fresh(), stems, weights)
    weights[:, 0] = 0
    alone, losses = step(fresh(), stems, weights)
    assert losses[0] == 0
    for a, b in zip(jax.tree.leaves(both.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(both.params["fc1"]["kernel"][0], alone.params["fc1"]["kernel"][0])


def test_integers_are_full_scale_32768(stems):
    quantised = np.round(stems * 32768).astype(np.int16)
    evaluate = partial(training.eval_step, fresh().average, config=CONFIG, targets=TARGETS)
    for whole, parts in zip(evaluate(quantised), evaluate(quantised.astype(np.float32) / 32768), strict=True):
        np.testing.assert_array_equal(whole, parts)


def test_augmentation_changes_truth_and_mixture_alike(stems):
    # Silence in, silence out, whatever the net does.
    _, losses = step(fresh(), stems, ones(), augment=_silence)
    np.testing.assert_array_equal(losses, 0)


def _silence(spectrograms, key):
    return 0 * spectrograms


def test_the_average_follows_the_weights(stems):
    state = fresh()
    before = jax.tree.map(np.asarray, state.average["params"])
    after, _ = step(state, stems, ones())
    # min(0.999, (1 + 0) / (10 + 0)) of the old ones.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * np.asarray(new), before, after.params)
    for x, y in zip(jax.tree.leaves(after.average["params"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_weight_decay_enters_the_gradient():
    # Coupled L2: with a zero gradient, Adam's first step is the full learning rate towards zero.
    optimizer = training.adam_with_l2(0.1, weight_decay=1e-3)
    params = {"w": jnp.array([2.0, -3.0])}
    updates, _ = optimizer.update({"w": jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1, 0.1], rtol=1e-4)


def test_statistics_standardise(rng):
    mean, std = rng.uniform(1, 2, CONFIG.max_bin), rng.uniform(0.5, 1, CONFIG.max_bin)
    state = training.init_state(CONFIG, OPTIMIZER, n_targets=3, key=KEY, input_mean=mean, input_std=std)
    np.testing.assert_allclose(state.params["input_mean"], np.tile(-mean, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(state.params["input_scale"], np.tile(1 / std, (3, 1)), rtol=1e-6)


def test_every_second_frame_is_enough_to_learn_from(stems):
    state, losses = fresh(), []
    for _ in range(30):
        state, loss = step(state, stems, ones(), frame_step=2)
        losses.append(np.asarray(loss))
    assert (losses[-1] < 0.8 * losses[0]).all()


def test_evaluation_uses_the_weights_alone(stems):
    state, _ = step(fresh(), stems, ones())
    error, power = training.eval_step(state.average, stems, config=CONFIG, targets=TARGETS)
    assert error.shape == power.shape == (2, 3)
    one = training.unstack(state.average, 1)
    spectrograms = stft(stems, n_fft=64, hop_length=16, center=False)
    truth = jnp.abs(spectrograms[:, TARGETS[1]])
    estimate = openunmix.apply(one, jnp.abs(spectrograms.sum(axis=1)), CONFIG)
    np.testing.assert_allclose(error[1], ((estimate - truth) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(power[1], (truth**2).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_the_second_step_compiles_nothing(stems):
    state, _ = step(fresh(), stems, ones())
    size = training.train_step._cache_size()
    step(state, stems, ones())
    assert training.train_step._cache_size() == size


def test_a_learning_rate_can_be_set_between_steps(stems):
    optimizer = optax.inject_hyperparams(training.adam_with_l2)(learning_rate=0.0)
    state = training.init_state(CONFIG, optimizer, n_targets=2, key=jax.random.key(1))
    before = jax.tree.map(np.asarray, state.params)
    state, _ = step(state, stems, ones(), optimizer=optimizer)
    assert_trees_equal(state.params, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": (0,)}, "targets: expected one source for each of the state's 2 nets"),
        (
            {"stems": np.zeros((3, 2, 400), np.float32)},
            r"stems: expected \(batch, source, channel, time\), got",
        ),
        ({"weights": np.ones((3, 1), np.float32)}, r"weights: expected shape \(3, 2\), got \(3, 1\)"),
    ],
)
def test_bad_shapes_say_what_was_expected(stems, change, message):
    call = {"stems": stems, "weights": ones(), "targets": TARGETS} | change
    with pytest.raises(ValueError, match=message):
        step(fresh(), call["stems"], call["weights"], targets=call["targets"])


def test_statistics_of_another_size_are_refused():
    with pytest.raises(ValueError, match="input_mean: expected statistics of shape"):
        training.init_state(CONFIG, OPTIMIZER, n_targets=1, key=KEY, input_mean=np.zeros(3))
