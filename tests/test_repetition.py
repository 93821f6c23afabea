"""What repeats is kept, what is heard once is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep.repetition import repeating


def by_hand(v, n_similar, apart):
    """One frame after the other."""
    direction = v / np.linalg.norm(v, axis=0)
    out = np.empty_like(v)
    for i in range(v.shape[1]):
        others = [j for j in range(v.shape[1]) if abs(i - j) >= apart]
        others.sort(key=lambda j: -direction[:, i] @ direction[:, j])
        out[:, i] = np.minimum(v[:, i], np.median(v[:, others[:n_similar]], axis=1))
    return out


def test_it_is_the_median_of_similar_frames(x64, rng):
    v = rng.random((5, 30))
    np.testing.assert_allclose(repeating(v, n_similar=3, apart=4), by_hand(v, 3, 4), rtol=1e-12)


def test_a_voice_is_told_from_an_accompaniment(rng):
    figure = rng.random((20, 12)).astype(np.float32)
    accompaniment = np.tile(figure, (1, 10))
    voice = np.zeros_like(accompaniment)
    for frame in range(voice.shape[1]):
        voice[(7 * frame) % 20, frame] = 0.5
    mixture = accompaniment + voice
    found = repeating(mixture, n_similar=5, apart=6)
    assert (found <= mixture).all()
    before, after = (np.linalg.norm(x - accompaniment) for x in (mixture, found))
    assert after < 0.3 * before


def test_batched_equals_looped_and_silence_is_silent(rng):
    v = rng.random((2, 4, 25)).astype(np.float32)
    both = repeating(v, n_similar=3, apart=2)
    np.testing.assert_allclose(both[1], repeating(v[1], n_similar=3, apart=2), rtol=1e-6)
    mapped = jax.vmap(lambda v: repeating(v, n_similar=3, apart=2))(v)
    np.testing.assert_allclose(mapped, both, rtol=1e-6)
    assert not repeating(jnp.zeros((4, 25)), n_similar=3, apart=2).any()


def test_bad_arguments_are_refused():
    v = jnp.ones((4, 25))
    with pytest.raises(ValueError, match=r"must be odd .* got 4 and 2"):
        repeating(v, n_similar=4, apart=2)
    with pytest.raises(ValueError, match="96 frames or more, for 11 that are 43 away from each, got 25"):
        repeating(v)
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        repeating(v[:, 0])
