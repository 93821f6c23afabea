"""LSTM layers: torch's numbers, the hand-written gradient, pieces and padding, the first draw."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxsep import lstm
from tests.compilations import compilations

DATA = np.load(Path(__file__).parent / "reference" / "data" / "lstm.npz")

jit_bilstm = jax.jit(lstm.bilstm)
jit_scan_layer = jax.jit(lstm.scan_layer)


def layer(rng, n_features=3, hidden_size=2, n_directions=1, scale=1.0, dtype=np.float64):
    """Parameters of one layer, large enough that every gate is somewhere between open and shut."""
    shapes = lstm.param_shapes(n_features, hidden_size, n_directions)
    return lstm.LSTMParams(*(scale * rng.standard_normal(shape).astype(dtype) for shape in shapes))


def textbook(params, x):
    """The equations as they stand, for one direction after the other: x ``(batch, frame, feature)``."""

    def run(input_kernel, recurrent_kernel, input_bias, recurrent_bias, x):
        def step(carry, frame):
            hidden, cell = carry
            gates = frame @ input_kernel + hidden @ recurrent_kernel + (input_bias + recurrent_bias)[None]
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        zeros = jnp.zeros((x.shape[0], recurrent_kernel.shape[0]), x.dtype)
        _, outputs = lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)

    forward = run(*(p[0] for p in params), x)
    if len(params.input_kernel) == 1:
        return forward
    return jnp.concatenate([forward, run(*(p[1] for p in params), x[:, ::-1])[:, ::-1]], axis=-1)


@pytest.mark.parametrize("name", ["one", "both", "stack"])
def test_equals_torch(x64, name):
    stored = [key.split("/") for key in DATA.files if key.startswith(f"{name}/layer_")]
    # Single precision: tanh and products round at 6e-8 each, a handful of times in a row.
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):
        y = DATA[f"{name}/x"].astype(dtype)
        for index in sorted({key[1] for key in stored}):
            arrays = {key[2]: DATA["/".join(key)].astype(dtype) for key in stored if key[1] == index}
            y = jit_bilstm(lstm.LSTMParams(**arrays), y)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, DATA[f"{name}/y"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_directions", [1, 2])
def test_gradient_equals_that_of_the_textbook_form(x64, rng, n_directions):
    params = layer(rng, n_directions=n_directions)
    x = rng.standard_normal((2, 6, 3))
    weight = rng.standard_normal((2, 6, 2 * n_directions))

    def loss(function, params, x):
        return jnp.sum(weight * function(params, x) ** 2)

    gradient = jax.jit(jax.grad(loss, argnums=(1, 2)), static_argnums=0)
    np.testing.assert_allclose(jit_bilstm(params, x), jax.jit(textbook)(params, x), rtol=0, atol=1e-14)
    made, expected = gradient(lstm.bilstm, params, x), gradient(textbook, params, x)
    for ours, theirs in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
        assert np.abs(theirs).max() > 0.01
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13 * np.abs(theirs).max())


def test_gradient_against_finite_differences(x64, rng):
    # Through outputs and last carry, with respect to the first carry too, with a frame of padding.
    params = layer(rng, n_directions=2, scale=0.5)
    x = rng.standard_normal((2, 1, 4, 3))
    carry = lstm.LSTMCarry(*rng.standard_normal((2, 2, 1, 2)))
    valid = np.array([[True] * 4, [False] + [True] * 3])

    def run(params, x, carry):
        return lstm.scan_layer(params, x, carry, valid=valid)

    check_grads(jax.jit(run), (params, x, carry), order=1, modes=("rev",))


def test_gradient_in_single_precision_is_that_of_double(x64, rng):
    params = layer(rng, n_directions=2, hidden_size=4)
    x = rng.standard_normal((3, 30, 3))
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(lstm.bilstm(params, x) ** 2)))
    expected = gradient(params, x)
    made = gradient(*jax.tree.map(lambda a: a.astype(np.float32), (params, x)))
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.dtype == np.float32
        # A sum over 90 frames, each rounded at 6e-8 of its own size.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize("n_directions", [1, 2])
def test_pieces_with_carry_equal_the_whole(x64, rng, n_directions):
    params = layer(rng, n_directions=n_directions)
    x = rng.standard_normal((n_directions, 2, 12, 3))  # each direction has a sequence of its own
    first = lstm.init_carry(params, 2)
    whole, last = jit_scan_layer(params, x, first)
    pieces, carry = [], first
    for start in (0, 4, 8):
        outputs, carry = jit_scan_layer(params, x[:, :, start : start + 4], carry)
        pieces.append(outputs)
    np.testing.assert_allclose(np.concatenate(pieces, axis=2), whole, rtol=0, atol=1e-14)
    for ours, theirs in zip(carry, last, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)
    np.testing.assert_allclose(carry.hidden, whole[:, :, -1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("at_start", [True, False])
def test_padding_is_as_if_it_were_not_there(x64, rng, at_start):
    params = layer(rng, n_directions=2)
    x = rng.standard_normal((2, 2, 7, 3))
    frames = slice(3, None) if at_start else slice(None, 4)
    valid = np.zeros((2, 7), bool)
    valid[:, frames] = True
    padded = np.where(valid[:, None, :, None], x, 1e3)  # whatever stands there
    expected, _ = jit_scan_layer(params, x[:, :, frames], lstm.init_carry(params, 2))
    made, carry = jit_scan_layer(params, padded, lstm.init_carry(params, 2), valid=valid)
    np.testing.assert_allclose(made[:, :, frames], expected, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(np.asarray(made)[:, :, ~valid[0]], 0)
    if not at_start:
        np.testing.assert_array_equal(carry.hidden, 0)
        np.testing.assert_array_equal(carry.cell, 0)


def test_padding_differs_by_direction(x64, rng):
    params = layer(rng, n_directions=2)
    x = rng.standard_normal((2, 1, 5, 3))
    valid = np.array([[True] * 5, [False, False, True, True, True]])
    made, _ = jit_scan_layer(params, x, lstm.init_carry(params, 1), valid=valid)
    plain, _ = jit_scan_layer(params, x, lstm.init_carry(params, 1))
    np.testing.assert_array_equal(made[0], plain[0])
    alone, _ = jit_scan_layer(params, x[:, :, 2:], lstm.init_carry(params, 1))
    np.testing.assert_allclose(made[1, :, 2:], alone[1], rtol=0, atol=1e-14)


def test_padding_gives_no_gradient(x64, rng):
    params = layer(rng)
    x = rng.standard_normal((1, 1, 5, 3))
    valid = np.array([[False, True, True, True, False]])
    carry = lstm.init_carry(params, 1)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(lstm.scan_layer(params, x, carry, valid=valid)[0])))(x)
    gradient = np.asarray(gradient)
    assert (np.abs(gradient[0, 0, 1:4]) > 0).all()
    np.testing.assert_array_equal(gradient[0, 0, [0, 4]], 0)


def test_directions_run_opposite_ways(rng):
    params = layer(rng, n_directions=2, dtype=np.float32)
    x = rng.standard_normal((1, 6, 3)).astype(np.float32)
    changed = x.copy()
    changed[:, 3] += 1
    moved = np.asarray(jit_bilstm(params, changed)) - np.asarray(jit_bilstm(params, x))
    forward, backward = np.split(moved[0], 2, axis=-1)
    assert (forward[3:] != 0).any(axis=1).all() and (backward[:4] != 0).any(axis=1).all()
    np.testing.assert_array_equal(forward[:3], 0)
    np.testing.assert_array_equal(backward[4:], 0)


def test_batched_looped_vmapped(rng):
    params = layer(rng, n_directions=2, dtype=np.float32)
    x = rng.standard_normal((3, 5, 3)).astype(np.float32)
    batched = jit_bilstm(params, x)
    vmapped = jax.jit(jax.vmap(lstm.bilstm, in_axes=(None, 0)))(params, x[:, None])[:, 0]
    # Products of other shapes may sum in another order.
    np.testing.assert_allclose(vmapped, batched, rtol=0, atol=1e-6)
    for one, expected in zip(x, batched, strict=True):
        np.testing.assert_allclose(jit_bilstm(params, one[None])[0], expected, rtol=0, atol=1e-6)


def test_vmapped_over_parameters_with_gradient(x64, rng):
    pair = [layer(rng), layer(rng)]
    x = rng.standard_normal((1, 4, 3))
    gradient = jax.grad(lambda params: jnp.sum(lstm.bilstm(params, x) ** 2))
    made = jax.jit(jax.vmap(gradient))(jax.tree.map(lambda *arrays: np.stack(arrays), *pair))
    for index, params in enumerate(pair):
        for ours, theirs in zip(made, jax.jit(gradient)(params), strict=True):
            np.testing.assert_allclose(ours[index], theirs, rtol=0, atol=1e-13)


def test_saturated_gates_stay_finite(rng):
    params = layer(rng, n_directions=2, scale=100.0, dtype=np.float32)
    x = (1e4 * rng.standard_normal((1, 5, 3))).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(lstm.bilstm(params, x)), argnums=(0, 1)))
    assert np.abs(jit_bilstm(params, x)).max() <= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(params, x)))


def test_first_draw_is_torchs():
    hidden_size = 64
    params = lstm.init(32, hidden_size, 2, key=jax.random.key(0))
    assert [leaf.shape for leaf in params] == list(lstm.param_shapes(32, hidden_size, 2))
    bound = 1 / np.sqrt(hidden_size)
    for leaf in params:
        draws = np.asarray(leaf).ravel()
        assert leaf.dtype == np.float32
        assert np.abs(draws).max() <= bound
        assert np.abs(draws).max() > 0.98 * bound
        # Five standard errors of the mean and of the standard deviation of uniform draws.
        assert abs(draws.mean()) < 5 * bound / np.sqrt(3 * draws.size)
        assert abs(draws.std() * np.sqrt(3) / bound - 1) < 5 * np.sqrt(0.2 / draws.size)
    assert not np.array_equal(params.input_bias, params.recurrent_bias)
    assert not np.array_equal(params.input_kernel[0], params.input_kernel[1])
    other = lstm.init(32, hidden_size, 2, key=jax.random.key(1))
    assert not np.array_equal(params.input_kernel, other.input_kernel)


def test_second_call_compiles_nothing(rng):
    params = layer(rng, n_directions=2, dtype=np.float32)
    first, second = rng.standard_normal((2, 1, 5, 3)).astype(np.float32)
    jit_bilstm(params, first)
    with compilations() as compiled:
        jit_bilstm(params, second)
    assert compiled == []


def test_inputs_are_untouched(rng):
    params = layer(rng, dtype=np.float32)
    x = rng.standard_normal((1, 5, 3)).astype(np.float32)
    before = jax.tree.map(np.copy, (params, x))
    jit_bilstm(params, x)
    for ours, theirs in zip(jax.tree.leaves((params, x)), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 4), (1, 2, 5, 3)])
def test_refuses_other_shapes(rng, shape):
    with pytest.raises(ValueError, match=rf"expected .*\(batch, frame, 3\), got shape \({shape[0]}, "):
        lstm.bilstm(layer(rng), jnp.zeros(shape))
