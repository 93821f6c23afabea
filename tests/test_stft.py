"""STFT and inverse: torch's numbers, exact round trips at any length, gradients, batches, bad input."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxsep import stft
from tests.compilations import compilations

DATA = np.load(Path(__file__).parent / "reference" / "data" / "stft.npz")
FORWARD = sorted({name.rpartition("/")[0] for name in DATA.files if name.startswith("stft/")})
INVERSE = sorted({name.rpartition("/")[0] for name in DATA.files if name.startswith("istft/")})

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=12)

# One compilation a shape, not one for each operation.
jit_stft = jax.jit(stft.stft, static_argnames=("n_fft", "hop_length", "center"))
jit_istft = jax.jit(stft.istft, static_argnames=("n_fft", "hop_length", "length", "center"))


def forward_case(name):
    _, _, n_fft, hop_length, center = name.split("/")
    options = {"n_fft": int(n_fft), "hop_length": int(hop_length), "center": center == "True"}
    return DATA[f"{name}/audio"], DATA[f"{name}/spectrogram"], options


def inverse_case(name):
    _, n_fft, hop_length, _, length = name.split("/")
    length = None if length == "None" else int(length)
    options = {"n_fft": int(n_fft), "hop_length": int(hop_length), "length": length}
    return DATA[f"{name}/spectrogram"], DATA[f"{name}/audio"], options


def textbook(audio, n_fft, hop_length):
    """Frame by frame, by the formula, in double precision: no padding."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    starts = range(0, audio.shape[-1] - n_fft + 1, hop_length)
    return np.stack([np.fft.rfft(window * audio[..., s : s + n_fft]) for s in starts], axis=-1)


@pytest.mark.parametrize("name", FORWARD)
def test_stft_equals_torch(x64, name):
    audio, expected, options = forward_case(name)
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):  # of the largest bin
        made = jit_stft(jnp.asarray(audio, dtype), **options)
        assert made.dtype == np.result_type(dtype, np.complex64)
        np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", INVERSE)
def test_istft_equals_torch(x64, name):
    spectrogram, expected, options = inverse_case(name)
    for dtype, tolerance in ((np.complex128, 1e-13), (np.complex64, 1e-6)):
        made = jit_istft(jnp.asarray(spectrogram, dtype), **options)
        assert made.dtype == np.zeros(0, dtype).real.dtype
        np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@EXAMPLES
@given(
    n=st.integers(1, 90),
    n_fft=st.sampled_from([1, 2, 7, 16, 33]),
    hop_length=st.sampled_from([1, 4, 5, 16, 40]),
    center=st.booleans(),
)
def test_round_trip_wherever_the_window_sum_is_positive(n, n_fft, hop_length, center):
    options = {"n_fft": n_fft, "hop_length": hop_length, "center": center}
    audio = np.random.default_rng(n).standard_normal(n)
    with jax.enable_x64(True):
        spectrogram = jit_stft(audio, **options)
        made = np.asarray(jit_istft(spectrogram, length=n, **options))
    n_frames = stft.frame_count(n, **options)
    assert spectrogram.shape == (n_fft // 2 + 1, n_frames)
    # The window sum by its definition.
    weight = np.zeros((n_frames - 1) * hop_length + n_fft + n)
    for frame in range(n_frames):
        weight[frame * hop_length :][:n_fft] += stft.hann_window(n_fft) ** 2
    weight = weight[n_fft // 2 if center else 0 :][:n]
    assert made.dtype == np.float64 and made.shape == (n,)
    # Where the sum is tiny, rounding of the FFT is divided by it.
    heard = weight > 0
    error = np.abs(made - audio)[heard] * np.sqrt(weight[heard])
    assert error.max(initial=0) < 1e-13 * (1 + np.abs(audio).max())
    np.testing.assert_array_equal(made[~heard], 0)


@EXAMPLES
@given(n=st.integers(1, 70), n_fft=st.sampled_from([8, 9, 32]), hop_length=st.sampled_from([3, 8]))
def test_reflection_is_numpys_at_any_length(n, n_fft, hop_length):
    # numpy's "reflect" also goes back and forth in a signal below half a window, and repeats a lone sample.
    audio = np.random.default_rng(n).standard_normal(n)
    expected = textbook(np.pad(audio, n_fft // 2, mode="reflect"), n_fft, hop_length)
    with jax.enable_x64(True):
        made = jit_stft(audio, n_fft=n_fft, hop_length=hop_length)
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-12)


def test_below_one_window_without_centring_is_followed_by_zeros(x64, rng):
    audio = rng.standard_normal(10)
    made = jit_stft(audio, n_fft=16, hop_length=4, center=False)
    np.testing.assert_allclose(made, textbook(np.pad(audio, (0, 6)), 16, 4), rtol=0, atol=1e-13)


def test_default_length_is_all_that_the_frames_cover(x64, rng):
    audio = rng.standard_normal(99)
    for center, covered in ((True, 96), (False, 96)):
        spectrogram = jit_stft(audio, n_fft=16, hop_length=4, center=center)
        made = jit_istft(spectrogram, n_fft=16, hop_length=4, center=center)
        assert made.shape == (covered,)
        np.testing.assert_allclose(made[1:], audio[1:covered], rtol=0, atol=1e-13)


def test_longer_than_the_frames_is_followed_by_zeros(rng):
    spectrogram = jit_stft(rng.standard_normal(50).astype(np.float32), n_fft=16, hop_length=4)
    made = jit_istft(spectrogram, n_fft=16, hop_length=4, length=80)
    assert made.shape == (80,)
    np.testing.assert_array_equal(made[64:], 0)
    assert jit_istft(spectrogram, n_fft=16, hop_length=4, length=0).shape == (0,)


def test_scale_and_linearity(rng):
    # A full-scale sine on a bin reaches a quarter of the window.
    sine = np.cos(2 * np.pi * 5 * np.arange(640) / 64).astype(np.float32)
    magnitude = np.abs(jit_stft(sine, n_fft=64, hop_length=16, center=False))
    np.testing.assert_allclose(magnitude[5], 16.0, rtol=1e-5)
    np.testing.assert_allclose(magnitude.max(), 16.0, rtol=1e-5)


def test_leading_dims_batched_looped_vmapped(rng):
    audio = rng.standard_normal((2, 3, 100)).astype(np.float32)
    forward = jax.jit(partial(stft.stft, n_fft=16, hop_length=5))
    backward = jax.jit(partial(stft.istft, n_fft=16, hop_length=5, length=100))
    batched = forward(audio)
    signal = backward(batched)
    assert batched.shape == (2, 3, 9, 21) and signal.shape == audio.shape
    # Compiled for other shapes, the last bit may differ.
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
    close(jax.vmap(jax.vmap(forward))(audio), batched)
    close(jax.vmap(jax.vmap(backward))(batched), signal)
    for i, j in np.ndindex(2, 3):
        close(forward(audio[i, j]), batched[i, j])
        close(backward(batched[i, j]), signal[i, j])


@pytest.mark.parametrize("center", [True, False])
def test_gradients_against_finite_differences(x64, rng, center):
    options = {"n_fft": 8, "hop_length": 3, "center": center}
    audio = rng.standard_normal(21)

    @jax.jit
    def forward(audio):
        spectrogram = stft.stft(audio, **options)
        return spectrogram.real, spectrogram.imag

    @jax.jit
    def backward(real, imag):
        return stft.istft(real + 1j * imag, length=21, **options)

    check_grads(forward, (audio,), order=1, modes=("fwd", "rev"))
    check_grads(backward, forward(audio), order=1, modes=("fwd", "rev"))


def test_gradient_is_finite_where_no_window_reaches(rng):
    options = {"n_fft": 4, "hop_length": 10, "center": False}
    spectrogram = jit_stft(rng.standard_normal(40).astype(np.float32), **options)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(stft.istft(x, length=40, **options) ** 2)))(spectrogram)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_silence_stays_silent():
    spectrogram = jit_stft(np.zeros((2, 50), np.float32), n_fft=16, hop_length=4)
    np.testing.assert_array_equal(spectrogram, 0)
    np.testing.assert_array_equal(jit_istft(spectrogram, n_fft=16, hop_length=4, length=50), 0)


def test_inputs_are_untouched(rng):
    audio = rng.standard_normal(50).astype(np.float32)
    spectrogram = np.asarray(stft.stft(audio, n_fft=16, hop_length=4)).copy()
    before = audio.copy(), spectrogram.copy()
    stft.stft(audio, n_fft=16, hop_length=4)
    stft.istft(spectrogram, n_fft=16, hop_length=4)
    np.testing.assert_array_equal(audio, before[0])
    np.testing.assert_array_equal(spectrogram, before[1])


def test_second_call_compiles_nothing(rng):
    first, second = rng.standard_normal((2, 50)).astype(np.float32)

    def round_trip(audio):
        return stft.istft(stft.stft(audio, n_fft=16, hop_length=4), n_fft=16, hop_length=4, length=50)

    jitted = jax.jit(round_trip)
    jitted(first)
    round_trip(first)
    with compilations() as compiled:
        jitted(second)
        round_trip(second)
    assert compiled == []


def test_overlap_add_is_its_formula(x64, rng):
    for size, hop_length in ((8, 3), (8, 8), (3, 5)):
        frames = rng.standard_normal((2, 4, size))
        expected = np.zeros((2, 3 * hop_length + size))
        for t in range(4):
            expected[:, t * hop_length :][:, :size] += frames[:, t]
        np.testing.assert_allclose(stft.overlap_add(frames, hop_length), expected, rtol=0, atol=1e-14)


def test_squared_window_sum_is_constant_inside():
    total = stft.squared_window_sum(64, 16, 20)
    assert total.shape == (19 * 16 + 64,)
    np.testing.assert_allclose(total[48:-48], 1.5, rtol=1e-14)


@pytest.mark.parametrize(
    ("audio", "options", "error", "message"),
    [
        (np.zeros(9, np.int16), {}, TypeError, "real floating type, got int16"),
        (np.zeros(9, np.complex64), {}, TypeError, "real floating type, got complex64"),
        (np.zeros((2, 0), np.float32), {}, ValueError, r"at least one sample, got shape \(2, 0\)"),
        (np.float32(1.0), {}, ValueError, r"at least one sample, got shape \(\)"),
        (np.zeros(9, np.float32), {"n_fft": 0}, ValueError, "at least 1, got 0 and 1024"),
        (np.zeros(9, np.float32), {"hop_length": -1}, ValueError, "at least 1, got 4096 and -1"),
    ],
)
def test_stft_refuses(audio, options, error, message):
    with pytest.raises(error, match=message):
        stft.stft(audio, **options)


@pytest.mark.parametrize(
    ("spectrogram", "options", "error", "message"),
    [
        (np.zeros((9, 3), np.float32), {}, TypeError, "expected a complex spectrogram, got float32"),
        (np.zeros((8, 3), np.complex64), {}, ValueError, r"\(..., 9, frame\).* n_fft=16.*got shape \(8, 3\)"),
        (np.zeros((9, 0), np.complex64), {}, ValueError, "at least one frame"),
        (np.zeros(9, np.complex64), {}, ValueError, r"got shape \(9,\)"),
        (np.zeros((9, 3), np.complex64), {"length": -1}, ValueError, "0 or more samples, got -1"),
        (np.zeros((9, 3), np.complex64), {"hop_length": 0}, ValueError, "at least 1, got 16 and 0"),
    ],
)
def test_istft_refuses(spectrogram, options, error, message):
    with pytest.raises(error, match=message):
        stft.istft(spectrogram, **{"n_fft": 16, "hop_length": 4} | options)
