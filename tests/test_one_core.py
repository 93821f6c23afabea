"""Programs beside each other: the right results, compiled once, from any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import one_core
from tests.compilations import compilations


def transform_and_sum(x, weights, *, times):
    spectrum = jnp.abs(jnp.fft.rfft(x)) + jnp.abs(jnp.fft.rfft(x[::-1]))
    return times * jnp.sum(jnp.tanh(spectrum @ weights), axis=0)


@pytest.fixture
def arrays(rng):
    return rng.standard_normal((64, 254)).astype(np.float32), rng.standard_normal((128, 8)).astype(np.float32)


def test_the_results_are_those_of_jit(arrays):
    made = one_core.one_core_jit(transform_and_sum, static_argnames="times")(*arrays, times=3)
    expected = jax.jit(transform_and_sum, static_argnames="times")(*arrays, times=3)
    # Sums in another order, some of which cancel: what is rounded is as large as the largest.
    np.testing.assert_allclose(made, expected, atol=1e-6 * np.abs(expected).max())


def test_threads_share_one_program(arrays):
    compiled = one_core.one_core_jit(transform_and_sum, static_argnames="times")
    expected = compiled(*arrays, times=1)
    with compilations() as names, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: np.asarray(compiled(*arrays, times=1)), range(200)))
    assert not names
    np.testing.assert_array_equal(made, np.broadcast_to(expected, (200, 8)))


def test_nothing_in_it_waits_for_the_pool(arrays):
    compiled = jax.jit(transform_and_sum, static_argnames="times", compiler_options=one_core._known_options())
    assert "ynn_fusion" not in compiled.lower(*arrays, times=1).compile().as_text()
    assert one_core._known_options()["xla_cpu_multi_thread_eigen"] is False


def test_an_option_that_this_xla_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr(one_core, "_OPTIONS", one_core._OPTIONS | {"xla_cpu_of_another_time": True})
    one_core._known_options.cache_clear()
    known = one_core._known_options()
    one_core._known_options.cache_clear()
    assert "xla_cpu_of_another_time" not in known and "xla_cpu_multi_thread_eigen" in known
