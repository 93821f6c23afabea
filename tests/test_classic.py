"""Separation from cues alone: what each cue sees, shares that sum to one, any length without a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import classic
from jaxsep.classic import CONTEXT, STEMS, Classic, Cues
from jaxsep.config import SeparationConfig
from tests.compilations import compilations

SMALL = Classic(n_fft=256, hop_length=64)
N_FRAMES, N_BINS = 60, 129
PLAIN = SeparationConfig(n_iters=0, window=100)


def separated(audio, config=PLAIN, pieces=1, **options):
    def open_audio():
        return np.array_split(audio, pieces, axis=-1)

    stems = SMALL.stream(open_audio, n_channels=len(audio), config=config, **options)
    return np.concatenate(list(stems), axis=-1)


measure = jax.jit(classic.cues)


def cues_of(magnitude, *, left=1.0, right=1.0):
    """The cues of a window that is the same everywhere but for what is in the middle."""
    window = jnp.asarray(magnitude)
    block = window[:, CONTEXT : CONTEXT + N_FRAMES]
    spectrogram = jnp.stack([left * block, right * block]) + 0j
    return measure(window, jnp.ones(window.shape[1], bool), spectrogram)


@pytest.fixture
def quiet(rng):
    return 0.01 + 0.001 * rng.random((N_BINS, 2 * CONTEXT + N_FRAMES)).astype(np.float32)


def test_a_stroke_is_a_burst_and_percussive(quiet):
    quiet[:, CONTEXT + 30] = 1.0
    found = cues_of(quiet)
    assert found.burst[64, 30] > 3 and abs(found.burst[64, 10]) < 0.2
    assert found.percussive[64, 30] > 3 and abs(found.percussive[64, 10]) < 0.2
    assert found.steady[64, 30] < -3


def test_a_partial_is_steady_and_a_peak(quiet):
    quiet[64] = 1.0
    found = cues_of(quiet)
    assert found.steady[64, 30] > 3 and found.peak[64, 30] > 3
    assert abs(found.burst[64, 30]) < 0.2 and abs(found.drift[64, 30]) < 0.2


def test_a_short_note_drifts(quiet):
    quiet[64, CONTEXT + 25 : CONTEXT + 35] = 1.0
    found = cues_of(quiet)
    assert found.drift[64, 30] > 3 and abs(found.drift[20, 30]) < 0.2


def test_what_happens_once_is_new_and_what_repeats_is_not(quiet):
    figure = np.zeros((N_BINS, 50), np.float32)
    figure[10:20, :25], figure[50:60, 25:] = 1.0, 1.0
    repeats = (quiet + np.tile(figure, (1, quiet.shape[1] // 50 + 1))[:, : quiet.shape[1]]).astype(np.float32)
    repeats[100, CONTEXT + 30] = 1.0
    found = cues_of(repeats)
    assert found.novelty[100, 30] > 3
    assert found.novelty[10:60].max() < 0.3


@pytest.mark.parametrize(("left", "right", "low", "high"), [
    (1.0, 1.0, 4.0, 4.0), (1.0, -1.0, -2.0, -2.0), (1.0, 0.0, -0.01, 0.01), (0.7, 1.0, 1.0, 4.0),
])  # fmt: skip
def test_the_centre_is_what_channels_share(quiet, left, right, low, high):
    centre = cues_of(quiet, left=left, right=right).centre
    assert low <= centre.min() and centre.max() <= high


def test_loudness_does_not_matter(quiet):
    for loud, soft in zip(cues_of(64 * quiet), cues_of(quiet), strict=True):
        np.testing.assert_allclose(loud, soft, atol=1e-3)  # a power of two, or ties fall otherwise


def test_masks_sum_to_one(rng):
    drawn = Cues(*(10 * rng.standard_normal((7, 5, 4)).astype(np.float32)))
    shares = classic.masks(drawn, jnp.linspace(-6, 4, 5)[:, None])
    assert shares.shape == (4, 5, 4) and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-6)


def test_each_source_is_found_where_it_is():
    """A kick, a bass note, a held chord and a gliding voice go where they belong."""
    rate, n = 44100, 44100 * 6
    rng, time = np.random.default_rng(0), np.arange(n) / rate
    strokes = np.zeros(n)
    for start in range(5000, n - 8000, 22050):
        strokes[start : start + 4000] = rng.standard_normal(4000) * np.exp(-np.arange(4000) / 800)
    pitch = 500 + 60 * np.sin(2 * np.pi * 0.9 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sources = {
        "vocals": np.stack([sum(np.sin(k * phase) / k for k in range(1, 6))] * 2) * 0.1,
        "drums": np.stack([strokes, strokes]) * 0.3,
        "bass": np.stack([np.sin(2 * np.pi * 65 * time)] * 2) * 0.2,
        "other": np.stack([np.sin(2 * np.pi * 2637 * time), np.sin(2 * np.pi * 2093 * time)]) * 0.1,
    }
    mixture = sum(sources.values()).astype(np.float32)
    stems = np.concatenate(list(Classic().stream(lambda: [mixture], n_channels=2)), axis=-1)
    for name, stem in zip(STEMS, stems, strict=True):
        share = {k: np.vdot(stem, s) / np.vdot(s, s) for k, s in sources.items()}
        assert max(share, key=share.get) == name, (name, share)
        assert share[name] > 0.5, (name, share)


@pytest.mark.parametrize(("channels", "n_samples"), [(1, 12345), (2, 12345), (3, 333), (2, 1)])
def test_stems_sum_to_the_song(channels, n_samples, rng):
    audio = rng.standard_normal((channels, n_samples)).astype(np.float32)
    stems = separated(audio)
    assert stems.shape == (4, channels, n_samples) and stems.dtype == np.float32
    np.testing.assert_allclose(stems.sum(axis=0), audio, atol=1e-5)  # two float32 transforms of 256 samples


def test_pieces_leave_no_trace(rng):
    audio = rng.standard_normal((2, 12345)).astype(np.float32)
    before = audio.copy()
    np.testing.assert_array_equal(separated(audio, pieces=5), separated(audio))
    np.testing.assert_array_equal(audio, before)


def test_blocks_of_another_size_find_the_same(rng):
    """Cues see as far in small blocks as in one block; only the ends of the centre's mean differ."""
    tones = np.sin(2 * np.pi * np.array([[500.0], [700.0]]) * np.arange(12345) / 44100)
    audio = (tones + 0.3 * rng.standard_normal((2, 12345))).astype(np.float32)
    whole = separated(audio, config=SeparationConfig(n_iters=0, window=0))
    difference = separated(audio) - whole
    # A block's centre is a mean over fewer frames at its ends; and the floor is that of its own window.
    assert np.sqrt(np.mean(difference**2)) < 0.02 * np.sqrt(np.mean(whole**2))


def test_the_filter_runs_and_keeps_the_sum(rng):
    audio = rng.standard_normal((2, 6000)).astype(np.float32)
    stems = separated(audio, config=SeparationConfig(n_iters=1, window=100))
    # The EM filter keeps a share of sqrt(eps) for noise.
    np.testing.assert_allclose(stems.sum(axis=0), audio, atol=1e-2)


def test_silence_stays_silent():
    for n_iters in (0, 1):
        stems = separated(
            np.zeros((2, 5000), np.float32), config=SeparationConfig(n_iters=n_iters, window=100)
        )
        assert not stems.any()


def test_another_song_compiles_nothing_new(rng):
    longer, shorter = (rng.standard_normal((2, n)).astype(np.float32) for n in (20000, 9000))
    separated(longer)
    with compilations() as compiled:
        separated(shorter)
    assert not compiled


def test_progress_rises_to_one(rng):
    told = []
    audio = rng.standard_normal((2, 20000)).astype(np.float32)
    separated(audio, n_samples=20000, progress=told.append)
    assert told == sorted(told) and told[0] > 0 and told[-1] == 1.0


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="at least one sample, got none"):
        separated(np.zeros((2, 0), np.float32))


def test_no_residual_is_left():
    with pytest.raises(ValueError, match="residual"):
        SMALL.stem_names(SeparationConfig(residual=True))


def test_cues_map_over_songs(quiet):
    """Batched by vmap gives what one by one gives."""
    windows = jnp.stack([jnp.asarray(quiet), jnp.asarray(quiet[:, ::-1])])
    blocks = windows[:, None, :, CONTEXT : CONTEXT + N_FRAMES] + 0j
    real = jnp.ones(quiet.shape[1], bool)
    batched = jax.jit(jax.vmap(classic.cues, (0, None, 0)))(windows, real, blocks)
    for index in range(2):
        one = measure(windows[index], real, blocks[index])
        for got, expected in zip(batched, one, strict=True):
            np.testing.assert_allclose(got[index], expected, atol=1e-4)


def test_softmask_does_not_apply(monkeypatch):
    """The shares are masks already: ratio masks of their roots would be something else."""
    seen = []
    monkeypatch.setattr(classic, "render", lambda estimates, config, **_: seen.append(config) or iter(()))
    config = SeparationConfig(softmask=True, consistency=True)
    assert not list(Classic().stream(lambda: [np.zeros((1, 10), np.float32)], n_channels=1, config=config))
    assert seen == [SeparationConfig(consistency=True)]
