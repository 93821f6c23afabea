"""The Wiener filter: norbert's numbers, the properties of the model, and every door."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxsep import filtering

NORBERT = np.load(Path(__file__).parent / "reference" / "data" / "filtering.npz")
# One compilation each, not one for every plane of the algebra.
local_gaussian_model = jax.jit(filtering.local_gaussian_model)
mix_covariance = jax.jit(filtering.mix_covariance)
wiener_gain = jax.jit(filtering.wiener_gain, static_argnames="eps")
softmask_estimate = jax.jit(filtering.softmask_estimate)
EPS = {"small": float(np.finfo(np.float64).eps), "large": 1e-10}


def example(rng, *batch, sources=3, channels=2, freqs=4, frames=6, dtype=np.float32):
    """Magnitudes and a mixture whose bins are all well above the regularisation."""
    shape = (*batch, channels, freqs, frames)
    x = rng.uniform(1.0, 8.0, shape) * np.exp(2j * np.pi * rng.uniform(size=shape))
    v = rng.uniform(0.5, 3.0, (*batch, sources, channels, freqs, frames))
    return v.astype(dtype), x.astype(np.result_type(dtype, np.complex64))


# ---- numbers ----


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("softmask", [False, True])
@pytest.mark.parametrize("n_iters", [0, 1, 2, 3])
def test_wiener_equals_norbert(x64, n_channels, softmask, n_iters):
    for name, eps in EPS.items() if n_iters in (1, 2) else [("large", 1e-10)]:
        y = filtering.wiener(
            NORBERT[f"v{n_channels}"], NORBERT[f"x{n_channels}"], n_iters=n_iters, softmask=softmask, eps=eps
        )
        expected = NORBERT[f"y{n_channels}_{softmask:d}_{n_iters}_{name}"]
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_expectation_maximization_equals_norbert(x64, n_channels):
    x = NORBERT[f"x{n_channels}"]
    start = softmask_estimate(NORBERT[f"v{n_channels}"], x, eps=1e-10)
    results = filtering.expectation_maximization(start, x, n_iters=2, eps=1e-10)
    for name, result in zip(("y", "psd", "cov"), results, strict=True):
        expected = NORBERT[f"em_{name}{n_channels}"]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_single_precision(n_channels):
    v = NORBERT[f"v{n_channels}"].astype(np.float32)
    x = NORBERT[f"x{n_channels}"].astype(np.complex64)
    y = filtering.wiener(v, x, n_iters=1, eps=1e-10)
    expected = NORBERT[f"y{n_channels}_0_1_large"]
    # Rounding, 6e-8, times the condition number of a bin's covariance: up to some 1e3 in 6 to 8 frames.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert y.dtype == jnp.complex64


def test_dtype_follows_the_input(x64, rng):
    v, x = example(rng)
    assert filtering.wiener(v, x, residual=True).dtype == jnp.complex64
    y, psd, cov = filtering.expectation_maximization(softmask_estimate(v, x), x)
    assert (y.dtype, psd.dtype, cov.dtype) == (jnp.complex64, jnp.float32, jnp.complex64)


# ---- the model ----


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
def test_em_is_made_of_its_pieces(x64, rng, n_channels):
    v, x = example(rng, 2, channels=n_channels, frames=9, dtype=np.float64)
    start = softmask_estimate(v, x)
    y, psd, cov = filtering.expectation_maximization(start, x, n_iters=1)
    np.testing.assert_allclose(filtering.apply_filter(x, wiener_gain(psd, cov)), y, atol=1e-12)
    by_einsum = np.einsum("bjct,bjdt->bjcd", start[:, :, :, 0], np.conj(start[:, :, :, 0]))
    weight = np.sum(psd[:, :, 0], axis=-1)[..., None, None]
    np.testing.assert_allclose(cov[:, :, 0], by_einsum / weight, atol=1e-9)  # eps / weight is about 1e-12
    np.testing.assert_allclose(cov, np.conj(np.swapaxes(cov, -1, -2)), atol=1e-15)
    np.testing.assert_allclose(mix_covariance(psd, cov), np.einsum("bjft,bjfcd->bftcd", psd, cov), rtol=1e-12)


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
def test_gain_solves_the_normal_equation(x64, rng, n_channels):
    v, x = example(rng, channels=n_channels, frames=9, dtype=np.float64)
    psd, cov = local_gaussian_model(softmask_estimate(v, x))
    gain = wiener_gain(psd, cov, eps=1e-4)
    noise = 1e-2 + (1e-4 if n_channels == 1 else 0.0)
    mixture = np.asarray(mix_covariance(psd, cov)) + noise * np.eye(n_channels)
    expected = np.asarray(psd)[..., None, None] * np.asarray(cov)[:, :, None]
    np.testing.assert_allclose(np.asarray(gain) @ mixture, expected, atol=1e-12)


def test_sources_sum_to_the_mixture_within_the_regularization(x64, rng):
    eps = 1e-4
    v, x = example(rng, frames=5, dtype=np.float64)
    y, psd, cov = filtering.expectation_maximization(softmask_estimate(v, x), x, n_iters=2, eps=eps)
    missing = np.linalg.norm(x - np.sum(y, axis=0), axis=0)
    smallest = np.linalg.eigvalsh(mix_covariance(psd, cov))[..., 0]
    bound = np.sqrt(eps) / (np.sqrt(eps) + smallest) * np.linalg.norm(x, axis=0)
    assert np.all(missing <= bound * (1 + 1e-9))
    assert missing.max() > 1e-6  # the bound is about something


@pytest.mark.parametrize("n_channels", [2, 3, 6])
@pytest.mark.parametrize("difference", [0.0, 1e-6, 1e-3])
def test_near_mono_sums_to_the_mixture_in_single_precision(rng, n_channels, difference):
    v, x = example(rng, channels=1, frames=50)
    x = x * (1 + difference * rng.uniform(-1, 1, (n_channels, *x.shape[1:]))).astype(np.float32)
    for n_iters in (1, 2, 4):
        y = np.asarray(filtering.wiener(v, x, n_iters=n_iters))
        # What lies across the common direction is lost to the regularisation, the rest is kept.
        assert np.abs(np.sum(y, axis=0) - x).max() < (2 * difference + 1e-4) * np.abs(x).max()


def test_a_source_that_is_louder_gets_more(rng):
    v, x = example(rng, sources=2)
    v[1] = 3 * v[0]
    y = np.asarray(filtering.wiener(v, x, n_iters=0, softmask=True))
    np.testing.assert_allclose(y[1], 3 * y[0], rtol=1e-5)


# ---- silence and padding ----


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(("softmask", "residual"), [(False, False), (False, True), (True, True)])
def test_silent_bins_stay_silent(rng, n_channels, softmask, residual):
    v, x = example(rng, channels=n_channels)
    x[:, 1] = 0
    x[:, :, 2] = 0
    for n_iters in (0, 1):
        y = np.asarray(filtering.wiener(v, x, n_iters=n_iters, softmask=softmask, residual=residual))
        assert np.all(np.isfinite(y))
        assert not np.any(y[:, :, 1]) and not np.any(y[..., 2])
        assert np.any(y[:, :, 0, 0])
    assert not np.any(filtering.wiener(v, 0 * x, softmask=softmask, residual=residual))
    assert not np.any(filtering.wiener(0 * v, x, softmask=softmask))


@pytest.mark.parametrize("softmask", [False, True])
def test_frames_of_zero_mixture_change_nothing(x64, rng, softmask):
    v, x = example(rng, dtype=np.float64)
    x *= 5  # loud enough to be scaled down
    options = {"n_iters": 2, "softmask": softmask, "residual": True}
    alone = filtering.wiener(v, x, **options)
    padded_x = np.pad(x, [(0, 0)] * 2 + [(0, 7)])
    padded_v = np.pad(v, [(0, 0)] * 3 + [(0, 7)], constant_values=9.0)
    padded = filtering.wiener(padded_v, padded_x, **options)
    np.testing.assert_allclose(padded[..., :6], alone, rtol=0, atol=1e-13 * np.abs(x).max())
    assert not np.any(padded[..., 6:])


# ---- arrays: batches, blocks, compilations, inputs ----


@settings(deadline=None, max_examples=6, derandomize=True)
@given(
    sources=st.integers(1, 3),
    channels=st.integers(1, 3),
    freqs=st.sampled_from([1, 5]),
    frames=st.sampled_from([1, 7]),
    n_iters=st.integers(0, 2),
    residual=st.booleans(),
)
def test_batched_is_looped_is_vmapped(sources, channels, freqs, frames, n_iters, residual):
    # A single frame makes the covariances singular: in single precision what lies outside of them is noise.
    dtype, tolerance = (np.float64, 1e-9) if frames == 1 else (np.float32, 1e-4)
    rng = np.random.default_rng(0)
    v, x = example(rng, 2, sources=sources, channels=channels, freqs=freqs, frames=frames, dtype=dtype)
    x[1] *= 20  # its own scale

    def separate(v, x):
        return filtering.wiener(v, x, n_iters=n_iters, residual=residual)

    with jax.enable_x64(dtype == np.float64):
        batched = separate(v, x)
        looped = jnp.stack([separate(*each) for each in zip(v, x, strict=True)])
        vmapped = jax.vmap(separate)(v, x)
    assert batched.shape == (2, sources + residual, channels, freqs, frames) and batched.dtype == x.dtype
    limit = tolerance * np.abs(x).max(axis=(1, 2, 3)).reshape(2, 1, 1, 1, 1)
    assert np.all(np.abs(np.asarray(batched) - np.asarray(looped)) <= limit)
    assert np.all(np.abs(np.asarray(batched) - np.asarray(vmapped)) <= limit)


@pytest.mark.parametrize("block_freqs", [1, 3])
def test_blocks_of_frequencies_do_not_show(x64, rng, monkeypatch, block_freqs):
    v, x = example(rng, 2, freqs=7, dtype=np.float64)
    x *= 5
    options = {"n_iters": 1, "residual": True}
    at_once = filtering.wiener(v, x, **options)
    gradient = jax.grad(lambda v: jnp.sum(jnp.abs(filtering.wiener(v, x, **options)) ** 2))
    gradient_at_once = gradient(v)
    monkeypatch.setattr(filtering, "_BLOCK_ELEMENTS", block_freqs * 2 * 3 * 2 * 6)
    filtering._wiener.clear_cache()
    lowered = jax.jit(lambda v, x: filtering.wiener(v, x, **options)).lower(v, x)
    assert "while" in lowered.as_text()
    np.testing.assert_allclose(filtering.wiener(v, x, **options), at_once, rtol=1e-12)
    np.testing.assert_allclose(gradient(v), gradient_at_once, rtol=1e-9)
    monkeypatch.undo()
    filtering._wiener.clear_cache()


def test_one_channel_of_magnitudes_serves_all(rng):
    v, x = example(rng)
    one = filtering.wiener(v[:, :1], x)
    np.testing.assert_array_equal(one, filtering.wiener(np.repeat(v[:, :1], 2, axis=1), x))


def test_residual_is_what_is_left(rng):
    v, x = example(rng)
    y = filtering.wiener(v, x, n_iters=0, residual=True)
    np.testing.assert_allclose(np.sum(y, axis=0), x, atol=1e-5)
    np.testing.assert_array_equal(y[:-1], filtering.wiener(v, x, n_iters=0))


def test_second_call_compiles_nothing_and_inputs_are_untouched(rng):
    v, x = example(rng)
    x *= 5
    kept_v, kept_x = v.copy(), x.copy()
    filtering.wiener(v, x)
    with jax.no_tracing():
        filtering.wiener(jnp.asarray(v), jnp.asarray(x))
    np.testing.assert_array_equal(v, kept_v)
    np.testing.assert_array_equal(x, kept_x)


# ---- gradients ----


@pytest.mark.parametrize(("n_iters", "softmask"), [(1, False), (2, False), (1, True)])
def test_gradient_is_the_finite_difference(x64, rng, n_iters, softmask):
    v, x = example(rng, sources=2, freqs=2, frames=4, dtype=np.float64)
    x *= 3  # loud enough for the common scale to take part

    def separate(v, real, imag):
        y = filtering.wiener(v, real + 1j * imag, n_iters=n_iters, softmask=softmask, residual=True)
        return y.real, y.imag

    check_grads(separate, (v, x.real, x.imag), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("softmask", [False, True])
def test_gradient_is_finite_at_silence(rng, softmask):
    v, x = example(rng)
    x[:, 0], x[0, 1], v[:, :, 2] = 0, 0, 0

    def energy(v, x):
        y = filtering.wiener(v, x, n_iters=2, softmask=softmask)
        return jnp.sum(y.real**2 + y.imag**2)

    for gradient in jax.grad(energy, argnums=(0, 1))(v, x):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient)


# ---- heuristics around the filter ----


def test_residual_model(x64):
    v, x = NORBERT["v2"], NORBERT["x2"]
    np.testing.assert_allclose(
        filtering.residual_model(v, x, autoscale=True)[:-1], NORBERT["autoscaled"], rtol=1e-12
    )
    scaled = filtering.residual_model(v, x, autoscale=True)
    total = np.sum(scaled[:-1], axis=0)
    np.testing.assert_allclose(scaled[-1], np.maximum(0, np.abs(x) - total), rtol=1e-12)
    plain = filtering.residual_model(v[:, :1], x, alpha=2.0)
    np.testing.assert_array_equal(plain[:-1], np.repeat(v[:, :1], 2, axis=1))
    np.testing.assert_allclose(plain[-1], np.maximum(0, np.abs(x) ** 2 - v[:, :1].sum(axis=0)), rtol=1e-12)
    assert not np.any(filtering.residual_model(v, 0 * x)[-1])


def test_smooth(x64):
    v = NORBERT["v2"]
    np.testing.assert_allclose(filtering.smooth(v, width=1.5, axes=(-1,)), NORBERT["smooth_time"], rtol=1e-12)
    np.testing.assert_allclose(filtering.smooth(v, width=1.5), NORBERT["smooth_plane"], rtol=1e-12)
    # norbert blurs over channels and sources too, and cuts the Gaussian at `width` deviations.
    everywhere = filtering.smooth(v, width=2.0, truncate=2.0, axes=(0, 1, 2, 3))
    np.testing.assert_allclose(everywhere, NORBERT["smooth_all"], rtol=1e-12)
    np.testing.assert_allclose(filtering.smooth(np.full((1, 3), 7.0)), 7.0, rtol=1e-12)


def test_reduce_interferences(x64):
    v = NORBERT["v2"]
    as_norbert = filtering.smooth(v, width=10.0, truncate=10.0, axes=(0, 1, 2, 3))
    reduced = filtering.reduce_interferences(v, smoothed=as_norbert)
    np.testing.assert_allclose(reduced, NORBERT["reduced"], rtol=1e-10)
    # Blurred over the sources, they all get the same share. Not so by default:
    uneven = v * np.array([10.0, 1.0, 0.1]).reshape(3, 1, 1, 1)
    kept = np.asarray(filtering.reduce_interferences(uneven) / uneven)
    assert kept[0].min() > 0.95 and kept[1:].max() < 0.05
    assert np.all(filtering.reduce_interferences(v, threshold=1.0) < filtering.reduce_interferences(v))


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_compress_filter(rng, n_channels):
    identity = np.eye(n_channels, dtype=np.complex64)
    np.testing.assert_allclose(filtering.compress_filter(identity), identity, atol=3e-3)  # 1 - sigmoid(6)
    np.testing.assert_allclose(filtering.compress_filter(0.6 * identity), 0.5 * identity, atol=1e-5)
    assert not np.any(filtering.compress_filter(0 * identity))
    v, x = example(rng, channels=n_channels)
    gain = wiener_gain(*local_gaussian_model(softmask_estimate(v, x)))
    compressed = np.asarray(filtering.compress_filter(gain))
    mean = np.trace(compressed, axis1=-2, axis2=-1).real / n_channels
    assert np.all((mean > 0) & (mean < 1))
    ratio = compressed[..., 0, 0] / np.asarray(gain)[..., 0, 0]
    np.testing.assert_allclose(compressed, ratio[..., None, None] * np.asarray(gain), atol=1e-5)


# ---- bad input ----

V, X = np.ones((2, 2, 3, 4), np.float32), np.ones((2, 3, 4), np.complex64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: filtering.wiener(V, X.real), TypeError, "complex mixture, got float32"),
        (lambda: filtering.wiener(V + 0j, X), TypeError, "real magnitudes in v_sources, got complex"),
        (lambda: filtering.wiener(V, X[0]), ValueError, r"\(\.\.\., channel, freq, frame\), got \(3, 4\)"),
        (
            lambda: filtering.wiener(V[..., :3], X),
            ValueError,
            r"\(source, 1 or 2, 3, 4\).*got \(2, 2, 3, 3\)",
        ),
        (lambda: filtering.wiener(V[0], X), ValueError, r"expected v_sources of shape .*got \(2, 3, 4\)"),
        (lambda: filtering.wiener(V[:0], X), ValueError, r"got \(0, 2, 3, 4\)"),
        (lambda: filtering.wiener(V[None], X[None, None]), ValueError, r"\(1, 1, source, 1 or 2, 3, 4\)"),
        (lambda: filtering.wiener(V, X, n_iters=-1), ValueError, "n_iters >= 0, got -1"),
        (lambda: filtering.wiener(V, X, n_iters=1.5), TypeError, "integer n_iters, got 1.5"),
        (lambda: filtering.wiener(V, X, eps=0.0), ValueError, "eps > 0, got 0.0"),
        (lambda: filtering.wiener(V, X, scale_factor=-1.0), ValueError, "scale_factor > 0, got -1.0"),
        (lambda: filtering.expectation_maximization(V, X), TypeError, "complex estimates y, got float32"),
        (lambda: filtering.expectation_maximization(V[:, :1] + 0j, X), ValueError, r"\(source, 2, 3, 4\)"),
        (lambda: filtering.expectation_maximization(V + 0j, X, n_iters=0), ValueError, "n_iters >= 1, got 0"),
        (lambda: filtering.residual_model(V, X, alpha=0.0), ValueError, "alpha > 0, got 0.0"),
        (lambda: filtering.residual_model(V[0], X), ValueError, r"got \(2, 3, 4\) beside \(2, 3, 4\)"),
        (lambda: filtering.smooth(V, width=0.0), ValueError, "width > 0 and truncate > 0, got 0.0 and 4.0"),
        (
            lambda: filtering.compress_filter(V),
            ValueError,
            r"\(\.\.\., channel, channel\), got \(2, 2, 3, 4\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
