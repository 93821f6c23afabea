"""jaxsep.filtering beside openunmix and norbert as they are installed."""

import sys
import types

import numpy as np
import pytest

from jaxsep import filtering

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # norbert's SciPy import
]


@pytest.fixture(scope="module")
def openunmix_wiener():
    torch = pytest.importorskip("torch")
    try:
        import torchaudio  # noqa: F401
    except ImportError:
        # Only openunmix's file reading needs it.
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    wiener = pytest.importorskip("openunmix.filtering").wiener

    def run(v, x, **options):
        v = torch.from_numpy(np.ascontiguousarray(np.moveaxis(v, (3, 2, 1, 0), (0, 1, 2, 3))))
        x = torch.view_as_real(torch.from_numpy(x.T.copy()))
        y = torch.view_as_complex(wiener(v, x, **options).movedim(-2, -1).contiguous()).numpy()
        return np.moveaxis(y, (0, 1, 2, 3), (3, 2, 1, 0))

    return run


def example(rng, channels, dtype, loudness):
    """Sources with directions of their own, as in music, and their mixture."""
    sources = rng.standard_normal((3, channels, 40, 250)) + 1j * rng.standard_normal((3, channels, 40, 250))
    pan = rng.uniform(0.2, 1.0, (3, channels, 40, 1))
    common = rng.standard_normal((3, 1, 40, 250)) + 1j * rng.standard_normal((3, 1, 40, 250))
    sources = loudness * (pan * common + 0.2 * sources)
    v = np.abs(sources) * rng.uniform(0.7, 1.3, sources.shape)
    return v.astype(dtype), sources.sum(axis=0).astype(np.result_type(dtype, np.complex64))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("softmask", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("n_iters", [0, 1, 2])
def test_openunmix_in_single_precision(openunmix_wiener, rng, channels, softmask, residual, n_iters):
    options = {"softmask": softmask, "residual": residual}
    for loudness in (0.1, 10.0):
        v, x = example(rng, channels, np.float32, loudness)
        y = filtering.wiener(v, x, n_iters=n_iters, **options)
        expected = openunmix_wiener(v, x, iterations=n_iters, **options)
        # Both round; openunmix's determinant loses more digits than the Schur complement.
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_openunmix_in_double_precision(x64, openunmix_wiener, rng, channels, residual):
    v, x = example(rng, channels, np.float64, 10.0)
    y = filtering.wiener(v, x, n_iters=2, residual=residual)
    expected = openunmix_wiener(v, x, iterations=2, residual=residual)
    # Its pi and sqrt(eps) are single precision whatever the input, and in mono it lacks norbert's second `eps`.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_norbert(x64, rng, channels):
    norbert = pytest.importorskip("norbert")
    v, x = example(rng, channels, np.float64, 10.0)
    theirs = norbert.wiener(np.moveaxis(v, (3, 2, 1, 0), (0, 1, 2, 3)), x.T.copy(), 2, False, 1e-10)
    expected = np.moveaxis(theirs, (0, 1, 2, 3), (3, 2, 1, 0))
    y = filtering.wiener(v, x, n_iters=2, eps=1e-10)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
