"""What the oracles know, and what they keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import metrics, oracle
from jaxsep.stft import istft, stft

SIZES = {"n_fft": 64, "hop_length": 32}


@pytest.fixture(scope="module")
def scene():
    """Two sources from two directions, each with its own colour and rhythm."""
    rng = np.random.default_rng(0)
    low, high = rng.standard_normal((2, 9000))
    low = np.convolve(low, np.ones(8) / 8, "same") * (np.arange(9000) % 3000 < 1500)
    high = np.diff(high, append=0.0) * (np.arange(9000) % 2000 < 1200)
    references = np.stack([np.outer([1.0, 0.3], low), np.outer([0.4, 1.0], high)]).astype(np.float32)
    return 0.2 * references, 0.2 * references.sum(axis=0)


@pytest.mark.parametrize("kind", ["ibm", "irm", "mwf"])
def test_oracles_are_upper_bounds_and_equal_shares_a_lower_one(scene, kind):
    references, mixture = scene
    bound = oracle.estimate(references, mixture, oracle=kind, **SIZES)
    shares = oracle.estimate(references, mixture, oracle="mixture")
    assert (metrics.sdr(references, bound) > metrics.sdr(references, shares) + 3).all()


def test_knowing_directions_helps(scene):
    references, mixture = scene
    ratio, wiener = (oracle.estimate(references, mixture, oracle=kind, **SIZES) for kind in ("irm", "mwf"))
    assert (metrics.sdr(references, wiener) > metrics.sdr(references, ratio)).all()


@pytest.mark.parametrize("kind", oracle.ORACLES)
def test_estimates_sum_to_the_mixture(scene, kind):
    references, mixture = scene
    estimates = oracle.estimate(references, mixture, oracle=kind, **SIZES)
    # The Wiener filter leaves its own noise floor out; where nothing sounds, nothing is shared.
    assert estimates.dtype == np.float32
    np.testing.assert_allclose(estimates.sum(axis=0), mixture, atol=2e-4)


@pytest.mark.parametrize("kind", ["ibm", "irm"])
def test_blocks_are_the_whole_song(scene, kind, monkeypatch):
    references, mixture = scene
    monkeypatch.setattr(oracle, "_BLOCK_HOPS", 50)  # six blocks
    estimates = oracle.estimate(references, mixture, oracle=kind, **SIZES)
    pad = [(0, 0), (0, 0), (64, 64)]  # the whole song between silence, as in blocks
    sources = np.abs(np.asarray(stft(np.pad(references, pad), **SIZES)))
    x = np.asarray(stft(np.pad(mixture, pad[1:]), **SIZES))
    loudest = np.argmax(sources, axis=0)[None] == np.arange(2)[:, None, None, None]
    mask = loudest if kind == "ibm" else sources / np.maximum(sources.sum(axis=0), 1e-30)
    expected = istft(np.asarray(mask * x, np.complex64), length=9128, **SIZES)[..., 64:-64]
    if kind == "irm":
        np.testing.assert_allclose(estimates, expected, atol=1e-5)
    else:  # two sources equally loud to the last bit may be decided otherwise: rarely
        assert (np.abs(estimates - expected) < 1e-5).mean() > 0.99


@pytest.mark.parametrize("kind", oracle.ORACLES)
def test_silence_stays_silent(kind):
    silence = np.zeros((2, 2, 9000), np.float32)
    assert not oracle.estimate(silence, silence[0], oracle=kind, **SIZES).any()


@settings(deadline=None, max_examples=5, derandomize=True)
@given(n=st.integers(1, 8000))
def test_any_length(n):
    rng = np.random.default_rng(n)
    references = rng.standard_normal((2, 2, n)).astype(np.float32)
    reported = []
    estimates = oracle.estimate(references, references.sum(axis=0), progress=reported.append, **SIZES)
    assert estimates.shape == references.shape and np.isfinite(estimates).all()
    assert reported[-1] == 1.0


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 1, 9), (1, 8)), {}, "expected references"),
        (((1, 9), (1, 9)), {}, "expected references"),
        (((2, 1, 9), (1, 9)), {"oracle": "psychic"}, "expected one of ibm"),
        (((2, 1, 9), (1, 9)), {"n_fft": 64, "hop_length": 48}, "n_fft"),
    ],
)
def test_bad_input(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        oracle.estimate(np.zeros(shapes[0]), np.zeros(shapes[1]), **options)
