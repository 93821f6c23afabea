"""MUSDB18 decoded once into records, and read back at any place."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from datasets.catalogue import open_dataset
from datasets.musdb18.__main__ import main
from jaxsep.batches import MIXTURE
from tests.stem_file import write_stem_file
from tests.test_datasets_catalogue import RATE, STEMS, VALID, options, track_folders

pytestmark = pytest.mark.filterwarnings("ignore")  # TFDS's and TensorFlow's own

N = 150_000  # samples a song: three records, the last not full


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One song of each split as files and one as a stem file; b has no bass."""
    folder = tmp_path_factory.mktemp("musdb")
    track_folders(folder, (MIXTURE, *STEMS), ("train/a", f"train/{VALID}"), n=N)
    track_folders(folder, (MIXTURE, "vocals", "drums", "other"), ("train/b",), n=N)
    noise = np.random.default_rng(0).standard_normal((5, 2, N)).astype(np.float32)
    write_stem_file(folder / "train" / "c.stem.mp4", 0.1 * noise, RATE)
    write_stem_file(folder / "test" / "d.stem.mp4", 0.1 * noise[:, :, :9000], RATE)
    return folder


@pytest.fixture(scope="module")
def records(root, tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    out = tmp_path_factory.mktemp("records")
    assert main(["--manual_dir", str(root), "--data_dir", str(out)]) == 0
    return out


def test_records_give_the_batches_of_the_files(root, records):
    for chosen in (
        options(batch_size=8),
        options(seconds=9.0, sample_rate=11025, n_channels=1),
    ):
        files = open_dataset("musdb", root, targets=["bass"], options=chosen)
        prepared = open_dataset("tfds", records, targets=["bass"], options=chosen)
        assert prepared.sources == files.sources and prepared.n_samples == files.n_samples == 3 * 64
        for seed, step in ((0, 0), (3, 4)):
            for name, x, y in zip(
                files.batches(0, 0)._fields,
                files.batches(seed, step),
                prepared.batches(seed, step),
                strict=True,
            ):
                if chosen.sample_rate == RATE:
                    np.testing.assert_array_equal(x, y, err_msg=name)
                else:  # one is averaged before its rate is changed, the other after: two roundings
                    np.testing.assert_allclose(x.astype(float), y, atol=2, err_msg=name)


def test_songs_come_whole_out_of_records(root, records):
    both = [
        open_dataset(name, where, targets=["vocals"], options=options())
        for name, where in (("musdb", root), ("tfds", records / "musdb18" / "1.0.0"))
    ]
    for kind in ("validation_songs", "training_songs"):
        assert [s.name for s in getattr(both[0], kind)] == [s.name for s in getattr(both[1], kind)]
        for one, other in zip(*(getattr(dataset, kind) for dataset in both), strict=True):
            sounds = [np.concatenate(list(song.pieces([MIXTURE, *STEMS])), axis=-1) for song in (one, other)]
            np.testing.assert_array_equal(*sounds)


def test_many_threads_read_records_at_once(records):
    batches = open_dataset("tfds", records, targets=["bass"], options=options(batch_size=64)).batches
    plan = batches.plan(1, 2)
    with ThreadPoolExecutor(8) as threads:
        rows = list(threads.map(lambda row: batches.read(plan, row), range(64)))
    np.testing.assert_array_equal(np.stack([row.stems for row in rows]), batches(1, 2).stems)


def test_damaged_and_missing_records_are_one_line(records, tmp_path):
    with pytest.raises(ValueError, match=r"expected records made by python -m datasets\.musdb18, got none"):
        open_dataset("tfds", tmp_path, targets=["bass"], options=options())
    copy = tmp_path / "copy"
    shutil.copytree(records, copy)
    (file,) = copy.rglob("*train.array_record*")
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[: middle - 300_000] + bytes(600_000) + content[middle + 300_000 :])
    dataset = open_dataset("tfds", copy, targets=["bass"], options=options(batch_size=64))
    with pytest.raises(ValueError, match=r"damaged records \(") as caught:
        for step in range(8):
            dataset.batches(0, step)
    assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(ValueError, match=r"damaged records \("):
        open_dataset("tfds", copy, targets=["bass"], options=options()).batches(0, 0)


def test_what_is_no_musdb_is_one_line(tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "words.txt").write_text("no song")
    for root, message in (
        ("none", "does not exist"),
        ("empty", "is empty"),
        ("text", "expected folders of stems"),
    ):
        arguments = ["--manual_dir", str(tmp_path / root), "--data_dir", str(tmp_path / "out")]
        assert main(arguments) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and message in error


def test_without_tfds_there_is_a_word_about_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxsep\[train\]'"):
        open_dataset("tfds", tmp_path, targets=["bass"], options=options())
