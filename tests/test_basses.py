"""Basses of the recipe of the packaged weights: they sound, and are a function of their generator."""

import numpy as np
import pytest

from datasets.score import Note
from recipes.open_weights import bass_synths, basses, sources
from recipes.open_weights.arrange import Layer
from recipes.open_weights.bass_synths import synthesise

RATE = 44100
NOTES = [Note(0.3 * n, 0.25, 24.0 + 5 * (n % 9), 0.5 + 0.1 * (n % 5)) for n in range(6)]


@pytest.fixture
def no_fonts(monkeypatch):
    monkeypatch.setattr(sources, "_FONTS", ())


def _check(sound: np.ndarray, length: int) -> None:
    assert sound.shape == (2, length) and sound.dtype == np.float32
    assert np.isfinite(sound).all() and np.abs(sound).max() > 0.01


@pytest.mark.parametrize("seed", range(12))
def test_basses_sound_and_are_a_function_of_the_generator(seed, no_fonts):
    layer = Layer(NOTES, None)
    sound = basses.play_bass(layer, seconds=2.0, rng=np.random.default_rng(seed))
    _check(sound, 2 * RATE)
    again = basses.play_bass(layer, seconds=2.0, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(sound, again)


def test_basses_differ_with_the_seed(no_fonts):
    one, other = (
        basses.play_bass(Layer(NOTES, None), seconds=1.0, rng=np.random.default_rng(seed)) for seed in (0, 1)
    )
    assert not np.array_equal(one, other)


def test_synthesisers_sound():
    for seed in range(12):
        _check(synthesise(NOTES, 1.5, np.random.default_rng(seed)), round(1.5 * RATE))


def test_filters_open_slowly_over_held_notes(monkeypatch):
    monkeypatch.setattr(bass_synths, "_ODDS", {"slow": 1.0})
    line = [Note(0.25 * n, 0.2, 33.0, 0.8) for n in range(32)]
    moved = []
    for seed in range(8):
        sound = synthesise(line, 8.0, np.random.default_rng(seed)).mean(axis=0)
        frames = np.abs(np.fft.rfft(sound[: 8 * RATE // 4410 * 4410].reshape(-1, 4410) * np.hanning(4410)))
        centre = (frames * np.arange(frames.shape[1])).sum(axis=1) / frames.sum(axis=1)
        # Over half a second, two notes: a filter that follows each key alone would move the mean little.
        slow = np.convolve(np.log2(centre), np.ones(5) / 5, mode="valid")
        moved.append(np.ptp(slow))
    assert np.median(moved) > 1  # octaves


def test_held_lines_last_as_long_with_fewer_notes():
    line = [Note(0.25 * n, 0.2, 30.0 + n, 0.8) for n in range(16)]
    held = bass_synths._held(line, 1.0)
    assert [note.pitch for note in held] == [30, 34, 38, 42]
    assert [note.duration for note in held] == pytest.approx([1.0, 1.0, 1.0, 0.95])


def test_a_knob_moves_between_its_ends():
    turns = np.linspace(-1.3, 6.2, 4000)
    for seed in range(20):
        way = bass_synths._sway(turns, np.random.default_rng(seed))
        assert way.shape == turns.shape
        assert way.min() == pytest.approx(-1, abs=0.02) and way.max() == pytest.approx(1, abs=0.02)


def test_no_notes_are_silence():
    silence = basses.play_bass(Layer([], None), seconds=0.5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(silence, np.zeros((2, RATE // 2), np.float32))


def test_lines_stay_on_the_neck_and_in_the_song():
    for seed in range(40):
        line = basses.vary_line(NOTES, np.random.default_rng(seed))
        assert line == sorted(line)
        assert all(26 <= note.pitch <= 64 for note in line)  # a slide may come from above
        assert all(note.start >= 0 and note.duration > 0 and 0 < note.velocity <= 1 for note in line)
