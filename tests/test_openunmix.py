"""The Open-Unmix net: open-unmix's own numbers in both modes, its gradient, torch's first draw."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import lstm, openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.variables import flatten, unflatten, variable_shapes
from tests.compilations import compilations

DATA = np.load(Path(__file__).parent / "reference" / "data" / "openunmix.npz")

# The sizes are those of tests/reference/make_openunmix.py.
CONFIGS = {
    "stereo": OpenUnmixConfig.from_max_bin(
        11, n_channels=2, n_fft=32, hop_length=8, hidden_size=8, n_layers=3
    ),
    "causal": OpenUnmixConfig(
        n_channels=1,
        n_fft=32,
        hop_length=8,
        hidden_size=5,
        n_layers=2,
        bidirectional=False,
        bandwidth=None,
    ),
    "three": OpenUnmixConfig.from_max_bin(4, n_channels=3, n_fft=16, hop_length=4, hidden_size=6, n_layers=1),
}
TINY = CONFIGS["stereo"]

jit_apply = jax.jit(openunmix.apply, static_argnames="config")
jit_apply_train = jax.jit(openunmix.apply_train, static_argnames=("config", "dropout"))


def stored(name, group, dtype=np.float64):
    """One group of a case's arrays, nested by path."""
    prefix = f"{name}/{group}/"
    arrays = {
        key.removeprefix(prefix): DATA[key].astype(dtype) for key in DATA.files if key.startswith(prefix)
    }
    return unflatten(arrays)


@pytest.fixture
def variables():
    return stored("stereo", "variables", np.float32)


@pytest.fixture
def magnitude(rng):
    return rng.gamma(1.0, 1.0, (3, 2, 17, 6)).astype(np.float32)


def assert_trees_close(made, expected, tolerance):
    """Each array within ``tolerance`` of its expected array's largest number."""
    made, expected = flatten(made), flatten(expected)
    assert made.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_allclose(
            made[path], array, rtol=0, atol=tolerance * np.abs(array).max(), err_msg=path
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_equals_open_unmix(x64, name):
    expected = DATA[f"{name}/eval"]
    # Single precision: normalisation by a variance of 0.5 and up magnifies rounding a little.
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 3e-6)):
        variables = stored(name, "variables", dtype)
        made = jit_apply(variables, DATA[f"{name}/magnitude"].astype(dtype), CONFIGS[name])
        assert made.dtype == dtype
        np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_training_step_equals_torch(x64, name):
    # The estimate, the batch statistics that are kept, the loss, and every parameter's gradient.
    config, variables = CONFIGS[name], stored(name, "variables")
    magnitude, truth = DATA[f"{name}/magnitude"], DATA[f"{name}/truth"]

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        estimate, batch_stats = openunmix.apply_train(
            {"params": params, "batch_stats": variables["batch_stats"]},
            magnitude,
            config,
            key=jax.random.key(0),
            dropout=0.0,
        )
        return jnp.mean((estimate - truth) ** 2), (estimate, batch_stats)

    (made, (estimate, batch_stats)), gradient = loss(variables["params"])
    np.testing.assert_allclose(estimate, DATA[f"{name}/train"], rtol=0, atol=1e-12 * estimate.max())
    np.testing.assert_allclose(made, DATA[f"{name}/loss"], rtol=1e-13)
    assert_trees_close(batch_stats, stored(name, "after")["batch_stats"], 1e-13)

    expected = stored(name, "gradient")["params"]
    # Standardisation right after the first layer takes any shift of its input away: the true gradient of
    # input_mean is zero, and what remains on both sides is rounding of terms of input_scale's size.
    scale = np.abs(expected["input_scale"]).max()
    for zero in (gradient.pop("input_mean"), expected.pop("input_mean")):
        assert np.abs(zero).max() < 1e-12 * scale
    assert_trees_close(gradient, expected, 1e-11)


def test_training_in_single_precision(x64):
    made, batch_stats = jit_apply_train(
        stored("stereo", "variables", np.float32),
        DATA["stereo/magnitude"].astype(np.float32),
        TINY,
        key=jax.random.key(0),
        dropout=0.0,
    )
    expected = DATA["stereo/train"]
    assert made.dtype == np.float32 and all(a.dtype == np.float32 for a in flatten(batch_stats).values())
    # Statistics of a dozen values: a feature that hardly varies is magnified, and its rounding with it.
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4 * expected.max())
    assert_trees_close(batch_stats, stored("stereo", "after")["batch_stats"], 1e-5)


def test_statistics_of_a_single_frame_are_finite():
    magnitude = np.ones((1, 2, 17, 1), np.float32)
    variables = stored("stereo", "variables", np.float32)
    made, batch_stats = jit_apply_train(variables, magnitude, TINY, key=jax.random.key(0))
    assert np.isfinite(made).all()
    assert all(np.isfinite(array).all() for array in flatten(batch_stats).values())


def test_dropout_acts_between_layers_only(variables, magnitude):
    def train(config, variables, key, **options):
        return jit_apply_train(variables, magnitude[:, : config.n_channels], config, key=key, **options)[0]

    first, second = jax.random.split(jax.random.key(0))
    plain = train(TINY, variables, first, dropout=0.0)
    np.testing.assert_array_equal(train(TINY, variables, second, dropout=0.0), plain)
    np.testing.assert_array_equal(train(TINY, variables, first), train(TINY, variables, first))
    assert not np.allclose(train(TINY, variables, first), plain)
    assert not np.allclose(train(TINY, variables, first), train(TINY, variables, second))
    # One layer has nothing between.
    single = OpenUnmixConfig.from_max_bin(11, n_channels=2, n_fft=32, hop_length=8, hidden_size=8, n_layers=1)
    params = variables["params"] | {"lstm": {"layer_0": variables["params"]["lstm"]["layer_0"]}}
    shallow = variables | {"params": params}
    np.testing.assert_array_equal(train(single, shallow, first), train(single, shallow, second))


def test_where_dropout_acts(variables, magnitude):
    # With everything dropped, the kernels that read from a layer below see zeros: doubling them changes
    # nothing. What reads the LSTM's own input and output is not dropped.
    def train(layer, name="input_kernel"):
        stack = variables["params"]["lstm"]
        changed = stack | {layer: stack[layer] | {name: 2 * stack[layer][name]}}
        params = variables["params"] | {"lstm": changed}
        key = jax.random.key(0)
        return jit_apply_train(variables | {"params": params}, magnitude, TINY, key=key, dropout=1.0)[0]

    plain = jit_apply_train(variables, magnitude, TINY, key=jax.random.key(0), dropout=1.0)[0]
    assert np.isfinite(plain).all()
    for layer in ("layer_0", "layer_1", "layer_2"):
        np.testing.assert_array_equal(train(layer), plain)
    assert not np.allclose(train("layer_2", "input_bias"), plain)


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_together_are_the_whole(name):
    config, variables = CONFIGS[name], stored(name, "variables", np.float32)
    magnitude = DATA[f"{name}/magnitude"].astype(np.float32)

    @jax.jit
    def in_parts(variables, magnitude):
        x = openunmix.encode(variables, magnitude, config)
        recurrent = x
        for layer in openunmix.layers(variables, config):
            recurrent = lstm.bilstm(layer, recurrent)
        return openunmix.decode(
            variables, openunmix.merge(variables, x, recurrent, config), magnitude, config
        )

    expected = jit_apply(variables, magnitude, config)
    # The compiler may fuse the one otherwise than the other.
    np.testing.assert_allclose(in_parts(variables, magnitude), expected, rtol=0, atol=1e-6 * expected.max())


def test_parts_around_the_lstm_see_one_frame_at_a_time(variables, magnitude):
    encode = jax.jit(partial(openunmix.encode, config=TINY))
    whole, cut = encode(variables, magnitude), encode(variables, magnitude[..., 2:4])
    np.testing.assert_allclose(cut, whole[:, 2:4], rtol=0, atol=1e-6)
    merge = jax.jit(partial(openunmix.merge, config=TINY))
    merged = merge(variables, whole, whole)
    np.testing.assert_allclose(merge(variables, cut, cut), merged[:, 2:4], rtol=0, atol=1e-5)
    decode = jax.jit(partial(openunmix.decode, config=TINY))
    expected = decode(variables, merged, magnitude)[..., 2:4]
    made = decode(variables, merged[:, 2:4], magnitude[..., 2:4])
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * expected.max())


def test_leading_dims_batched_looped_vmapped(variables, magnitude):
    expected = jit_apply(variables, magnitude, TINY)
    tolerance = {"rtol": 0, "atol": 1e-6 * float(expected.max())}  # products of other shapes, other order
    for shape in ((3, 1), (1, 3)):
        made = jit_apply(variables, magnitude.reshape(*shape, 2, 17, 6), TINY)
        np.testing.assert_allclose(made, expected.reshape(*shape, 2, 17, 6), **tolerance)
    for one, other in zip(magnitude, expected, strict=True):
        np.testing.assert_allclose(jit_apply(variables, one, TINY), other, **tolerance)
    vmapped = jax.jit(jax.vmap(partial(openunmix.apply, config=TINY), in_axes=(None, 0)))
    np.testing.assert_allclose(vmapped(variables, magnitude), expected, **tolerance)


def test_vmapped_over_nets(variables, magnitude):
    nets = [variables, jax.tree.map(lambda a: a * np.float32(1.1), variables)]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *nets)
    made = jax.jit(jax.vmap(partial(openunmix.apply, config=TINY), in_axes=(0, None)))(stacked, magnitude)
    for one, net in zip(made, nets, strict=True):
        expected = jit_apply(net, magnitude, TINY)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-5 * expected.max())


def test_mask_is_not_negative_and_silence_stays_silent(variables, magnitude):
    magnitude[:, :, 3] = 0
    made = jit_apply(variables, magnitude, TINY)
    assert made.min() >= 0
    np.testing.assert_array_equal(made[:, :, 3], 0)
    np.testing.assert_array_equal(jit_apply(variables, 0 * magnitude, TINY), 0)


def test_bins_above_the_bandwidth_are_not_read(variables, magnitude):
    louder = magnitude.copy()
    louder[:, :, TINY.max_bin :] *= 2
    made, expected = jit_apply(variables, louder, TINY), jit_apply(variables, magnitude, TINY)
    np.testing.assert_array_equal(made[:, :, : TINY.max_bin], expected[:, :, : TINY.max_bin])
    np.testing.assert_allclose(made[:, :, TINY.max_bin :], 2 * expected[:, :, TINY.max_bin :], rtol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_init_has_the_variables_of_the_file_format(name):
    variables = jax.eval_shape(partial(openunmix.init, CONFIGS[name]), key=jax.random.key(0))
    variables = jax.tree.map(lambda array: np.zeros(array.shape), variables)
    shapes = {path: array.shape for path, array in flatten(variables).items()}
    assert shapes == variable_shapes(CONFIGS[name])


def test_first_draw_is_torchs():
    config = OpenUnmixConfig(n_channels=1, n_fft=128, hop_length=32, hidden_size=64, bandwidth=None)
    init = jax.jit(partial(openunmix.init, config))
    variables, other = init(key=jax.random.key(0)), init(key=jax.random.key(1))
    params = variables["params"]
    bounds = {"fc1": 1 / np.sqrt(65), "fc2": 1 / np.sqrt(128), "fc3": 1 / np.sqrt(64)}
    drawn = [(params[name]["kernel"], bound) for name, bound in bounds.items()]
    drawn += [(a, 1 / np.sqrt(32)) for layer in params["lstm"].values() for a in layer.values()]
    assert len(drawn) == 3 + 3 * 4
    for array, bound in drawn:
        draws = np.asarray(array).ravel()
        assert 0.95 * bound < np.abs(draws).max() <= bound
        # Five standard errors of the mean and of the standard deviation of uniform draws.
        assert abs(draws.mean()) < 5 * bound / np.sqrt(3 * draws.size)
        assert abs(draws.std() * np.sqrt(3) / bound - 1) < 5 * np.sqrt(0.2 / draws.size)
    assert len({np.asarray(array).tobytes() for array, _ in drawn}) == len(drawn)
    for name in ("input_scale", "output_scale", "output_mean"):
        np.testing.assert_array_equal(params[name], 1)
    np.testing.assert_array_equal(params["input_mean"], 0)
    for name in ("bn1", "bn2", "bn3"):
        np.testing.assert_array_equal(params[name]["scale"], 1)
        np.testing.assert_array_equal(params[name]["bias"], 0)
        np.testing.assert_array_equal(variables["batch_stats"][name]["mean"], 0)
        np.testing.assert_array_equal(variables["batch_stats"][name]["var"], 1)
    assert not np.array_equal(params["fc1"]["kernel"], other["params"]["fc1"]["kernel"])


def test_second_call_compiles_nothing(variables, magnitude):
    jit_apply(variables, magnitude, TINY)
    jit_apply_train(variables, magnitude, TINY, key=jax.random.key(0))
    key = jax.random.key(1)
    again = OpenUnmixConfig.from_json(TINY.to_json())  # equal, not the same
    with compilations() as compiled:
        jit_apply(variables, 2 * magnitude, again)
        jit_apply_train(variables, 2 * magnitude, again, key=key)
    assert compiled == []


def test_inputs_are_untouched(variables, magnitude):
    before = jax.tree.map(np.copy, (variables, magnitude))
    jit_apply_train(variables, magnitude, TINY, key=jax.random.key(0))
    for ours, theirs in zip(jax.tree.leaves((variables, magnitude)), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 17, 6), (2, 16, 6), (17, 6)])
def test_refuses_other_shapes(variables, shape):
    magnitude = jnp.ones(shape)
    message = rf"expected magnitudes \(..., 2, 17, frame\).*got shape \({shape[0]}, {shape[1]}"
    with pytest.raises(ValueError, match=message):
        openunmix.apply(variables, magnitude, TINY)
    with pytest.raises(ValueError, match=message):
        openunmix.apply_train(variables, magnitude, TINY, key=jax.random.key(0))
