"""The README's table of speed says what the benchmarks measured."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document(*rows):
    machine = {"cores": 2, "cpu": "Abacus", "devices": ["cpu"]}
    return {"machine": machine, "rows": [dict(row) for row in rows]}


def test_the_readme_agrees_with_the_results(speed):
    page = speed.README.read_text()
    assert speed.inserted(page, speed.table(speed.load_results())) == page


def test_a_line_is_two_figures_and_their_ratio(speed):
    shared = {"seconds": 30.0, "n_iters": 1}
    slow = {**shared, "contender": "openunmix", "median_s": 2.0}
    fast = {**shared, "contender": "jaxsep", "median_s": 0.5}
    text = speed.table({"separation": document(fast, slow, {**slow, "n_iters": 2, "median_s": 9.0})})
    assert "| open-unmix | 2.00 s | 0.50 s | 4.00 |" in text
    assert "2 cores of Abacus." in text and text.count("open-unmix") == 1


def test_what_was_not_measured_beside_an_original_is_left_out(speed):
    alone = document({"seconds": 30.0, "n_iters": 1, "contender": "jaxsep", "median_s": 0.5})
    assert speed.table({"separation": alone}) == speed.table({}) == speed.NOTHING


def test_a_page_without_the_comments_is_refused(speed):
    with pytest.raises(ValueError, match="speed table"):
        speed.inserted("# jaxsep", "| a |")
