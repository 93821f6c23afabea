"""Sparseness: the nearest vectors of a given sparseness, and factors held to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import nmf, nmfd
from jaxsep.sparseness import Sparseness, sparseness, with_sparseness


def hoyer_projection(x, total, size):
    """The projection by alternating between hyperplane, sphere and cone, one vector at a time."""
    s = x + (total - x.sum()) / len(x)
    zero = np.zeros(len(x), bool)
    while True:
        middle = np.where(zero, 0, total / (len(x) - zero.sum()))
        way = s - middle
        a, b, c = way @ way, 2 * middle @ way, middle @ middle - size**2
        s = middle + way * (-b + np.sqrt(max(b * b - 4 * a * c, 0))) / (2 * a)
        if (s >= 0).all():
            return s
        zero |= s < 0
        s = np.where(zero, 0, s)
        s = np.where(zero, 0, s + (total - s.sum()) / (len(x) - zero.sum()))


@pytest.mark.parametrize("target", (0.1, 0.4, 0.8, 0.95))
def test_equals_the_alternating_projection(x64, rng, target):
    x = rng.random((6, 40)) ** 3
    got = with_sparseness(x, target)
    for row, one in zip(x, got, strict=True):
        size = np.linalg.norm(row)
        total = size * (40**0.5 - target * (40**0.5 - 1))
        np.testing.assert_allclose(one, hoyer_projection(row, total, size), atol=1e-10)


@settings(deadline=None, max_examples=6, derandomize=True)
@given(st.integers(2, 30), st.floats(0.0, 1.0), st.integers(0, 99))
def test_sparseness_and_norm_are_as_wanted(n, target, seed):
    x = np.random.default_rng(seed).random((3, n)).astype(np.float32) * 1e-12  # quiet: squares leave float32
    got = np.asarray(with_sparseness(jnp.asarray(x), target), np.float64)
    assert (got >= 0).all()
    np.testing.assert_allclose(
        np.linalg.norm(got, axis=-1), np.linalg.norm(x.astype(float), axis=-1), rtol=1e-4
    )
    # Sums of float32 over n entries, and a difference of two of them.
    np.testing.assert_allclose(sparseness(jnp.asarray(got / got.max())), target, atol=2e-3)


def test_extremes():
    x = jnp.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(with_sparseness(x, 1.0), [14**0.5, 0, 0], rtol=1e-5)
    np.testing.assert_allclose(with_sparseness(x, 0.0), [(14 / 3) ** 0.5] * 3, rtol=1e-3)
    for same in (jnp.zeros(4), jnp.full(4, 2.0)):
        np.testing.assert_array_equal(with_sparseness(same, 0.5), same)
    np.testing.assert_allclose(with_sparseness(jnp.array([2.0, 2.0, 0.0]), 0.9), [2.0, 2.0, 0.0], rtol=1e-6)
    assert sparseness(jnp.zeros(4)) == 0


def test_batched_equals_looped_and_integers_work(rng):
    x = rng.random((2, 3, 9)).astype(np.float32)
    got = with_sparseness(x, 0.6)
    np.testing.assert_allclose(got[1, 2], with_sparseness(x[1, 2], 0.6), rtol=1e-6)
    mapped = jax.vmap(lambda x: with_sparseness(x, 0.6))(x)
    np.testing.assert_allclose(mapped, got, rtol=1e-6)
    assert with_sparseness(np.array([3, 1, 2]), 0.5).dtype == jnp.float32


@pytest.mark.parametrize("module", (nmf, nmfd))
def test_factors_become_sparse(module):
    rng = np.random.default_rng(0)
    v = jnp.asarray(rng.random((20, 3)) ** 4 @ rng.random((3, 30)) ** 4, jnp.float32)
    options = {"n_lags": 3} if module is nmfd else {}
    start = module.init(v, 3, key=jax.random.key(0), **options)
    free, _ = module.fit(v, start, n_steps=40, beta=2.0)
    held, info = module.fit(v, start, n_steps=40, beta=2.0, constraint=Sparseness(w=0.5, h=0.6))
    assert info.divergence[-1] < 0.8 * info.divergence[0]
    # One update after the last projection moves them, but not far.
    np.testing.assert_allclose(sparseness(held.h), 0.6, atol=0.1)
    templates = jnp.moveaxis(held.w, 1, 0).reshape((3, -1))
    np.testing.assert_allclose(sparseness(templates), 0.5, atol=0.15)
    assert (sparseness(held.h) > sparseness(free.h)).all()
    assert Sparseness()(start, 0, 1) is start


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"h must be within 0 and 1, got 1\.5"):
        Sparseness(h=1.5)
    with pytest.raises(ValueError, match=r"target must be within 0 and 1, got -0\.1"):
        with_sparseness(jnp.ones(3), -0.1)
    with pytest.raises(ValueError, match=r"two entries or more .* got shape \(1,\)"):
        sparseness(jnp.ones(1))
