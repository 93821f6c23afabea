"""Factorisation by batches: equal to scikit-learn's, the same from a stream, safe at the edges."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import nmf, nmf_online
from jaxsep.nmf import NMFState

ONLINE = np.load(Path(__file__).parent / "reference" / "data" / "nmf_online.npz")


def start(dtype=None):
    v, w, h = (jnp.asarray(ONLINE[name], dtype) for name in ("v", "w", "h"))
    return v, NMFState(w, h)


def distance(got, expected):
    """Relative, norm-wise."""
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.0, 3.0))
def test_equals_sklearn(x64, beta):
    # The spectrogram's mean is between 1/2 and 1: its unit is 1, and the memory starts with the same weight.
    v, state = start()
    end, info = nmf_online.fit(v, state, beta=beta, batch_frames=11, n_passes=4)
    assert distance(end.w, ONLINE[f"w_{beta}"]) < 1e-8
    assert distance(end.h, ONLINE[f"h_{beta}"]) < 1e-8
    final = nmf.divergence(v, nmf.reconstruct(end), beta=beta)
    np.testing.assert_allclose(info.divergence[-1], final, rtol=1e-10)
    assert info.divergence.shape == (4,)


def test_a_stream_gives_what_fit_gives(x64):
    v, state = start()
    expected, _ = nmf_online.fit(v, state, batch_frames=11, n_passes=2)
    online = nmf_online.init(v, state.w)
    pieces = [slice(i, i + 11) for i in range(0, v.shape[1], 11)]
    h = [state.h[:, piece] for piece in pieces]
    for _ in range(2):
        for i, piece in enumerate(pieces):
            h[i], online = nmf_online.step(v[:, piece], h[i], online, memory=0.7 ** (11 / v.shape[1]))
    np.testing.assert_allclose(online.w, expected.w, rtol=1e-10)
    np.testing.assert_allclose(jnp.concatenate(h, axis=1), expected.h, rtol=1e-10)


def test_new_batches_may_take_several_steps_of_their_activations(x64):
    v, state = start()
    online = nmf_online.init(v, state.w)
    h, after = nmf_online.step(v, state.h, online, n_h_steps=3)
    alone, _ = nmf.fit(v, state, n_steps=3, update_w=False)
    np.testing.assert_allclose(h, alone.h, rtol=1e-10)
    assert (after.w != online.w).all()


@pytest.mark.parametrize("beta", (0.0, 1.0, 2.0))
def test_it_fits_the_spectrogram(beta):
    v, state = start(jnp.float32)
    first = nmf.divergence(v, nmf.reconstruct(state), beta=beta)
    end, info = nmf_online.fit(v, state, beta=beta, batch_frames=9, n_passes=60, divergence_every=60)
    assert info.divergence[-1] < 0.2 * first
    assert all((x >= 0).all() for x in end)


@pytest.mark.parametrize("beta", (0.0, 1.0, 2.0))
def test_loudness_does_not_matter(beta):
    v, state = start(jnp.float32)
    quiet, _ = nmf_online.fit(v, state, beta=beta, batch_frames=8, n_passes=3)
    gain = 2.0**-14  # a power of two: rounding is the same at both levels
    loud, _ = nmf_online.fit(
        gain * v, state._replace(h=gain * state.h), beta=beta, batch_frames=8, n_passes=3
    )
    np.testing.assert_allclose(loud.w, quiet.w, rtol=1e-5)
    np.testing.assert_allclose(loud.h / gain, quiet.h, rtol=1e-5)


def test_batched_equals_looped_equals_vmap(x64):
    v, state = start()
    songs = jnp.stack([v, v[::-1]])
    options = {"batch_frames": 7, "n_passes": 3}
    batched, info = nmf_online.fit(songs, state, **options)
    mapped, _ = jax.vmap(lambda v: nmf_online.fit(v, state, **options))(songs)
    looped, looped_info = nmf_online.fit(songs[1], state, **options)
    np.testing.assert_allclose(batched.w[1], looped.w, rtol=1e-10)
    np.testing.assert_allclose(mapped.h[1], looped.h, rtol=1e-10)
    np.testing.assert_allclose(info.divergence[1], looped_info.divergence, rtol=1e-10)


def test_tolerance_stops_early():
    v, state = start(jnp.float32)
    _, info = nmf_online.fit(v, state, batch_frames=10, n_passes=200, tol=1e-3)
    assert 1 < info.n_steps < 200


@pytest.mark.parametrize("beta", (0.0, 1.0))
def test_degenerate_input_stays_finite(beta):
    for v in (jnp.zeros((4, 5)), jnp.ones((4, 7)).at[1].set(0).at[:, 2:4].set(0), jnp.full((1, 1), 3.0)):
        state = nmf.init(v, 2, key=jax.random.key(0))
        state, info = nmf_online.fit(v, state, beta=beta, batch_frames=2, n_passes=5)
        assert all(jnp.isfinite(x).all() and (x >= 0).all() for x in (*state, info.divergence))


def test_bad_arguments_are_refused():
    v, state = start(jnp.float32)
    with pytest.raises(ValueError, match="batch_frames must be 1 or more, got 0"):
        nmf_online.fit(v, state, batch_frames=0)
    with pytest.raises(ValueError, match="memory must be within 0 and 1, got 2"):
        nmf_online.fit(v, state, memory=2.0)
    with pytest.raises(ValueError, match="v must be finite and non-negative"):
        nmf_online.fit(-v, state)
    with pytest.raises(ValueError, match=r"v and w must be .* got"):
        nmf_online.init(v, state.w[1:])
    online = nmf_online.init(v, state.w)
    with pytest.raises(ValueError, match=r"v and h must be .* got"):
        nmf_online.step(v, state.h[:, 1:], online)
    with pytest.raises(TypeError, match="real magnitude spectrogram"):
        nmf_online.step(v + 1j, state.h, online)
