"""Muon: momenta made orthogonal, of one net or of several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import training
from jaxsep.training.muon import orthogonalised

RMS = 0.2


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8), (1, 5)])
def test_singular_values_come_near_one_and_vectors_stay(shape, rng):
    matrix = rng.normal(size=shape)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    made = left.T @ np.asarray(orthogonalised(jnp.asarray(1e3 * matrix))) @ right.T
    values = np.diag(made)
    assert values.min() > 0.4 and values.max() < 1.25
    np.testing.assert_allclose(made, np.diag(values), atol=1e-5)  # five products of float32


@settings(max_examples=15, deadline=None, derandomize=True)  # shapes compile
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_a_matrix_turned_is_made_orthogonal_alike(rows, columns, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    np.testing.assert_allclose(orthogonalised(matrix.T), orthogonalised(matrix).T, atol=2e-4)


def test_several_at_once_are_each_alone(rng):
    matrices = rng.normal(size=(2, 3, 4, 7)).astype(np.float32)
    together = orthogonalised(matrices)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(together[index], orthogonalised(matrices[index]), atol=1e-5)
    np.testing.assert_allclose(jax.vmap(orthogonalised)(matrices), together, atol=1e-5)


def test_nothing_stays_nothing():
    np.testing.assert_array_equal(orthogonalised(jnp.zeros((3, 5))), 0)


def test_kernels_are_moved_by_steps_of_one_size_and_all_else_by_adam(rng):
    params = {
        "lstm": {"input_kernel": np.zeros((2, 4, 16), np.float32), "bias": np.zeros((2, 16), np.float32)}
    }
    gradient = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    muon, adam = training.muon(clip=5.0), training.adam_with_l2(clip=5.0)
    for scale in (1.0, 1e-6):
        small = jax.tree.map(lambda leaf, scale=scale: scale * leaf, gradient)
        ours, _ = muon.update(small, muon.init(params), params)
        theirs, _ = adam.update(small, adam.init(params), params)
        np.testing.assert_allclose(ours["lstm"]["bias"], theirs["lstm"]["bias"], rtol=1e-6)  # rounding
        rms = np.sqrt(np.mean(np.asarray(ours["lstm"]["input_kernel"]) ** 2))
        assert 0.6 * RMS < rms < 1.3 * RMS


def test_the_momentum_is_nesterovs():
    muon = training.muon()
    params = {"kernel": jnp.zeros((2, 2))}
    first, second = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    _, state = muon.update({"kernel": first}, muon.init(params), params)
    update, _ = muon.update({"kernel": second}, state, params)
    # 0.95 (0.95 first + second) + second
    expected = orthogonalised(jnp.asarray(0.95**2 * first + 1.95 * second))
    np.testing.assert_allclose(update["kernel"], RMS * np.sqrt(2) * expected, rtol=1e-5)
