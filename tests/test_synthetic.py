"""The song generator: the same seed is the same song, and its stems are what they claim to be."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.score import DRUM_NAMES, compose
from datasets.sound import HOP, oscillate, reverberate
from datasets.synthetic import STEMS, render

RATE = 44100


@pytest.fixture(scope="module")
def song() -> dict[str, np.ndarray]:
    return render(42, 4.0)


def energy_below(sound: np.ndarray, corner: float) -> float:
    power = np.abs(np.fft.rfft(sound.mean(axis=0))) ** 2
    return float(power[np.fft.rfftfreq(sound.shape[1], 1 / RATE) < corner].sum() / power.sum())


def test_the_same_seed_gives_the_same_samples(song):
    again = render(42, 4.0)
    for name in STEMS:
        np.testing.assert_array_equal(song[name], again[name])


def test_another_seed_gives_another_song(song):
    other = render(43, 4.0)
    assert not np.allclose(other["other"], song["other"])


def test_stems_are_stereo_float32_and_sound(song):
    assert tuple(song) == STEMS
    for name, stem in song.items():
        assert stem.shape == (2, 4 * RATE), name
        assert stem.dtype == np.float32, name
        assert 0.003 < stem.std() < 0.3, name


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_stays_below_full_scale_and_starts_and_ends_in_silence(seed):
    mixture = sum(render(seed, 1.5).values())
    assert np.isfinite(mixture).all()
    assert np.abs(mixture).max() < 1.0
    np.testing.assert_array_equal(mixture[:, [0, -1]], 0)


@pytest.mark.parametrize(
    ("duration", "rate"), [(1 / 44100, 44100), (0.013, 44100), (0.7501, 16000), (1.0, 48000)]
)
def test_any_length_and_rate(duration, rate):
    stems = render(3, duration, rate)
    assert {stem.shape for stem in stems.values()} == {(2, round(duration * rate))}
    assert all(np.isfinite(stem).all() for stem in stems.values())


def test_sources_can_be_told_apart(song):
    assert energy_below(song["bass"], 250) > 0.5
    assert energy_below(song["vocals"], 80) < 0.05

    # Drums come in strokes: their loudness moves more than that of any other stem.
    def liveliness(stem: np.ndarray) -> float:
        level = np.sqrt((stem[:, : stem.shape[1] // 441 * 441].reshape(2, -1, 441) ** 2).mean(axis=(0, 2)))
        return float(level.std() / level.mean())

    assert liveliness(song["drums"]) > max(liveliness(song[name]) for name in ("bass", "other"))


def test_no_stem_holds_another(song):
    for a in STEMS:
        for b in STEMS:
            if a < b:
                assert abs(np.corrcoef(song[a][0], song[b][0])[0, 1]) < 0.1, (a, b)


@pytest.mark.parametrize(
    ("duration", "rate", "word"),
    [(0.0, 44100, "duration"), (-1.0, 44100, "duration"), (1.0, 100, "sample_rate")],
)
def test_bad_input_says_what_was_expected(duration, rate, word):
    with pytest.raises(ValueError, match=f"{word}: expected .* got"):
        render(0, duration, rate)


def test_scores_are_in_order_and_in_range():
    for seed in range(8):
        score = compose(np.random.default_rng(seed), 20.0)
        for part in (score.drums, score.bass, score.chords, score.melody, *score.vocals):
            starts = [note.start for note in part]
            assert starts == sorted(starts)
            assert all(0 <= start < 20.0 for start in starts)
        assert {hit.drum for hit in score.drums} <= set(DRUM_NAMES)
        assert all(28 <= note.pitch <= 64 for note in score.bass)
        assert all(note.duration > 0 for note in (*score.bass, *score.chords, *score.melody))


def test_the_oscillator_is_a_sum_of_cosines():
    f0, levels, phases = 441.0, np.array([1.0, 0.5, 0.25]), np.array([0.3, -1.0, 2.0])
    sound = oscillate(np.full(9, f0), np.tile(levels, (9, 1)), phases=phases, sample_rate=RATE)
    t = np.arange(1, 8 * HOP + 1) / RATE
    truth = sum(
        a * np.cos(2 * np.pi * k * f0 * t + p) for k, a, p in zip((1, 2, 3), levels, phases, strict=True)
    )
    # Linear interpolation in a table of 2048: (2 pi 3 / 2048)² / 8 of the highest harmonic.
    np.testing.assert_allclose(sound, truth, atol=3e-5)


def test_the_oscillator_leaves_out_what_would_alias():
    sound = oscillate(np.full(9, 12000.0), np.ones((9, 2)), phases=np.zeros(2), sample_rate=RATE)
    one = oscillate(np.full(9, 12000.0), np.array([[1.0, 0.0]] * 9), phases=np.zeros(2), sample_rate=RATE)
    np.testing.assert_array_equal(sound, one)


def test_a_dry_room_changes_nothing(rng):
    dry = rng.normal(size=(2, 3000)).astype(np.float32)
    np.testing.assert_allclose(reverberate(dry, rng, 0.0, 0.2, RATE), dry, atol=1e-5)


def test_needs_neither_jax_nor_tensorflow():
    code = (
        "import sys, datasets.synthetic as s; s.render(0, 0.1);"
        "print([m for m in ('jax', 'tensorflow', 'scipy', 'soundfile', 'jaxsep') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
