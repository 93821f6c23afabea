"""A strict session: no silent rank promotion, fixed seeds, one place for shared fixtures."""

import jax
import numpy as np
import pytest

# Scripts that ran the originals to make reference numbers: pytest would import them for their doctests.
collect_ignore_glob = ["reference/make_*.py"]

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in every run of every test."""
    return np.random.default_rng(0)


@pytest.fixture
def x64():
    """Double precision for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules that compile large programs to run them a few times on small arrays."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
