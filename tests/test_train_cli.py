"""``train.py`` as its users meet it: a run, a run that goes on, and one clear line for what goes wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datasets import catalogue
from jaxsep import cli
from jaxsep.cli import train
from jaxsep.separation import load_separator

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = [
    "--dataset", "synthetic", "--samples-per-track", "1", "--batch-size", "4", "--hidden-size", "4", "--lr", "0.01",
    "--seq-dur", "0.2", "--nfft", "128", "--nhop", "64", "--sample-rate", "8000", "--bandwidth", "4000", "--quiet",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """What one run has compiled serves the others; the user's cache is none of the tests' business."""
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def run(*arguments) -> int:
    return train.main(catalogue, [str(argument) for argument in arguments])


def error_of(capsys) -> str:
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1, captured.err
    return captured.err


def test_a_run_and_what_comes_of_it(tmp_path, capsys):
    model = tmp_path / "model"
    assert run("--target", "bass", "--epochs", 2, "--output", model, *TINY) == 0
    separator = load_separator(model)
    assert separator.targets == ("bass",)
    assert separator.sample_rate == 8000
    history = json.loads((model / "bass.json").read_text())["metadata"]["train_loss_history"]
    assert history[1] < history[0]
    capsys.readouterr()

    # Its output separates.
    song = tmp_path / "song.wav"
    soundfile.write(song, 0.1 * np.random.default_rng(0).standard_normal((9000, 2)), 8000)
    assert cli.main(["separate", str(song), "--model", str(model), "--outdir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "song" / "bass.wav").exists()

    # There is a run in it: it is refused, or gone on with, by its own settings.
    capsys.readouterr()
    assert run("--target", "bass", "--epochs", 3, "--output", model, *TINY) == 2
    assert "expected no run of bass in it" in error_of(capsys)
    assert run("--target", "bass", "--epochs", 3, "--output", model, "--resume", *TINY, "--clip", 1) == 2
    assert "expected the run's own settings.clip = None to resume it, got 1.0" in error_of(capsys)
    assert run("--target", "bass", "--epochs", 3, "--checkpoint", model, *TINY) == 0
    assert json.loads((model / "bass.json").read_text())["metadata"]["epochs_trained"] == 3

    # Others start from it.
    tuned = ["--target", "bass", "--epochs", 1, "--output", tmp_path / "tuned", "--model", model, *TINY]
    assert run(*tuned, "--hidden-size", 6) == 2
    assert f"--hidden-size: expected 4, as {model} has, got 6" in error_of(capsys)
    assert run(*tuned) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "aligned"], "root: expected the folder of the data set aligned, got none"),
        (["--dataset", "musdb", "--root", "{empty}"], "{empty}"),
        (
            ["--dataset", "musdb", "--root", "{empty}/none"],
            "{empty}/none: expected a folder, got nothing there",
        ),
        (["--dataset", "synthetic", "--target", "piano"], "targets: expected names among vocals, drums"),
        (["--dataset", "synthetic", "--model", "{empty}"], "{empty}: expected a model"),
        (["--dataset", "synthetic", "--model", "umxx"], "model: expected one of umx-open, umx, "),
        (["--dataset", "synthetic", "--hidden-size", "5"], "hidden_size: expected an even number"),
        (["--dataset", "synthetic", "--lr", "-1"], "learning_rate: expected a positive number, got -1.0"),
        (["--dataset", "synthetic", "--epochs", "0"], "epochs: expected an int of at least 1, got 0"),
        (["--dataset", "synthetic", "--ema", "1"], "ema: expected a number below 1, got 1.0"),
        (["--dataset", "synthetic", "--host-index", "1"], "expected with --coordinator"),
        (["--dataset", "synthetic", "--coordinator", "localhost:1"], "expected --hosts N and --host-index"),
        (["--dataset", "trackfolder_fix", "--root", "{short}"], "expected"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line(arguments, message, tmp_path, capsys):
    folders = {name: tmp_path / name for name in ("empty", "short")}
    for folder in folders.values():
        folder.mkdir()
    for split in ("train", "valid"):
        track = folders["short"] / split / "track"
        track.mkdir(parents=True)
        for name in ("vocals", "bass", "drums"):
            soundfile.write(track / f"{name}.wav", np.zeros((1000, 2)), 44100)
    filled = [argument.format(**folders) for argument in arguments]
    assert run(*filled, "--output", tmp_path / "output") == 2
    assert message.format(**folders) in error_of(capsys)


def test_a_file_damaged_midway_is_one_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        track = tmp_path / "root" / split / "track"
        track.mkdir(parents=True)
        for name in ("vocals", "bass", "drums"):
            soundfile.write(track / f"{name}.flac", 0.1 * rng.standard_normal((20000, 2)), 8000)
    path = tmp_path / "root" / "train" / "track" / "vocals.flac"
    sound = bytearray(path.read_bytes())
    sound[len(sound) // 4 :] = rng.bytes(len(sound) - len(sound) // 4)
    path.write_bytes(sound)
    arguments = ["--dataset", "trackfolder_fix", "--root", tmp_path / "root", "--target-file", "vocals.flac"]
    arguments += ["--interferer-files", "bass.flac", "drums.flac", "--debug", *TINY[4:], "--epochs", 1]
    assert run(*arguments, "--output", tmp_path / "output") == 2
    assert "vocals.flac" in error_of(capsys)


def test_help_and_defaults_are_open_unmixs():
    defaults = vars(train.get_parser().parse_args([]))
    expected = {
        "epochs": 1000, "batch_size": 16, "lr": 1e-3, "patience": 140, "lr_decay_patience": 80,
        "lr_decay_gamma": 0.3, "weight_decay": 1e-5, "seed": 42, "seq_dur": 6.0, "nfft": 4096, "nhop": 1024,
        "hidden_size": 512, "bandwidth": 16000, "nb_channels": 2, "nb_workers": 0, "dataset": "musdb",
        "output": Path("open-unmix"), "root": None, "model": None, "checkpoint": None, "unidirectional": False,
    }  # fmt: skip
    assert {name: defaults[name] for name in expected} == expected
