"""Whole runs of training on noise: what is written, how a run goes on, what ends it."""

import json
import resource
import signal
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import openunmix, training
from jaxsep.io.checkpoint import load_weights
from jaxsep.separation import load_separator
from jaxsep.stft import stft
from jaxsep.training.prefetch import prefetch
from tests.training import CONFIG, SETTINGS, SOURCES, drawn_variables, noise_batches, songs

pytestmark = pytest.mark.usefixtures("quick_compilation")

VARIABLES = drawn_variables(CONFIG, 2)
run = partial(
    training.fit,
    noise_batches,
    CONFIG,
    SETTINGS,
    targets=("vocals", "other"),
    sources=SOURCES,
    variables=VARIABLES,
    validation_songs=songs(2000, 3001),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return run(output=folder, input_statistics=songs(1500, 900)), folder


def resumed(folder, batches=noise_batches, **options):
    return run(output=folder, input_statistics=songs(1500, 900), resume=True, **options)


def assert_the_same(made, expected):
    """Weights bit for bit, and everything but the time."""
    for a, b in zip(jax.tree.leaves(made.variables), jax.tree.leaves(expected.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    assert made.history.plateaus == expected.history.plateaus
    assert made.history.stoppings == expected.history.stoppings
    for a, b in zip(made.history.epochs, expected.history.epochs, strict=True):
        assert (a.train_loss, a.valid_loss) == (b.train_loss, b.valid_loss)


def test_a_run_learns_and_its_folder_is_a_model(whole):
    result, folder = whole
    first, *_, last = result.history.epochs
    assert result.reason == "epochs"
    assert (np.array(last.train_loss) < first.train_loss).all()
    separator = load_separator(folder)
    assert set(separator.targets) == {"vocals", "other"}
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 2000)).astype(np.float32)
    stems = np.concatenate(list(separator.stream(lambda: [noise], n_channels=2)), axis=-1)
    assert stems.shape == (2, 2, 2000)
    assert np.isfinite(stems).all()


def test_the_description_tells_all(whole):
    result, folder = whole
    metadata = json.loads((folder / "other.json").read_text())["metadata"]
    assert metadata["training"]["settings"] == SETTINGS.to_json()
    assert metadata["training"]["targets"] == ["vocals", "other"]
    assert metadata["valid_loss_history"] == [epoch.valid_loss[1] for epoch in result.history.epochs]
    assert metadata["best_loss"] == min(metadata["valid_loss_history"])
    assert metadata["epochs_trained"] == 3
    assert "jax" in metadata["versions"]
    history = json.loads((folder / "runs" / "vocals+other" / "history.json").read_text())
    assert [epoch["step"] for epoch in history["epochs"]] == [4, 8, 12]
    assert (folder / "runs" / "vocals+other" / "curves.png").stat().st_size > 1000


def test_the_best_weights_are_kept(whole):
    result, folder = whole
    best = load_weights(folder, "vocals")
    losses = training.song_losses(
        training.stack([best.variables]), songs(2000, 3001), CONFIG, targets=["vocals"]
    )
    assert losses.mean() == pytest.approx(result.history.stoppings[0].best, rel=1e-6)


def test_the_loss_of_songs_is_that_of_each_song_at_once():
    # Longer than a block, shorter than one, shorter than a window.
    lengths = (12001, 500, 40)
    losses = training.song_losses(VARIABLES, songs(*lengths), CONFIG, targets=["vocals", "other"])
    assert losses.shape == (3, 2)
    for song, made in zip(songs(*lengths), losses, strict=True):
        transform = partial(stft, n_fft=64, hop_length=16, center=False)
        mixture = jnp.abs(transform(song.stems.sum(axis=0).astype(np.float32) / 32768))
        for index, source in enumerate((0, 2)):
            truth = jnp.abs(transform(song.stems[source].astype(np.float32) / 32768))
            estimate = openunmix.apply(training.unstack(VARIABLES, index), mixture, CONFIG)
            expected = np.mean(np.asarray(estimate - truth, np.float64) ** 2)
            # Single precision throughout, in another order.
            assert made[index] == pytest.approx(expected, rel=1e-5)


def test_a_polite_kill_saves_and_the_run_goes_on(whole, tmp_path):
    def batches(seed, step):
        if step == 6:  # within an epoch; made in another thread, ahead of its turn
            signal.raise_signal(signal.SIGTERM)
        return noise_batches(seed, step)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=r"saved after step [1-7]"):
        run_with(batches, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert_the_same(resumed(tmp_path), whole[0])


def run_with(batches, folder, **options):
    options = {"variables": VARIABLES, "input_statistics": songs(1500, 900)} | options
    return training.fit(
        batches,
        CONFIG,
        SETTINGS,
        targets=("vocals", "other"),
        sources=SOURCES,
        output=folder,
        validation_songs=songs(2000, 3001),
        **options,
    )


def test_a_run_in_pieces_is_the_run(whole, tmp_path):
    for steps in (3, 4, 9):
        assert resumed(tmp_path, max_steps=steps).reason == "steps"
    assert resumed(tmp_path, minutes=0.0).reason == "minutes"
    assert_the_same(resumed(tmp_path), whole[0])
    # And a run that is done is done.
    assert_the_same(resumed(tmp_path), whole[0])


def test_nan_stops_at_once_and_what_was_saved_stays(tmp_path):
    def batches(seed, step):
        batch = noise_batches(seed, step)
        return batch._replace(gain=batch.gain * np.float32(np.nan)) if step == 5 else batch

    with pytest.raises(
        FloatingPointError, match="step 6: expected a finite loss, got NaN or infinity for vocals"
    ):
        run_with(batches, tmp_path)
    kept = sorted(path.name for path in (tmp_path / "runs" / "vocals+other" / "checkpoints").iterdir())
    assert kept == ["4"]
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(load_weights(tmp_path, "vocals").variables)
    )


def test_what_reading_raises_is_raised(tmp_path):
    def batches(seed, step):
        if step == 2:
            raise OSError(5, "damaged", "song.wav")
        return noise_batches(seed, step)

    with pytest.raises(OSError, match=r"damaged: 'song\.wav'"):
        run_with(batches, tmp_path)


def test_a_folder_with_a_run_is_not_overwritten(whole):
    with pytest.raises(ValueError, match="expected no run of vocals, other in it, got one"):
        run(output=whole[1])


def test_another_run_is_not_gone_on_with(whole):
    settings = training.TrainingConfig(**SETTINGS.to_json() | {"learning_rate": 0.5})
    with pytest.raises(ValueError, match=r"settings\.learning_rate = 0\.01 to resume it, got 0\.5"):
        training.fit(
            noise_batches,
            CONFIG,
            settings,
            targets=("vocals", "other"),
            sources=SOURCES,
            output=whole[1],
            resume=True,
        )


def test_a_run_begun_before_a_setting_was_known_goes_on(whole, tmp_path):
    resumed(tmp_path, max_steps=2)
    path = tmp_path / "runs" / "vocals+other" / "settings.json"
    settings = json.loads(path.read_text())
    assert settings["settings"].pop("optimizer") == "adam"
    path.write_text(json.dumps(settings))
    assert_the_same(resumed(tmp_path), whole[0])


def test_a_damaged_save_is_told(whole, tmp_path):
    resumed(tmp_path, max_steps=2)
    saves = tmp_path / "runs" / "vocals+other" / "checkpoints"
    for path in saves.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoints/2: damaged, or of other settings"):
        resumed(tmp_path)


def test_a_schedule_an_average_and_a_loss_of_ones_own(tmp_path):
    seen = []

    def validate(variables):
        seen.append(np.asarray(variables["params"]["input_mean"]).shape)
        return [3.0 - len(seen)]

    settings = training.TrainingConfig(**SETTINGS.to_json() | {"ema": 0.9, "epochs": 2})
    result = training.fit(
        noise_batches,
        CONFIG,
        settings,
        targets=["drums"],
        sources=SOURCES,
        output=tmp_path,
        variables=drawn_variables(CONFIG, 1),
        schedule=lambda step: 1e-3 * (step + 1),
        validate=validate,
        tensorboard=True,
    )
    assert seen == [(1, CONFIG.max_bin)] * 2
    assert [epoch.valid_loss for epoch in result.history.epochs] == [[2.0], [1.0]]
    assert [epoch.learning_rate for epoch in result.history.epochs] == [[4e-3], [8e-3]]
    events = list((tmp_path / "runs" / "drums" / "tensorboard").iterdir())
    assert len(events) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ("piano",)}, "targets: expected different ones out of vocals, drums, other; got piano"),
        ({"targets": ()}, "targets: expected different ones out of vocals, drums, other; got none"),
        ({"sources": ("vocals", "other")}, r"batches: expected stems \(batch, 2, 2, 64 or more\)"),
    ],
)
def test_what_does_not_go_together_is_told(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(output=tmp_path, **change)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(output=tmp_path / "file")


@contextmanager
def room_for_files(n_bytes):
    """Within the block, no file may grow beyond this: like a full disk, an error in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_weights(tmp_path):
    with room_for_files(8192), pytest.raises(OSError, match=r"File too large: '.*vocals\.safetensors'"):
        run(output=tmp_path)
    assert not list(tmp_path.glob("*.part"))


# Orbax drops the writes that it has begun for the other arrays.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_room_for_a_save(tmp_path):
    resumed(tmp_path, max_steps=4)  # the second epoch is made to be no better: nothing but the save is large
    worse = [[9.0, 9.0], [10.0, 10.0]]
    with room_for_files(8192), pytest.raises(OSError, match="checkpoints: could not save"):
        resumed(tmp_path, max_steps=8, validate=lambda variables: worse.pop())
    # What was saved before is whole, and with room the run goes on.
    assert [epoch.step for epoch in resumed(tmp_path).history.epochs] == [4, 8, 12]


def test_prefetching_ends_with_its_block():
    made = []

    def make(number):
        made.append(number)
        return number

    with prefetch(make, 0, 1000, ahead=2) as numbers:
        assert next(numbers) == 0
    assert len(made) <= 5
