"""One step, many steps, several targets: what training must and must not change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import openunmix, training
from jaxsep.batches import Batch
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft
from tests.training import drawn_variables

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=8, n_layers=1)
TARGETS = (0, 2)
OPTIMIZER = training.adam_with_l2()
KEY = jax.random.key(0)
RATES = np.full(2, 1e-2, np.float32)
train_step = partial(training.train_step, key=KEY, config=CONFIG, optimizer=OPTIMIZER, targets=TARGETS)


def step(state, stems, weight=None, rates=RATES, **options):
    """A step whose report is the losses alone, on stems as they are."""
    state, report = train_step(state, batch_of(stems, weight), rates, **options)
    return state, report.loss


def batch_of(stems, weight=None, **changes) -> Batch:
    shape = stems.shape[:2]
    plain = Batch(stems, np.ones(shape, np.float32), np.zeros(shape, bool), None, np.ones(shape, np.float32))
    return plain._replace(**changes | ({} if weight is None else {"weight": weight}))


@pytest.fixture
def stems(rng) -> np.ndarray:
    return (0.1 * rng.normal(size=(3, 4, 2, 400))).astype(np.float32)


def fresh(n_targets: int = 2) -> training.TrainState:
    variables = drawn_variables(CONFIG, n_targets)
    return training.init_state(
        CONFIG, OPTIMIZER, n_targets=n_targets, key=KEY, variables=variables, average=True
    )


def assert_trees_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_loss_falls(stems):
    state, losses = fresh(), []
    for _ in range(30):
        state, loss = step(state, stems)
        losses.append(np.asarray(loss))
    assert (losses[-1] < 0.8 * losses[0]).all()
    assert int(state.step) == 30


def test_two_runs_are_the_same_run(stems):
    a, b = fresh(), fresh()
    for _ in range(3):
        a, _ = step(a, stems)
        b, _ = step(b, stems)
    assert_trees_equal(a, b)


def test_the_first_loss_is_the_mean_squared_error_of_magnitudes(stems):
    state = fresh()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    spectrograms = stft(stems, n_fft=64, hop_length=16, center=False)
    mixture = jnp.abs(spectrograms.sum(axis=1))
    (part,) = jax.random.split(jax.random.fold_in(KEY, 0), 1)
    keys = jax.random.split(jax.random.split(part)[1], 2)
    expected = []
    for index, source in enumerate(TARGETS):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], variables)
        estimate, _ = openunmix.apply_train(one, mixture, CONFIG, key=keys[index])
        expected.append(float(((estimate - jnp.abs(spectrograms[:, source])) ** 2).mean()))
    # The stacked nets add up in another order than each alone.
    np.testing.assert_allclose(step(state, stems)[1], expected, rtol=1e-4)


def test_nets_share_nothing(stems):
    # A weight of 0 for one target leaves the other's step as it was.
    weights = np.ones((3, 4), np.float32)
    both, _ = step(fresh(), stems, weights)
    weights = weights * (np.arange(4) != TARGETS[0])  # not in place: the first step may still read it
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
    _, losses = step(fresh(), stems, augment=_silence)
    np.testing.assert_array_equal(losses, 0)


def _silence(spectrograms, key):
    return 0 * spectrograms


def test_the_average_follows_the_weights(stems):
    state = fresh()
    before = jax.tree.map(np.asarray, state.average["params"])
    after, _ = step(state, stems)
    # min(0.999, (1 + 0) / (10 + 0)) of the old ones.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * np.asarray(new), before, after.params)
    for x, y in zip(jax.tree.leaves(after.average["params"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_weight_decay_enters_the_gradient():
    # Coupled L2: with a zero gradient, Adam's first step is the full learning rate towards zero.
    optimizer = training.adam_with_l2(weight_decay=1e-3)
    params = {"w": jnp.array([2.0, -3.0])}
    updates, _ = optimizer.update({"w": jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [1.0, -1.0], rtol=1e-4)


def test_statistics_standardise(rng):
    mean, std = rng.uniform(1, 2, CONFIG.max_bin), rng.uniform(0.5, 1, CONFIG.max_bin)
    state = training.init_state(CONFIG, OPTIMIZER, n_targets=3, key=KEY, input_mean=mean, input_std=std)
    np.testing.assert_allclose(state.params["input_mean"], np.tile(-mean, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(state.params["input_scale"], np.tile(1 / std, (3, 1)), rtol=1e-6)


def test_every_second_frame_is_enough_to_learn_from(stems):
    state, losses = fresh(), []
    for _ in range(30):
        state, loss = step(state, stems, frame_step=2)
        losses.append(np.asarray(loss))
    assert (losses[-1] < 0.8 * losses[0]).all()


ALL = {"targets": (0, 1, 2), "rates": np.full(3, 1e-2, np.float32), "dropout": 0.0}


def test_the_filtered_loss_is_that_of_the_stems(stems):
    stems = stems[:, :3]
    _, apart = step(fresh(3), stems, **ALL)
    _, both = step(fresh(3), stems, filtered=0.25, **ALL)
    behind = error_behind_the_filter(stems, (0, 1, 2))
    np.testing.assert_allclose(both, 0.75 * np.asarray(apart) + 0.25 * behind, rtol=1e-4)  # sums in float32


@pytest.mark.parametrize("augment", [None, lambda spectrograms, key: spectrograms])
def test_a_source_without_a_net_is_filtered_by_its_truth(stems, augment):
    some = ALL | {"targets": (2, 0), "rates": ALL["rates"][:2], "augment": augment}
    _, apart = step(fresh(), stems, **some)
    _, both = step(fresh(), stems, filtered=0.25, **some)
    behind = error_behind_the_filter(stems, (2, 0))
    np.testing.assert_allclose(both, 0.75 * np.asarray(apart) + 0.25 * behind, rtol=1e-4)  # sums in float32


def error_behind_the_filter(stems, targets):
    spectrograms = np.moveaxis(np.asarray(stft(stems, n_fft=64, hop_length=16, center=False)), 1, 0)
    mixture = spectrograms.sum(axis=0)
    variables = training.kept_variables(fresh(len(targets)))
    magnitude, key = jnp.abs(mixture), jax.random.key(1)
    power = np.abs(spectrograms).astype(np.float64) ** 2
    for index, target in enumerate(targets):
        net = training.unstack(variables, index)
        power[target] = np.square(
            openunmix.apply_train(net, magnitude, CONFIG, key=key, dropout=0.0)[0], dtype=np.float64
        )
    error = power / (power.sum(axis=0) + 1e-10) * mixture - spectrograms
    return (np.abs(error) ** 2).mean(axis=(1, 2, 3, 4))[list(targets)]


def test_nets_learn_to_share_the_mixture_out(stems):
    state, losses = fresh(3), []
    for _ in range(30):
        state, loss = step(state, stems[:, :3], filtered=1.0, frame_step=2, **ALL)
        losses.append(np.asarray(loss).sum())
    assert losses[-1] < 0.9 * losses[0]


def test_shares_of_silence_are_no_division_by_zero(stems):
    state, loss = step(fresh(3), 0 * stems[:, :3], filtered=1.0, **ALL)
    np.testing.assert_array_equal(loss, 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_evaluation_uses_the_weights_alone(stems):
    state, _ = step(fresh(), stems)
    error, power = training.eval_step(state.average, stems, config=CONFIG, targets=TARGETS)
    assert error.shape == power.shape == (2, 3)
    one = training.unstack(state.average, 1)
    spectrograms = stft(stems, n_fft=64, hop_length=16, center=False)
    truth = jnp.abs(spectrograms[:, TARGETS[1]])
    estimate = openunmix.apply(one, jnp.abs(spectrograms.sum(axis=1)), CONFIG)
    np.testing.assert_allclose(error[1], ((estimate - truth) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(power[1], (truth**2).mean(axis=(1, 2, 3)), rtol=1e-5)


def test_the_second_step_compiles_nothing(stems):
    state, _ = step(fresh(), stems)
    size = training.train_step._cache_size()
    step(state, stems)
    assert training.train_step._cache_size() == size


def test_each_net_has_its_own_learning_rate(stems):
    state = fresh()
    before = jax.tree.map(np.asarray, state.params)
    state, _ = step(state, stems, rates=np.array([0.0, 1e-2], np.float32))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(new[0], old[0])
        assert not np.array_equal(new[1], old[1])


def test_each_net_has_its_own_clip(stems):
    # One gradient is above the limit and is scaled to it, the other is below and stays.
    optimizer = training.adam_with_l2(weight_decay=0.0, clip=1e-3)
    gradients = {"w": jnp.array([[3.0, 4.0], [3e-4, 4e-4]])}
    states = jax.vmap(optimizer.init)(gradients)
    _, states = jax.vmap(optimizer.update)(gradients, states, gradients)
    moments = next(leaf for leaf in jax.tree.leaves(states) if leaf.shape == (2, 2))
    np.testing.assert_allclose(moments, [[6e-5, 8e-5], [3e-5, 4e-5]], rtol=1e-5)  # 0.1 of the clipped


def test_changes_are_those_of_the_batch(stems, rng):
    # What the pipelines' own definition says, in NumPy.
    quantised = np.round(stems * 32768).astype(np.int16)
    shape = stems.shape[:2]
    gain = rng.uniform(-1, 1, shape).astype(np.float32)
    swap, origin = rng.random(shape) < 0.5, rng.integers(0, 3, shape).astype(np.int32)
    expected = np.empty(stems.shape, np.float32)
    for b, s in np.ndindex(shape):
        stem = gain[b, s] * (quantised[origin[b, s], s] / 32768)
        expected[b, s] = stem[::-1] if swap[b, s] else stem
    _, drawn = train_step(fresh(), batch_of(quantised, gain=gain, swap=swap, origin=origin), RATES)
    _, made = train_step(fresh(), batch_of(expected), RATES)
    np.testing.assert_allclose(drawn.loss, made.loss, rtol=1e-5)


def test_parts_of_a_batch_add_up(stems):
    # Without dropout and with the same excerpt throughout, a batch in three parts is the batch at once.
    same = np.repeat(stems[:1], 3, axis=0)
    whole, loss = step(fresh(), same, dropout=0.0)
    parts, loss_of_parts = step(fresh(), same, dropout=0.0, accumulate=3)
    np.testing.assert_allclose(loss_of_parts, loss, rtol=1e-5)
    # Some true gradients are zero (input_mean's, before a standardisation): rounding is what remains of them.
    for x, y in zip(jax.tree.leaves(whole.opt_state), jax.tree.leaves(parts.opt_state), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-8)


def test_half_products_are_near(stems):
    _, exact = step(fresh(), stems, dropout=0.0)
    after, half = step(fresh(), stems, dropout=0.0, bf16=True)
    assert not np.array_equal(exact, half)
    np.testing.assert_allclose(half, exact, rtol=0.02)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(after.params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": (0,)}, "targets: expected one source for each of the state's 2 nets"),
        ({"stems": np.zeros((3, 2, 400), np.float32)}, r"stems: expected \(batch, source, channel, time\)"),
        ({"weight": np.ones((3, 1), np.float32)}, r"weight: expected shape \(3, 4\), got \(3, 1\)"),
        ({"rates": np.ones(3, np.float32)}, r"learning_rate: expected shape \(2,\), got \(3,\)"),
        (
            {"filtered": 0.5, "targets": (1, 1)},
            r"filtered: expected each source at most once, got targets \(1, 1\)",
        ),
        ({"accumulate": 2}, "accumulate: expected a divisor of the batch of 3, got 2"),
    ],
)
def test_bad_shapes_say_what_was_expected(stems, change, message):
    call = {"stems": stems, "targets": TARGETS} | change
    with pytest.raises(ValueError, match=message):
        step(fresh(), **call)


def test_statistics_of_another_size_are_refused():
    with pytest.raises(ValueError, match="input_mean: expected statistics of shape"):
        training.init_state(CONFIG, OPTIMIZER, n_targets=1, key=KEY, input_mean=np.zeros(3))


def test_variables_of_other_nets_are_refused():
    wrong = training.kept_variables(fresh(1))
    with pytest.raises(ValueError, match="variables: expected those of 2 nets"):
        training.init_state(CONFIG, OPTIMIZER, n_targets=2, key=KEY, variables=wrong)
