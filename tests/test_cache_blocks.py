"""Arrays made a part at a time are the arrays made at once, and so are their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsep import cache_blocks, stft


def squares(x):
    return jnp.swapaxes(x, -1, -2) ** 2


def in_blocks(x, block):
    def part(start, x):
        return squares(lax.dynamic_slice_in_dim(x, start, block, axis=x.ndim - 2))

    return cache_blocks.in_blocks(squares, part, x, block=block, axis=-1)


@pytest.mark.parametrize("block", [1, 3, 4, 10, 11])  # one by one, with and without an overlap, all at once
def test_parts_are_the_whole(rng, block):
    x = rng.standard_normal((2, 10, 3)).astype(np.float32)
    np.testing.assert_array_equal(in_blocks(x, block), squares(x))
    np.testing.assert_array_equal(jax.vmap(lambda x: in_blocks(x, block))(x), squares(x))


def test_derivatives_are_those_of_the_whole(rng):
    x, along = rng.standard_normal((2, 10, 3)).astype(np.float32)
    value, slope = jax.jvp(lambda x: in_blocks(x, 4), (x,), (along,))
    np.testing.assert_array_equal(value, squares(x))
    np.testing.assert_allclose(slope, (2 * x * along).T, rtol=1e-6)
    gradient = jax.grad(lambda x: in_blocks(x, 4).sum())(x)
    np.testing.assert_allclose(gradient, 2 * x, rtol=1e-6)


@pytest.mark.parametrize("center", [True, False])
def test_stft_of_a_long_signal_is_that_of_its_frames(rng, center):
    audio = rng.standard_normal((2, 600_001)).astype(np.float32)
    sizes = {"n_fft": 16, "hop_length": 4}
    made = stft.stft(audio, center=center, **sizes)
    padded = np.pad(audio, [(0, 0), (8, 8)], mode="reflect") if center else audio
    frames = np.lib.stride_tricks.sliding_window_view(padded, 16, axis=-1)[:, ::4]
    expected = np.fft.rfft(frames * stft.hann_window(16), axis=-1).swapaxes(-1, -2)
    assert made.shape == expected.shape
    # Single precision, of bins up to 20.
    np.testing.assert_allclose(made, expected, rtol=0, atol=5e-6)
    if jax.default_backend() == "cpu":
        assert "while" in jax.jit(lambda x: stft.stft(x, **sizes)).lower(audio).as_text()
