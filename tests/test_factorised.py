"""Components of a factorisation as stems: shares of the song, in a fixed order, whatever the channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import factorised, nmf, nmfd, stft
from jaxsep.config import SeparationConfig
from jaxsep.factorised import Factorisation, component_masks, factorise

SIZES = {"n_fft": 256, "hop_length": 64}
METHODS = [Factorisation(n_components=3, n_steps=4, convolutive=c, n_lags=3, **SIZES) for c in (False, True)]
named = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def separated(method, audio, pieces=1, **options):
    def open_audio():
        return np.array_split(audio, pieces, axis=-1)

    return np.concatenate(list(method.stream(open_audio, n_channels=len(audio), **options)), axis=-1)


@named
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_stems_sum_to_the_song(method, channels, rng):
    audio = rng.standard_normal((channels, 40001)).astype(np.float32)
    stems = separated(method, audio)
    assert stems.shape == (3, channels, 40001) and stems.dtype == np.float32
    # Two float32 transforms of 256 samples and the sum of three masks.
    np.testing.assert_allclose(stems.sum(axis=0), audio, atol=1e-5)
    assert all(np.abs(stem).max() > 0.01 for stem in stems)


def test_consistency_gives_back_what_rounding_takes(rng):
    audio = rng.standard_normal((1, 3000)).astype(np.float32)
    errors = [
        np.abs(separated(METHODS[0], audio, config=SeparationConfig(consistency=c)).sum(axis=0) - audio).sum()
        for c in (False, True)
    ]
    assert errors[1] < errors[0]


@named
def test_the_blocks_leave_no_trace(method, rng):
    """Blockwise masks and overlap-add give what the whole song at once gives."""
    audio = rng.standard_normal((2, 45000)).astype(np.float32)  # three blocks, the last one not full
    stems = separated(method, audio, pieces=7)
    spectrogram = stft.stft(audio, **SIZES)
    v = jnp.sqrt(jnp.mean(jnp.abs(spectrogram) ** 2, axis=0))
    v = jnp.pad(v, [(0, 0), (0, -v.shape[1] % factorised.BLOCK_FRAMES)])
    state = factorise(v, method, key=jax.random.key(method.seed))
    masks = component_masks(state)[:, None, :, : spectrogram.shape[-1]]
    expected = stft.istft(masks * spectrogram[None], length=45000, **SIZES)
    # The same factors but for the order of a few sums, which multiplicative steps carry along.
    np.testing.assert_allclose(stems, expected, atol=1e-3)
    assert np.median(np.abs(stems - expected)) < 1e-6


@named
def test_a_song_is_separated_the_same_way_twice(method, rng):
    audio = rng.standard_normal((2, 5000)).astype(np.float32)
    before = audio.copy()
    np.testing.assert_array_equal(separated(method, audio), separated(method, audio))
    np.testing.assert_array_equal(audio, before)


@named
def test_silence_stays_silent(method):
    assert not separated(method, np.zeros((2, 3000), np.float32)).any()


@named
def test_a_single_sample(method):
    stems = separated(method, np.full((1, 1), 0.5, np.float32))
    np.testing.assert_allclose(stems.sum(axis=0), 0.5, rtol=1e-5)


@named
def test_the_panorama_stays(method, rng):
    """One mask for all channels: a stem keeps the balance that the song has everywhere."""
    mono = rng.standard_normal((1, 6000)).astype(np.float32)
    stems = separated(method, np.concatenate([mono, 0.25 * mono]))
    np.testing.assert_allclose(stems[:, 1], 0.25 * stems[:, 0], atol=1e-6)


def test_components_come_from_low_to_high():
    time = np.arange(20000) / 44100
    tones = [
        np.sin(2 * np.pi * f * time) * (np.arange(20000) // 4000 % 3 == i)
        for i, f in enumerate((8000, 500, 3000))
    ]
    method = Factorisation(n_components=3, n_steps=30, **SIZES)
    stems = separated(method, np.sum(tones, axis=0, dtype=np.float32)[None])
    spectra = np.abs(np.fft.rfft(stems[:, 0]))
    assert np.round(spectra.argmax(axis=1) * 44100 / 20000, -2).tolist() == [500, 3000, 8000]


@pytest.mark.parametrize("state", [
    nmf.NMFState(jnp.ones((4, 2)), jnp.ones((2, 5)).at[:, 2].set(0.0)),
    nmfd.NMFDState(jnp.ones((4, 2, 3)), jnp.zeros((2, 5))),
])  # fmt: skip
def test_masks_sum_to_one_where_the_model_is_silent(state):
    np.testing.assert_allclose(component_masks(state).sum(axis=0), 1.0, rtol=1e-6)


def test_progress_rises_to_one(rng):
    told = []
    separated(METHODS[0], rng.standard_normal((1, 40000)).astype(np.float32), progress=told.append)
    assert told == sorted(told) and told[0] > 0 and told[-1] == 1.0


@pytest.mark.parametrize("field", ["n_components", "n_steps", "n_lags"])
def test_impossible_sizes_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}: expected 1 or more, got 0"):
        Factorisation(**{field: 0})


def test_no_residual_is_left():
    with pytest.raises(ValueError, match="residual"):
        METHODS[0].stem_names(SeparationConfig(residual=True))


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        separated(METHODS[0], np.zeros((2, 0), np.float32))
