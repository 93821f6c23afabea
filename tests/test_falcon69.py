"""The example that scores the song in the package `stempeg`."""

import importlib.util
from pathlib import Path

import pytest

from jaxsep import scores
from jaxsep.io import musdb

EXAMPLE = Path(__file__).parents[1] / "examples" / "falcon69.py"


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("falcon69", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_song_there_is_one_line(example, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(example.importlib.util, "find_spec", lambda name: None)
    assert example.main(["--outdir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "pip install --no-deps stempeg" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("stempeg") is None, reason="the song is not here")
def test_stems_are_written_and_scored_once(example, monkeypatch, tmp_path, capsys):
    pytest.importorskip("av")
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path / "cache"))
    arguments = ["--outdir", str(tmp_path), "--oracle", "irm", "mixture", "--filters-len", "4"]
    assert example.main(arguments) == 0
    (track,) = musdb.find_tracks(tmp_path / "truth")
    sounds, rate = musdb.load_stems(track)
    assert list(sounds) == list(musdb.STEMS)
    assert {sound.shape for sound in sounds.values()} == {(2, round(5.85 * rate))}
    (best,), (least,) = (
        scores.load_scores(tmp_path / name) for name in ("ideal-ratio-mask", "mixture-in-equal-shares")
    )
    for stem in musdb.STEMS:
        assert best.targets[stem].median("SDR") > least.targets[stem].median("SDR") + 3
    capsys.readouterr()
    assert example.main(arguments) == 0
    assert capsys.readouterr().out.count("(known)") == 2
