"""The NMF family against the installed originals, on other problems than the stored ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import masking, nmf, nmf_online

pytestmark = pytest.mark.reference


def problem(rng):
    v = rng.random((50, 3)) ** 3 @ rng.random((3, 70)) ** 3 + 1e-2
    return v, nmf.NMFState(rng.random((50, 6)) + 0.1, rng.random((6, 70)) + 0.1)


def distance(got, expected):
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.0, 0.5, 1.5, 3.0))
def test_sklearn(x64, rng, beta):
    solver = pytest.importorskip("sklearn.decomposition._nmf")
    v, state = problem(rng)
    w, h, _ = solver._fit_multiplicative_update(v, state.w.copy(), state.h.copy(), beta, 50, 0)
    end, info = nmf.fit(v, state, beta=beta, n_steps=50)
    assert distance(end.w, w) < 1e-8
    assert distance(end.h, h) < 1e-8
    np.testing.assert_allclose(info.divergence[-1], solver._beta_divergence(v, w, h, beta), rtol=1e-8)


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.0, 0.5, 3.0))
def test_torchnmf(x64, rng, beta):
    torch, torchnmf = pytest.importorskip("torch"), pytest.importorskip("torchnmf")
    v, state = problem(rng)
    net = torchnmf.nmf.NMF(W=torch.tensor(state.w), H=torch.tensor(state.h.T.copy()))
    net.double().fit(torch.tensor(v.T.copy()), beta=beta, tol=-np.inf, max_iter=30)
    end, _ = nmf.fit(v, state, beta=beta, n_steps=30)
    # torchnmf adds the float32 rounding unit, 1.2e-7, to models, numerators and denominators.
    assert distance(end.w @ end.h, net.W.detach().numpy() @ net.H.detach().numpy().T) < 1e-4


@pytest.mark.parametrize("options", ({}, {"kernel_size": (5, 9), "power": 1.0}, {"margin": 2.0}))
def test_librosa_hpss(x64, rng, options):
    librosa = pytest.importorskip("librosa")
    s = rng.random((60, 80)) ** 4
    for got, expected in zip(
        masking.hpss(jnp.asarray(s), **options), librosa.decompose.hpss(s, mask=True, **options), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.0))
def test_minibatch(x64, rng, beta):
    decomposition = pytest.importorskip("sklearn.decomposition")
    v, state = problem(rng)
    v = 0.75 * v / v.mean()  # its unit is then 1, and what is remembered at the start weighs the same
    net = decomposition.MiniBatchNMF(
        6, init="custom", batch_size=32, beta_loss=beta, tol=0, max_no_improvement=None, max_iter=5
    )
    h = net.fit_transform(v.T.copy(), W=state.h.T.copy(), H=state.w.T.copy()).T
    end, _ = nmf_online.fit(v, state, beta=beta, batch_frames=32, n_passes=5)
    assert distance(end.w, net.components_.T) < 1e-8
    assert distance(end.h, h) < 1e-8
