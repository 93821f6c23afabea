"""Pictures: the right numbers in the right places. What they look like is for eyes."""

import io
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from jaxsep import plot


def drawn(figure):
    """The figure's size in pixels, drawn: what matplotlib finds wrong, it finds while drawing."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=30)
    return len(file.getvalue())


@pytest.fixture
def magnitude(rng):
    return rng.random((2, 33, 20)) + 0.1


def test_spectrogram_shows_decibels_on_axes_with_units(magnitude):
    figure = plot.spectrogram(
        magnitude * 1j, sample_rate=8000, hop_length=16, title="noise", dynamic_range=30
    )
    ax, bar = figure.axes
    (image,) = ax.images
    expected = 10 * np.log10((magnitude**2).mean(axis=0))
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == pytest.approx((expected.max() - 30, expected.max()))
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("s", "Hz", "dB")
    assert ax.get_title(loc="left") == "noise"
    left, right, bottom, top = image.get_extent()
    assert (left, right) == pytest.approx((-0.001, 0.039)) and (bottom, top) == pytest.approx((-62.5, 4062.5))
    assert image.origin == "lower" and drawn(figure)


def test_without_a_rate_axes_count(magnitude):
    ax = plot.spectrogram(magnitude).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("frame", "bin")


def test_spectrograms_share_their_colours(magnitude):
    figure = plot.spectrograms({"mixture": magnitude, "tenth": magnitude / 10, "silence": 0 * magnitude})
    limits = [ax.images[0].get_clim() for ax in figure.axes[:3]]
    assert len(set(limits)) == 1 and drawn(figure)
    assert plot.spectrograms({"a": magnitude}, top=0.0).axes[0].images[0].get_clim() == (-80.0, 0.0)


def test_masks_go_from_nothing_to_all(rng):
    m = rng.random((3, 2, 9, 7))
    figure = plot.masks(m, ["a", "b", "c"])
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), m[1].mean(axis=0))
    assert {ax.images[0].get_clim() for ax in figure.axes[:3]} == {(0, 1)} and drawn(figure)


@pytest.mark.parametrize("lags", [(), (4,)])
def test_components_are_drawn_one_a_row(rng, lags):
    w, h = rng.random((16, 3, *lags)), rng.random((3, 12))
    figure = plot.components(w, h, names=["kick", "snare", "hat"], sample_rate=8000, hop_length=64)
    templates = [ax for ax in figure.axes if ax.get_ylabel() in ("kick", "snare", "hat")]
    assert [ax.get_ylabel() for ax in templates] == ["kick", "snare", "hat"]
    activations = [ax.lines[0].get_ydata() for ax in figure.axes if len(ax.lines) == 1]
    np.testing.assert_array_equal(activations, h)
    assert len(figure.axes) == 6 + (not lags) and drawn(figure)
    if lags:
        low, high = templates[0].images[0].get_clim()
        assert high == pytest.approx(20 * np.log10(w[:, 0].max())) and high - low == 60


def test_curves_mark_the_best_and_leave_gaps():
    figure = plot.curves({"train": [3, 2, 1], "valid": [4, np.nan, 2.5, 3]}, best="valid", logarithmic=True)
    train, valid, mark = figure.axes[0].lines
    assert list(train.get_xdata()) == [1, 2, 3] and np.isnan(valid.get_ydata()[1])
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (3, 2.5)
    assert figure.axes[0].get_yscale() == "log" and drawn(figure)


def test_a_single_frame_leaves_the_bins_their_width():
    (image,) = plot.spectrogram(np.ones((5, 1)), sample_rate=8000, hop_length=80).axes[0].images
    assert image.get_extent() == pytest.approx([-0.5, 0.5, -500, 4500])


def test_tiny_pictures_can_be_drawn():
    assert drawn(plot.spectrogram(np.ones((1, 1)), sample_rate=10, hop_length=1))
    assert drawn(plot.components(np.ones((1, 1)), np.ones((1, 1))))
    assert drawn(plot.curves({"one": [1.0]}, best="one"))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.spectrogram(np.ones(3)), r"got \(3,\)"),
        (lambda: plot.spectrogram(np.ones((0, 3))), r"got \(0, 3\)"),
        (lambda: plot.spectrograms({}), "got none"),
        (lambda: plot.spectrogram(np.eye(2), dynamic_range=0), "dynamic_range"),
        (lambda: plot.masks(np.ones((2, 2))), r"got \(2, 2\)"),
        (lambda: plot.masks(np.ones((2, 2, 2)), ["one"]), "names: expected 2"),
        (lambda: plot.components(np.ones((4, 2)), np.ones((3, 5))), r"\(4, 2\) and \(3, 5\)"),
        (lambda: plot.components(np.ones((4, 2)), np.ones((2, 5)), np.ones((4, 4))), r"expected v"),
        (lambda: plot.curves({}), "got none"),
        (lambda: plot.curves({"a": [[1.0]]}), r"\(1, 1\)"),
        (lambda: plot.curves({"a": [1.0]}, best="b"), "expected one of a"),
    ],
)
def test_bad_input(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_matplotlib_is_imported_when_it_is_needed():
    code = "import sys, jaxsep.plot; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=r"jaxsep\[plot\]"):
        plot.spectrogram(np.eye(3))


def test_coloured_components_keep_their_hue_and_fade_with_their_level():
    models = np.zeros((2, 4, 3))
    models[0, 1, 0], models[1, 2, 1], models[:, 3, 2] = 1.0, 1e-2, 0.5
    figure = plot.coloured(models, ["kick", "snare"], sample_rate=8000, hop_length=16)
    (image,) = figure.axes[0].images
    picture = np.asarray(image.get_array())
    assert picture.shape == (4, 3, 3)
    np.testing.assert_array_equal(picture[0, 0], 1)  # silence is white
    kick, snare = picture[1, 0], picture[2, 1]
    assert kick.argmin() != snare.argmin()
    assert (1 - snare).max() < (1 - kick).max() and drawn(figure)
    with pytest.raises(ValueError, match=r"\(component, freq, frame\), got \(4, 3\)"):
        plot.coloured(models[0])
    with pytest.raises(ValueError, match="names: expected 2"):
        plot.coloured(models, ["kick"])
    with pytest.raises(ValueError, match="dynamic_range"):
        plot.coloured(models, dynamic_range=0)
    assert drawn(plot.coloured(np.ones((12, 4, 3))))
