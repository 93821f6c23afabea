"""Each layout on a small disk: what is found, what comes of it, and what is said when it is not there."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from datasets.catalogue import NAMES, DatasetOptions, open_dataset
from jaxsep.batches import MIXTURE

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")
VALID = "Leaf - Summerghost"


def noise(seed, n, channels=2):
    return np.random.default_rng(seed).integers(-6000, 6000, (channels, n)).astype(np.int16)


def write(path, seed, n=RATE, rate=RATE, channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = noise(seed, n, channels)
    soundfile.write(path, sound.T, rate)
    return sound


def options(**chosen):
    return DatasetOptions(**({"seconds": 0.25, "batch_size": 4, "sample_rate": RATE} | chosen))


def track_folders(root, names=STEMS, folders=("train/one", "train/two", "valid/three"), **how):
    return {
        (folder, name): write(root / folder / f"{name}.wav", 10 * i + j, **how)
        for i, folder in enumerate(folders)
        for j, name in enumerate(names)
    }


def whole(song, names):
    return np.concatenate(list(song.pieces(names)), axis=-1)


def check(dataset, targets):
    """What holds for every data set."""
    batch = dataset.batches(7, 3)
    assert batch.stems.shape == (4, len(dataset.sources), 2, 2000)
    again = dataset.batches(7, 3)
    assert all((x == y).all() for x, y in zip(batch, again, strict=True))
    assert json.loads(json.dumps(dataset.description)) == dataset.description
    assert dataset.n_samples >= 1 and dataset.training_songs and dataset.validation_songs
    for song in (dataset.training_songs[0], dataset.validation_songs[0]):
        sound = whole(song, [MIXTURE, *targets])
        assert sound.dtype == np.int16 and sound.shape[:2] == (1 + len(targets), 2) and song.name


def test_musdb_hq(tmp_path):
    folders = ("train/a", "train/b", f"train/{VALID}", "test/t")
    sounds = track_folders(tmp_path, (MIXTURE, *STEMS), folders)
    dataset = open_dataset("musdb", tmp_path, targets=["bass", "drums"], options=options())
    check(dataset, ["bass", "drums"])
    assert dataset.sources == STEMS and dataset.n_samples == 2 * 64
    assert [song.name for song in dataset.training_songs] == ["a", "b"]
    assert [song.name for song in dataset.validation_songs] == [VALID]
    valid = whole(dataset.validation_songs[0], [MIXTURE, "bass"])
    np.testing.assert_array_equal(valid[0], sounds[f"train/{VALID}", MIXTURE])  # as released, not the sum
    np.testing.assert_array_equal(valid[1], sounds[f"train/{VALID}", "bass"])
    assert dataset.description["augmentations"] == ["gain", "channelswap"]
    plan = dataset.batches.plan(7, 3)
    batch = dataset.batches(7, 3)
    for row in range(4):
        for index, stem in enumerate(STEMS):
            track = plan.tracks[plan.track[row, index]].name
            start = plan.start[row, index]
            np.testing.assert_array_equal(
                batch.stems[row, index], sounds[f"train/{track}", stem][:, start : start + 2000]
            )
    assert batch.gain.min() >= 0.25 and batch.gain.max() <= 1.25


def test_musdb_with_a_stem_that_another_may_hide(tmp_path):
    track_folders(tmp_path, STEMS, ("train/a", f"train/{VALID}"))
    track_folders(tmp_path, ("vocals", "drums", "other"), ("train/b", "train/Meaxic - Take A Step"))
    dataset = open_dataset("musdb", tmp_path, targets=["bass"], options=options(batch_size=32))
    batch, plan = dataset.batches(0, 0), dataset.batches.plan(0, 0)
    from_b = plan.track[:, 3] == 1
    assert 0 < from_b.sum() < 32
    np.testing.assert_array_equal(batch.weight[:, 2], ~from_b)
    assert (batch.weight[:, [0, 1, 3]] == 1).all()
    assert [song.name for song in dataset.validation_songs] == [VALID]  # the other has no truth for bass
    assert len(open_dataset("musdb", tmp_path, targets=["drums"], options=options()).validation_songs) == 2


def test_musdb_accompaniment(tmp_path):
    sounds = track_folders(tmp_path, STEMS, ("train/a", f"train/{VALID}"))
    chosen = options(augmentations=())
    dataset = open_dataset("musdb", tmp_path, targets=["accompaniment"], options=chosen)
    check(dataset, ["accompaniment"])
    assert dataset.sources == ("vocals", "accompaniment")
    rest = sum(sounds["train/a", stem].astype(int) for stem in STEMS[1:])
    batch, plan = dataset.batches(0, 0), dataset.batches.plan(0, 0)
    np.testing.assert_array_equal(batch.stems[0, 1], rest[:, plan.start[0, 1] : plan.start[0, 1] + 2000])
    with pytest.raises(ValueError, match="expected names among vocals, accompaniment; got 'drums'"):
        open_dataset("musdb", tmp_path, targets=["drums", "accompaniment"], options=chosen)


def test_aligned(tmp_path):
    sounds = track_folders(tmp_path, ("noisy", "clean"))
    write(tmp_path / "train" / "incomplete" / "noisy.wav", 1)
    chosen = options(input_file="noi*.wav", output_file="cl*n.wav", augmentations=())
    for wrong in (["cl*n"], ["rest"], ["clean", "noisy"]):
        with pytest.raises(ValueError, match="targets: expected"):
            open_dataset("aligned", tmp_path, targets=wrong, options=chosen)
    dataset = open_dataset("aligned", tmp_path, targets=["clean"], options=chosen)
    check(dataset, ["clean"])
    assert dataset.sources == ("clean", "rest") and dataset.n_samples == 2
    batch, plan = dataset.batches(7, 3), dataset.batches.plan(7, 3)
    for row in range(4):
        folder, start = f"train/{plan.tracks[plan.track[row, 0]].name}", plan.start[row, 0]
        mixture = (batch.gain[row, :, None, None] * batch.stems[row]).sum(axis=0)
        np.testing.assert_array_equal(mixture, sounds[folder, "noisy"][:, start : start + 2000])
    valid = whole(dataset.validation_songs[0], [MIXTURE, "clean"])
    np.testing.assert_array_equal(valid, [sounds["valid/three", "noisy"], sounds["valid/three", "clean"]])


def test_trackfolder_fix(tmp_path):
    track_folders(tmp_path, STEMS)
    write(tmp_path / "train" / "no drums" / "vocals.wav", 1)
    dataset = open_dataset("trackfolder_fix", tmp_path, targets=["vocals"], options=options())
    check(dataset, ["vocals"])
    assert dataset.sources == ("vocals", "bass", "drums") and dataset.n_samples == 2
    plan = dataset.batches.plan(0, 0)
    assert (plan.track[:, :1] == plan.track).all() and (plan.gain == 1).all()
    mixed = open_dataset(
        "trackfolder_fix", tmp_path, targets=["vocals"], options=options(random_track_mix=True)
    )
    assert not (mixed.batches.plan(0, 0).track[:, :1] == mixed.batches.plan(0, 0).track).all()


def test_trackfolder_var(tmp_path):
    sounds = track_folders(tmp_path, ("vocals", "drums", "marimba"))
    for seed, folder in enumerate(("train", "valid")):
        write(tmp_path / folder / "instrumental" / "flute.wav", 90 + seed)
    write(tmp_path / "train" / "one" / "mixture.wav", 5)
    dataset = open_dataset("trackfolder_var", tmp_path, targets=["vocals"], options=options())
    check(dataset, ["vocals"])
    assert dataset.sources == ("vocals", "interferers") and dataset.n_samples == 2
    assert dataset.batches.plan(0, 0).gain.shape == (4, 2, 2)
    valid = whole(dataset.validation_songs[0], [MIXTURE, "vocals"])
    total = sum(sounds["valid/three", name].astype(int) for name in ("vocals", "drums", "marimba"))
    np.testing.assert_array_equal(valid[0], np.clip(total, -32768, 32767))
    silent = options(silence_missing=True, random_interferer_mix=True, batch_size=64)
    dataset = open_dataset("trackfolder_var", tmp_path, targets=["vocals"], options=silent)
    assert dataset.n_samples == 3 and len(dataset.validation_songs) == 2
    batch = dataset.batches(0, 0)
    quiet = (batch.stems[:, 0] == 0).all(axis=(1, 2))
    assert 0 < quiet.sum() < 64 and (batch.weight == 1).all() and batch.stems[:, 1].any(axis=(1, 2)).all()


def test_sourcefolder(tmp_path):
    for split in ("train", "valid"):
        for index, source in enumerate(("speech", "cars", "birds")):
            for seed in range(3):
                write(
                    tmp_path / split / source / f"{seed}.wav",
                    10 * index + seed,
                    n=1500 + 1000 * seed,
                    channels=1,
                )
    chosen = options(
        target_dir="speech", interferer_dirs=("cars", "birds"), n_train_samples=30, n_valid_samples=5
    )
    dataset = open_dataset("sourcefolder", tmp_path, targets=["speech"], options=chosen)
    check(dataset, ["speech"])
    assert dataset.sources == ("speech", "cars", "birds")
    assert (dataset.n_samples, len(dataset.training_songs), len(dataset.validation_songs)) == (30, 30, 5)
    first = [whole(song, [MIXTURE, *dataset.sources]) for song in dataset.validation_songs]
    again = open_dataset("sourcefolder", tmp_path, targets=["speech"], options=chosen).validation_songs
    np.testing.assert_array_equal(first, [whole(song, [MIXTURE, *dataset.sources]) for song in again])
    np.testing.assert_array_equal(first[0][0], first[0][1:].sum(axis=0))
    assert first[0].shape == (4, 2, 2000)


def test_synthetic(tmp_path):
    dataset = open_dataset("synthetic", None, targets=["vocals"], options=options())
    check(dataset, ["vocals"])
    assert dataset.sources == STEMS
    names = {track.name for step in range(0, 800, 8) for track in dataset.batches.tracks(0, step)}
    assert len(names) == 107  # a new song every 8 steps
    others = {song.name for song in (*dataset.validation_songs, *dataset.training_songs)}
    assert len(others) == 12 and not others & names
    assert not names & {track.name for track in dataset.batches.tracks(1, 0)}


def test_mono_files_and_other_rates_are_converted_as_they_are_read(tmp_path):
    track_folders(tmp_path, STEMS, ("train/a", f"train/{VALID}"), rate=2 * RATE, channels=1)
    dataset = open_dataset("musdb", tmp_path, targets=["vocals"], options=options())
    batch = dataset.batches(0, 0)
    assert batch.stems.shape == (4, 4, 2, 2000) and batch.stems.any()
    np.testing.assert_array_equal(batch.stems[:, :, 0], batch.stems[:, :, 1])
    assert whole(dataset.training_songs[0], ["bass"]).shape == (1, 2, RATE // 2)
    mono = open_dataset("musdb", tmp_path, targets=["vocals"], options=options(n_channels=1)).batches(0, 0)
    assert mono.stems.shape == (4, 4, 1, 2000) and not mono.swap.any()


def test_a_track_shorter_than_an_excerpt(tmp_path):
    track_folders(tmp_path, STEMS, ("train/a", "train/b", f"train/{VALID}"))
    write(tmp_path / "train" / "b" / "drums.wav", 0, n=1999)
    message = r"b: expected at least 0.25 s, the length of an excerpt \(--seq-dur\); got 0.25 s"
    with pytest.raises(ValueError, match=message):
        open_dataset("musdb", tmp_path, targets=["vocals"], options=options())


def test_a_file_damaged_midway(tmp_path):
    track_folders(tmp_path, STEMS, ("train/a", f"train/{VALID}"), n=20 * RATE)
    dataset = open_dataset("musdb", tmp_path, targets=["vocals"], options=options(batch_size=64))
    path = tmp_path / "train" / "a" / "drums.wav"
    path.write_bytes(path.read_bytes()[:100000])
    with pytest.raises(ValueError, match=r"drums\.wav: damaged sound file"):
        dataset.batches(0, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("musdb", "expected folders of stems"),
        ("aligned", "train: expected a folder of tracks, got nothing there"),
        ("trackfolder_fix", "train: expected a folder of tracks, got nothing there"),
        ("trackfolder_var", "train: expected a folder of tracks, got nothing there"),
        ("sourcefolder", "vocals: expected a folder of sounds, got nothing there"),
    ],
)
def test_a_wrong_folder_is_one_line(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(name, tmp_path, targets=["vocals"], options=options())
    with pytest.raises(ValueError, match="expected a folder, got nothing there"):
        open_dataset(name, tmp_path / "none", targets=["vocals"], options=options())
    (tmp_path / "train" / "song").mkdir(parents=True)
    with pytest.raises(ValueError, match="expected"):
        open_dataset(name, tmp_path, targets=["vocals"], options=options())


def test_what_cannot_be_chosen(tmp_path):
    with pytest.raises(ValueError, match=f"expected one of {NAMES[0]}"):
        open_dataset("musdb19", tmp_path, targets=["vocals"])
    with pytest.raises(ValueError, match="at least one source"):
        open_dataset("synthetic", None, targets=[])
    with pytest.raises(ValueError, match="got 'flute'"):
        open_dataset("synthetic", None, targets=["flute"])
    with pytest.raises(ValueError, match="root: expected the folder"):
        open_dataset("aligned", None, targets=["vocals"])
    for wrong in (
        {"sample_rate": 44100.5},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"n_channels": 3},
        {"batch_size": 0},
        {"samples_per_track": 0},
        {"part": (2, 2)},
        {"part": (0, 3), "batch_size": 16},
        {"augmentations": ("echo",)},
        {"n_valid_samples": 0},
    ):
        with pytest.raises(ValueError, match=": expected"):
            DatasetOptions(**wrong)


def test_importing_the_catalogue_is_light():
    code = "import sys, datasets.catalogue; print({'jax', 'tensorflow', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
