"""The recipe of `umx-open`, from folders of stems to a model that separates, at toy size."""

import json

import jax
import numpy as np
import pytest
import soundfile

from datasets.synthetic import STEMS, render
from jaxsep import training
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import load_weights, saved_targets
from recipes.umx_open import export, score, train
from recipes.umx_open.augment import equalise
from recipes.umx_open.data import Mixer, load_group, render_group, song_excerpts

RATE = 44100


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three songs of 7 s; the bass of the last one was never separated."""
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(3):
        (folder / f"song{seed}").mkdir()
        for name, stem in render(seed, 7.0).items():
            if seed < 2 or name != "bass":
                soundfile.write(folder / f"song{seed}" / f"{name}.flac", stem.T, RATE)
    return folder


@pytest.fixture(scope="module")
def tracks(songs, tmp_path_factory):
    return load_group(songs, tmp_path_factory.mktemp("cache"), group="songs")


@pytest.fixture(scope="module")
def mixer(tracks):
    return Mixer(tracks, seed=5, batch_size=16, seconds=0.5)


def test_batches_are_a_function_of_seed_and_step(mixer, tracks):
    stems, weights = mixer.batch(7)
    again = Mixer(tracks, seed=5, batch_size=16, seconds=0.5).batch(7)
    np.testing.assert_array_equal(stems, again[0])
    np.testing.assert_array_equal(weights, again[1])
    assert stems.shape == (16, 4, 2, RATE // 2)
    assert stems.dtype == weights.dtype == np.float32
    assert not np.array_equal(stems, mixer.batch(8)[0])


def test_an_unseparated_bass_is_never_a_lesson_in_no_bass(tracks):
    hidden = [track for track in tracks if track.holds_bass]
    assert [(track.song, track.stem) for track in hidden] == [("song2", "other")]
    # Only that `other` is left: wherever it sounds, the bass is not trained.
    pool = [track for track in tracks if track.stem != "other"] + hidden
    stems, weights = Mixer(pool, seed=0, batch_size=24, seconds=0.5).batch(0)
    sounds = np.abs(stems[:, STEMS.index("other")]).max(axis=(1, 2)) > 0
    assert sounds.any()
    np.testing.assert_array_equal(weights[sounds, STEMS.index("bass")], 0)
    assert (weights[:, STEMS.index("drums")] > 0).all()


def test_some_stems_are_silent_and_levels_vary(mixer):
    stems = np.concatenate([mixer.batch(step)[0] for step in range(4)])
    silent = (np.abs(stems).max(axis=(2, 3)) == 0).mean()
    assert 0.02 < silent < 0.4
    level = 10 * np.log10((stems.sum(axis=1) ** 2).mean(axis=(1, 2)))
    assert level.min() < -24
    assert level.max() > -17
    assert (level < -10.9).all()


def test_a_loss_of_predicting_silence_is_about_one_or_less(mixer):
    # The weights make losses comparable: at most power / sqrt(mixture (power + 0.05 mixture)) each.
    stems, weights = mixer.batch(3)
    power = (stems**2).mean(axis=(2, 3))
    assert ((1536 * power * weights) < 5).all()


def test_songs_cut_into_excerpts(tracks):
    own = [track for track in tracks if track.song == "song1"]
    excerpts = song_excerpts(own, seconds=3.0)
    assert excerpts.shape == (2, 4, 2, 3 * RATE)
    truth = render(1, 7.0)["drums"]
    # 16-bit files, 16-bit cache: half a step each.
    np.testing.assert_allclose(excerpts[1, 1], truth[:, 3 * RATE : 6 * RATE], atol=1.1 / 32768)


def test_the_cache_is_found_again(tmp_path):
    first = render_group(1, 1.0, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    second = render_group(1, 1.0, tmp_path)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    np.testing.assert_array_equal(first[0].audio, second[0].audio)


def test_missing_songs_and_stems_are_named(tmp_path, tracks):
    with pytest.raises(FileNotFoundError, match="expected folders with vocals, drums, bass, other"):
        load_group(tmp_path, tmp_path / "cache", group="songs")
    with pytest.raises(ValueError, match="expected at least one track of bass"):
        Mixer([track for track in tracks if track.stem != "bass"], seed=0, batch_size=1, seconds=0.5)


def test_equalisers_are_bounded_gains():
    ones = np.ones((5, 4, 2, 65, 3), np.complex64)
    gain = np.asarray(equalise(ones, jax.random.key(0)))
    assert (gain.imag == 0).all()
    np.testing.assert_array_equal(gain[..., :1], gain[..., 1:2])  # a filter: the same in each frame
    np.testing.assert_array_equal(gain[:, :, 0], gain[:, :, 1])  # and channel
    assert gain.real.min() >= 0
    assert gain.real.max() <= 10 ** (12 / 20) * 1.0001
    assert gain.real.std() > 0.1


def test_the_rate_warms_up_and_falls():
    rates = [train.learning_rate(done / 1000, done, 1e-3) for done in range(1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[300] == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-5)
    assert np.all(np.diff(rates[400:]) <= 0)


def test_trains_resumes_and_exports(songs, tmp_path):
    arguments = f"--songs {songs} --synthetic 1 --hold-back song0 --hidden-size 4 --batch-size 2 --seconds 0.5".split()
    assert train.main([*arguments, "--output", str(tmp_path / "whole"), "--steps", "4"]) == 0
    # The rate of a step depends on all steps planned, so that the halves only stop elsewhere.
    halves = [*arguments, "--output", str(tmp_path / "halves"), "--steps", "4"]
    assert train.main([*halves, "--stop-at", "2"]) == 0
    assert train.main(halves) == 0
    for whole, half in zip(_arrays(tmp_path / "whole"), _arrays(tmp_path / "halves"), strict=True):
        np.testing.assert_array_equal(whole, half)
    history = json.loads((tmp_path / "halves" / "history.json").read_text())
    assert [entry["step"] for entry in history] == [2, 4]
    assert set(history[0]["dB"]["song0"]) == set(STEMS)

    model = tmp_path / "model"
    assert export.main(["--run", str(tmp_path / "whole"), "--output", str(model), "--dtype", "int8"]) == 0
    assert saved_targets(model) == sorted(STEMS)
    weights = load_weights(model, "drums")
    assert weights.metadata["licence"] == "MIT"
    assert weights.config.hidden_size == 4
    # int8 keeps every kernel to 1/254 of its largest weight; vectors are kept whole.
    average = _restored(tmp_path / "whole", weights.config).average["params"]
    kernel = np.asarray(average["fc3"]["kernel"][STEMS.index("drums")])
    np.testing.assert_allclose(
        weights.variables["params"]["fc3"]["kernel"], kernel, atol=1.01 * np.abs(kernel).max() / 254
    )


def _restored(folder, config):
    like = training.init_state(config, train.OPTIMIZER, n_targets=4, key=jax.random.key(0))
    return train.restore(folder / "state.npz", like)[0]


def _arrays(folder):
    with np.load(folder / "state.npz") as stored:
        return [stored[name] for name in sorted(stored.files) if name.startswith("leaf_")]


def test_a_state_of_other_settings_is_refused(tmp_path):
    def state(hidden_size: int) -> training.TrainState:
        config = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=hidden_size, n_layers=1)
        return training.init_state(config, train.OPTIMIZER, n_targets=1, key=jax.random.key(0))

    train.save(tmp_path / "state.npz", state(2), {"seconds": 1.5})
    assert train.restore(tmp_path / "state.npz", state(2))[1] == {"seconds": 1.5}
    with pytest.raises(ValueError, match=r"expected arrays of shape .* other settings"):
        train.restore(tmp_path / "state.npz", state(4))


def test_masks_begin_near_a_quarter():
    config = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=4, n_layers=1)
    state = train.near_the_answer(
        training.init_state(config, train.OPTIMIZER, n_targets=4, key=jax.random.key(0))
    )
    np.testing.assert_array_equal(state.params["output_mean"], 0.25)
    for own, average in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(state.average["params"]), strict=True
    ):
        np.testing.assert_array_equal(own, average)


def test_a_songs_mixture_is_the_sum_of_its_stems(songs):
    stems = score.load_song(songs / "song1", (1.0, 4.0))
    assert stems["mixture"].shape == (2, 3 * RATE)
    np.testing.assert_array_equal(stems["mixture"], sum(stems[name] for name in STEMS))
