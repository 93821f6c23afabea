"""Masks sum to one; HPSS equals librosa's and libnmfd's; Griffin-Lim converges."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import masking
from jaxsep.griffin_lim import griffin_lim
from jaxsep.median_filter import median, median_filter
from jaxsep.nmf_constraints import exponential_decay
from jaxsep.stft import stft
from tests.compilations import compilations

DATA = Path(__file__).parent / "reference" / "data"
HPSS = np.load(DATA / "nmf_hpss.npz")
LIBNMFD = np.load(DATA / "nmf_libnmfd.npz")
HPSS_OPTIONS = {
    "default": {},
    "even_kernels": {"kernel_size": (6, 13), "power": 1.0},
    "margins": {"kernel_size": 7, "margin": (1.0, 3.0)},
    "binary": {"kernel_size": 9, "power": math.inf},
    "long_kernel": {"kernel_size": 101},
}


@pytest.mark.parametrize("name", HPSS_OPTIONS)
def test_hpss_equals_librosa(x64, name):
    harmonic, percussive = masking.hpss(HPSS["s"], **HPSS_OPTIONS[name])
    np.testing.assert_allclose(harmonic, HPSS[f"harmonic_{name}"], atol=1e-12)
    np.testing.assert_allclose(percussive, HPSS[f"percussive_{name}"], atol=1e-12)


def test_hpss_equals_librosa_in_float32():
    # Medians are selected, never computed: only the masks round.
    harmonic, _ = masking.hpss(jnp.asarray(HPSS["s"], jnp.float32))
    np.testing.assert_allclose(harmonic, HPSS["harmonic_default"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("mean", {}), ("median", {"median": True}), ("rounds", {"n_iters": 5, "kernel_size": 9})],
)
def test_kernel_additive_hpss_equals_libnmfd(x64, name, options):
    v = LIBNMFD["v"] + 0.01
    harmonic, percussive = masking.hpss_kernel_additive(v, alpha=1.3, **options)
    # libnmfd adds 2^-52 to the masks' denominators.
    np.testing.assert_allclose(harmonic * v, LIBNMFD[f"kam_harmonic_{name}"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(percussive * v, LIBNMFD[f"kam_percussive_{name}"], rtol=1e-8, atol=1e-12)


def test_alpha_wiener_equals_libnmfd(x64):
    v = LIBNMFD["v"]
    masks = masking.alpha_wiener(np.stack([v, np.roll(v, 5, axis=1) + 0.01]), axis=0)
    np.testing.assert_allclose(masks, LIBNMFD["wiener"], atol=1e-9)


@pytest.mark.parametrize("alpha", (0.5, 1.0, 2.0, 8.0))
def test_masks_sum_to_one_even_in_silence(rng, alpha):
    sources = rng.random((2, 4, 2, 5, 6)).astype(np.float32) * 1e-20
    sources[:, :, :, 2] = 0
    sources[0, 1] = 0
    for masks in (masking.alpha_wiener(sources, alpha=alpha), masking.binary(sources)):
        assert masks.shape == sources.shape
        np.testing.assert_allclose(masks.sum(axis=-4), 1, rtol=1e-6)
        assert (masks >= 0).all()
    x, x_ref = sources[:, 0], sources[:, 1]
    total = masking.softmask(x, x_ref, power=alpha) + masking.softmask(x_ref, x, power=alpha)
    np.testing.assert_allclose(total, 1, rtol=1e-6)
    for masks in (
        masking.hpss(x, kernel_size=3, power=alpha),
        masking.hpss_kernel_additive(x, kernel_size=3),
    ):
        np.testing.assert_allclose(sum(masks), 1, rtol=1e-6)


def test_softmask_decides_with_infinite_power():
    x, x_ref = jnp.array([2.0, 1.0, 0.0, 1.0]), jnp.array([1.0, 2.0, 0.0, 1.0])
    assert masking.softmask(x, x_ref, power=math.inf).tolist() == [1, 0, 0, 0]
    assert masking.softmask(x, x_ref, power=100.0)[1] < 1e-29
    assert masking.softmask(x, x_ref, split_zeros=False)[2] == 0


def test_softmask_asks_for_a_margin():
    x, x_ref = jnp.array([2.0, 4.0, 0.0]), jnp.array([1.0, 1.0, 1.0])
    for power in (2.0, math.inf):
        expected = masking.softmask(x, 3 * x_ref, power=power)
        np.testing.assert_array_equal(masking.softmask(x, x_ref, power=power, margin=3.0), expected)


def test_integers_become_float32():
    x, x_ref = np.array([[3, 0]]), np.array([[1, 0]])
    np.testing.assert_allclose(masking.softmask(x, x_ref), [[0.75, 0.5]])
    assert masking.softmask(x, x_ref, power=math.inf).dtype == jnp.float32
    np.testing.assert_allclose(
        masking.alpha_wiener(np.stack([x, x_ref]), alpha=1.0, axis=0)[0], [[0.75, 0.5]]
    )


def test_nothing_recompiles():
    v, other = jnp.ones((17, 11)), jnp.zeros((17, 11))
    sizes = {"n_fft": 32, "hop_length": 16, "length": 160}

    def calls(v):
        masking.hpss(v, kernel_size=5, margin=2.0)
        masking.hpss_kernel_additive(v, kernel_size=5, n_iters=2, alpha=1.5)
        griffin_lim(v, **sizes, n_iters=2)
        exponential_decay(v, 0.5)

    calls(v)
    with compilations() as again:
        calls(other)
    assert not again


def test_masks_follow_the_axis_and_batch(rng):
    sources = jnp.asarray(rng.random((3, 4, 2, 5, 6)))
    expected = jnp.stack([masking.alpha_wiener(s) for s in sources])
    np.testing.assert_allclose(masking.alpha_wiener(sources), expected, rtol=1e-6)
    moved = masking.alpha_wiener(jnp.moveaxis(sources, 1, 0), axis=0)
    np.testing.assert_allclose(jnp.moveaxis(moved, 0, 1), expected, rtol=1e-6)
    assert masking.binary(sources).sum() == 3 * 2 * 5 * 6


def test_hpss_batched_equals_looped_equals_vmap(rng):
    v = jnp.asarray(rng.random((2, 3, 12, 14)), jnp.float32)
    for separate in (masking.hpss, masking.hpss_kernel_additive):
        both = jnp.stack(separate(v, kernel_size=5))
        np.testing.assert_allclose(
            jax.vmap(lambda x, f=separate: jnp.stack(f(x, kernel_size=5)), out_axes=1)(v), both, rtol=1e-6
        )
        np.testing.assert_allclose(jnp.stack(separate(v[1, 2], kernel_size=5)), both[:, 1, 2], rtol=1e-6)


def test_gradients_are_finite_in_silence():
    v = jnp.zeros((6, 7)).at[2].set(1.0)
    for separate in (masking.hpss, masking.hpss_kernel_additive):
        gradient = jax.grad(lambda v, f=separate: (v * f(v, kernel_size=3)[0]).sum())(v)
        assert jnp.isfinite(gradient).all()


@settings(deadline=None, max_examples=8, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 12), st.sampled_from(["symmetric", "constant"]))
def test_median_filter_is_the_median_of_each_window(size, length, mode):
    x = np.random.default_rng(length).random((2, length))
    padded = np.pad(x, ((0, 0), (size // 2, size - 1 - size // 2)), mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
    expected = np.sort(windows, axis=-1)[..., size // 2]
    np.testing.assert_array_equal(median_filter(jnp.asarray(x), size, mode=mode), expected.astype(np.float32))
    np.testing.assert_array_equal(
        median_filter(jnp.asarray(x.T), size, axis=0, mode=mode), expected.T.astype(np.float32)
    )


def test_griffin_lim_finds_a_signal_with_the_given_magnitudes(x64, rng):
    x = rng.standard_normal((2, 1000))
    sizes = {"n_fft": 64, "hop_length": 16}
    magnitude = np.abs(stft(x, **sizes))

    def error(n_iters):
        y = griffin_lim(magnitude, **sizes, length=1000, n_iters=n_iters)
        return float(((np.abs(stft(y, **sizes)) - magnitude) ** 2).sum())

    errors = [error(n) for n in (0, 1, 2, 10)]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    # The true phase is a fixed point.
    y = griffin_lim(stft(x, **sizes), **sizes, length=1000, n_iters=3)
    np.testing.assert_allclose(y, x, atol=1e-10)


def test_griffin_lim_of_silence_is_silence():
    y = griffin_lim(jnp.zeros((33, 11)), n_fft=64, hop_length=16, length=160, n_iters=2)
    assert not y.any()


def test_inputs_are_untouched(rng):
    x = rng.random((4, 2, 5, 6))
    before = x.copy()
    masking.alpha_wiener(x)
    masking.binary(x)
    masking.hpss(x, kernel_size=3)
    masking.softmask(x, x)
    np.testing.assert_array_equal(x, before)


def test_bad_arguments_are_refused():
    v = jnp.ones((3, 4))
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4\) and \(2, 4\)"):
        masking.softmask(v, v[1:])
    with pytest.raises(ValueError, match="above 0, got 0"):
        masking.softmask(v, v, power=0)
    with pytest.raises(ValueError, match=r"axis -4 .* got shape \(3, 4\)"):
        masking.alpha_wiener(v)
    with pytest.raises(ValueError, match="axis 2"):
        masking.binary(v, axis=2)
    with pytest.raises(ValueError, match=r"1 or more, got \(0.5, 0.5\)"):
        masking.hpss(v, margin=0.5)
    with pytest.raises(TypeError, match="real magnitude spectrogram, got complex64"):
        masking.hpss(v + 1j)
    with pytest.raises(ValueError, match=r"margin must be 1 or more, got 0\.5"):
        masking.softmask(v, v, margin=0.5)
    with pytest.raises(ValueError, match=r"got \(4,\)"):
        masking.hpss_kernel_additive(v[0])
    with pytest.raises(ValueError, match="got 0 and 17"):
        masking.hpss_kernel_additive(v, n_iters=0)
    with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
        median_filter(v, 0)
    with pytest.raises(ValueError, match="odd number of arrays, got 2"):
        median([v, v])
    with pytest.raises(ValueError, match="mode must be"):
        median_filter(v, 3, mode="wrap")
    with pytest.raises(ValueError, match="11 frames"):
        griffin_lim(jnp.ones((33, 4)), n_fft=64, hop_length=16, length=160)
    with pytest.raises(ValueError, match="n_iters must be 0 or more, got -1"):
        griffin_lim(jnp.ones((33, 11)), n_fft=64, hop_length=16, length=160, n_iters=-1)
