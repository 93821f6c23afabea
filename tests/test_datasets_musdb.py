"""MUSDB18 as it comes: stem files, and the preview that is downloaded."""

import hashlib
import shutil
import zipfile

import numpy as np
import pytest

from datasets.catalogue import DatasetOptions, open_dataset
from datasets.preview import fetch_preview
from jaxsep.batches import MIXTURE
from jaxsep.io import stemfile
from jaxsep.io.download import fetch
from jaxsep.io.musdb import STEMS, STREAMS
from tests.stem_file import write_stem_file

RATE = 16000
VALID = "Leaf - Summerghost"


def write_track(path, seed, n=RATE, rate=RATE, n_streams=5):
    rng = np.random.default_rng(seed)
    write_stem_file(path, (0.1 * rng.standard_normal((n_streams, 2, n))).astype(np.float32), rate)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musdb18")
    for seed, name in enumerate(("train/a", "train/b", f"train/{VALID}", "test/t")):
        write_track(folder / f"{name}.stem.mp4", seed)
    return folder


def options(**chosen):
    return DatasetOptions(**({"seconds": 0.25, "batch_size": 4, "sample_rate": RATE} | chosen))


def decoded(path):
    """All streams as 16-bit samples, by name."""
    streams, _ = stemfile.load_streams(path)
    return dict(zip(STREAMS, np.clip(np.rint(32768 * streams), -32768, 32767).astype(np.int16), strict=True))


def test_excerpts_are_parts_of_the_whole_decoded_songs(root):
    dataset = open_dataset("musdb", root, targets=["vocals"], options=options())
    songs = {name: decoded(root / "train" / f"{name}.stem.mp4") for name in ("a", "b", VALID)}
    assert dataset.sources == STEMS and [song.name for song in dataset.training_songs] == ["a", "b"]
    batch, plan = dataset.batches(1, 2), dataset.batches.plan(1, 2)
    for row in range(4):
        for index, stem in enumerate(STEMS):
            start, name = plan.start[row, index], plan.tracks[plan.track[row, index]].name
            np.testing.assert_array_equal(batch.stems[row, index], songs[name][stem][:, start : start + 4000])
    (valid,) = dataset.validation_songs
    whole = np.concatenate(list(valid.pieces([MIXTURE, "bass"])), axis=-1)
    np.testing.assert_array_equal(whole, [songs[VALID][MIXTURE], songs[VALID]["bass"]])


def test_headers_tell_how_long_songs_are(root):
    lengths, rate = stemfile.stream_lengths(root / "train" / "a.stem.mp4")
    assert rate == RATE and len(lengths) == 5
    assert stemfile.load_streams(root / "train" / "a.stem.mp4")[0].shape[-1] == min(lengths)


def test_another_rate_and_mono(root):
    chosen = options(sample_rate=8000, n_channels=1)
    dataset = open_dataset("musdb", root, targets=["vocals"], options=chosen)
    batch = dataset.batches(0, 0)
    assert batch.stems.shape == (4, 4, 1, 2000) and batch.stems.any(axis=(2, 3)).all()


def test_damaged_and_incomplete_stem_files_are_one_line(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    dataset = open_dataset("musdb", tmp_path, targets=["vocals"], options=options(batch_size=32))
    path = tmp_path / "train" / "b.stem.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"b\.stem\.mp4: damaged"):
        dataset.batches(0, 0)
    with pytest.raises(ValueError, match=r"b\.stem\.mp4: damaged"):
        open_dataset("musdb", tmp_path, targets=["vocals"], options=options())
    write_track(path, 0, n_streams=2)
    with pytest.raises(ValueError, match=r"b\.stem\.mp4: expected 5 sound streams, got 2"):
        open_dataset("musdb", tmp_path, targets=["vocals"], options=options())


def test_songs_that_do_not_stay_in_memory_are_said_to(root):
    with pytest.warns(UserWarning, match=r"0\.0 GB .* python -m datasets.musdb18"):
        dataset = open_dataset("musdb", root, targets=["vocals"], options=options(decoded_bytes=1000))
    assert dataset.batches(0, 0).stems.any()


@pytest.fixture
def preview(root, tmp_path, monkeypatch):
    """The index of a preview of four songs that is downloaded from a file."""
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "preview.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for path in sorted(root.rglob("*.mp4")):
            members.write(path, path.relative_to(root).as_posix())
        members.writestr("__MACOSX/train/._a.stem.mp4", "not a song")
        members.writestr("../train/../../escape.stem.mp4", "an attack")
        members.writestr("README.md", "words")
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    return {"urls": [archive.as_uri()], "md5": md5, "tracks": 4}


def test_the_preview_is_downloaded_once(preview, tmp_path):
    folder = fetch_preview(preview, progress=False)
    assert sorted(path.name for path in folder.rglob("*.mp4")) == [
        f"{name}.stem.mp4" for name in (VALID, "a", "b", "t")
    ]
    assert not list(tmp_path.rglob("escape*")) and sorted(p.name for p in folder.parent.iterdir()) == [
        "musdb18-7"
    ]
    (tmp_path / "preview.zip").unlink()
    assert fetch_preview(preview, progress=False) == folder
    dataset = open_dataset("musdb", None, targets=["vocals"], options=options())
    assert [song.name for song in dataset.training_songs] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"md5": 32 * "0"}, ConnectionError, "expected MD5 00000"),
        ({"tracks": 5}, ValueError, "expected 5 stem files, got 4"),
        (
            {"urls": ["file:///nowhere/at/all.zip"]},
            ConnectionError,
            "got none, and its preview cannot be downloaded",
        ),
    ],
)
def test_what_is_not_the_preview_leaves_nothing(preview, tmp_path, change, error, message):
    with pytest.raises(error, match=message) as caught:
        fetch_preview(preview | change, progress=False)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_nothing_is_fetched_without_a_hash(tmp_path):
    with pytest.raises(ValueError, match="expected this or md5"):
        fetch(["file:///etc/hostname"], tmp_path / "a")
