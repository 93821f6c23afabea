"""The notebooks and examples run, at small sizes, and hold no outputs too large to read on a page."""

import json
import re
import runpy
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
TINY_FLAGS = """
    --batch-size 2 --seq-dur 0.5 --hidden-size 8 --nfft 512 --nhop 256 --samples-per-track 1
    --sample-rate 8000 --bandwidth 4000
"""
TINY = {
    "nmf": {"N_BARS": 1, "N_STEPS": 3},
    "separate_colab": {"SECONDS": 0.2, "OUTPUT": None},  # a folder of the test's
    "train_colab": {"TARGETS": ["bass", "drums"], "EPOCHS": 2, "FLAGS": TINY_FLAGS.split(), "OUTPUT": None},
}


@pytest.fixture
def no_display(monkeypatch):
    """Stands in for IPython, which a test need not install; returns what was displayed."""
    shown = []
    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython, package.version_info = (lambda: None), (8, 24)
    module.Audio = lambda data, rate: (np.shape(data), rate)
    module.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.fixture
def usual_promotion():
    """Notebooks and examples are for users, whose JAX promotes ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


def notebooks():
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebooks_run(path, no_display, pyplot, usual_promotion, capsys, tmp_path):
    """Every code cell in order, with tiny parameters in place of those of the cell tagged so."""
    from matplotlib.figure import Figure

    names, expected_figures = {}, 0
    tiny = {name: tmp_path if name == "OUTPUT" else value for name, value in TINY[path.stem].items()}
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        if cell["cell_type"] != "code":
            continue
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert tiny.keys() <= names.keys()
            names |= tiny
        expected_figures += sum("image/png" in output.get("data", {}) for output in cell["outputs"])
    shown = [thing for thing in no_display if isinstance(thing, Figure)]
    figures = shown + [pyplot.figure(number) for number in pyplot.get_fignums()]
    assert len(figures) == expected_figures > 0
    for figure in figures:
        figure.canvas.draw()  # what is wrong with a picture shows when it is drawn
    assert len(no_display) > len(shown), "expected sounds to be displayed, got none"
    assert float(re.search(r"differs? from the \w+ by (\S+)", capsys.readouterr().out)[1]) < 1e-5


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebooks_are_small_and_executed(path):
    assert path.stat().st_size < 300_000
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_the_drum_example(tmp_path, pyplot, usual_promotion, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    example = runpy.run_path(str(ROOT / "examples" / "drums.py"))
    assert example["main"](["--output", str(tmp_path), "--steps", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kick", "snare", "hihat"]
    for line in lines:
        after, before = float(line.split()[2]), float(line.split("itself: ")[1].split()[0])
        assert after > 3 and after > before + 3
    assert (tmp_path / "drums.png").stat().st_size > 1000
    sounds = {path.stem: soundfile.read(path)[0] for path in tmp_path.glob("*.wav")}
    np.testing.assert_allclose(sounds["kick"] + sounds["snare"] + sounds["hihat"], sounds["loop"], atol=1e-5)


def test_the_mosaic_example(tmp_path, usual_promotion, capsys):
    example = runpy.run_path(str(ROOT / "examples" / "mosaic.py"))
    arguments = ["--seconds", "1.5", "--output", str(tmp_path)]
    assert example["main"](arguments) == 0
    plain, mosaic = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert mosaic > plain + 0.1
    sounds = {path.stem: soundfile.read(path)[0] for path in tmp_path.glob("*.wav")}
    assert sounds.keys() == {"target", "source", "plain", "mosaic"}
    assert len(sounds["mosaic"]) == len(sounds["target"]) == round(1.5 * example["RATE"])
    assert np.isfinite(sounds["mosaic"]).all() and np.abs(sounds["mosaic"]).max() > 0.01
