"""tf.data reads ahead, and changes nothing."""

import subprocess
import sys

import numpy as np
import pytest

from datasets.catalogue import open_batches, open_dataset
from tests.test_datasets_catalogue import RATE, STEMS, VALID, options, track_folders

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.fixture
def dataset(tmp_path):
    track_folders(tmp_path, STEMS, ("train/a", "train/b", f"train/{VALID}"), n=3 * RATE)
    return open_dataset("musdb", tmp_path, targets=["bass"], options=options(part=(1, 2)))


def same(left, right):
    for name, x, y in zip(left._fields, left, right, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape, name
        assert x.tobytes() == y.tobytes(), name


def test_batches_are_byte_for_byte_those_of_numpy(dataset):
    ahead = open_batches(dataset, workers=3)
    for seed, step in ((0, 0), (0, 1), (0, 2), (5, 2), (5, 3), (5, 100), (5, 101), (5, 101), (5, 0)):
        same(ahead(seed, step), dataset.batches(seed, step))


def test_it_reads_ahead_and_starts_anew_only_at_a_jump(dataset, monkeypatch):
    from datasets import pipeline

    started = []
    pipe = pipeline._Ahead._pipeline
    monkeypatch.setattr(
        pipeline._Ahead, "_pipeline", lambda self, *a: started.append(a[:2]) or pipe(self, *a)
    )
    ahead = open_batches(dataset, workers=2)
    for step in (4, 5, 6, 9, 10, 0):
        ahead(1, step)
    assert started == [(1, 4), (1, 9), (1, 0)]


def test_what_goes_wrong_is_said_in_its_own_words(dataset, tmp_path):
    ahead = open_batches(dataset, workers=2)
    ahead(0, 0)
    path = tmp_path / "train" / "a" / "drums.wav"
    kept = path.read_bytes()
    path.write_bytes(kept[:1000])
    with pytest.raises(ValueError, match=r"drums\.wav: damaged sound file") as caught:
        for step in range(1, 40):
            ahead(0, step)
    assert caught.value.__suppress_context__
    path.write_bytes(kept)
    same(ahead(0, 7), dataset.batches(0, 7))


def test_numbers_too_small_and_strange_batches(dataset):
    with pytest.raises(ValueError, match="workers: expected 1 or more, got 0"):
        open_batches(dataset, workers=0)
    with pytest.raises(TypeError, match="expected those of a data set, got function"):
        open_batches(dataset._replace(batches=lambda seed, step: None))


def test_it_ends_with_its_program(tmp_path):
    """Threads that still read must not keep the interpreter, nor crash it."""
    track_folders(tmp_path, STEMS, ("train/a", f"train/{VALID}"))
    code = f"""
from pathlib import Path
from datasets.catalogue import *
options = DatasetOptions(seconds=0.25, batch_size=4, sample_rate={RATE})
dataset = open_dataset("musdb", Path({str(tmp_path)!r}), targets=["bass"], options=options)
batches = open_batches(dataset, workers=2, ahead=8)
print(batches(0, 0).stems.shape, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "(4, 4, 2, 2000)"), done.stderr


def test_without_tensorflow_there_is_a_word_about_it(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ValueError, match=r"pip install 'jaxsep\[train\]'"):
        open_batches(dataset)
    assert np.any(dataset.batches(0, 0).stems)
