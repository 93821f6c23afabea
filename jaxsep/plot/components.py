"""Factorisations: templates, activations and what they add up to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxsep.plot.canvas import (
    COLOURS,
    LINE,
    bin_width,
    blank_figure,
    decibels,
    draw_image,
    figure_of_rows,
    frame_seconds,
    names_or_numbers,
    places,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coloured", "components"]

TEMPLATE_RANGE = 60.0  # dB


def coloured(
    models: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    sample_rate: float | None = None,
    hop_length: int | None = None,
    dynamic_range: float = 60.0,
) -> "Figure":
    """Draw components in one spectrogram, each in a colour of its own.

    The hue of a bin is that of the components in the shares that they have in it, the depth its level in decibels.

    Args:
        models: magnitudes of the components `(component, freq, frame)`, ≥ 0, three or so.
        names: of the components; numbers by default.
        sample_rate: see `spectrogram`.
        hop_length: see `spectrogram`.
        dynamic_range: dB from full depth to white, > 0.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: another number of axes or of names, no bin, or a range that is not above 0.

    Example:
        >>> figure = coloured(np.stack([np.eye(5), np.eye(5)[::-1]]), ["up", "down"])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['up', 'down']

    References:
        C. Dittmar, M. Müller: Reverse engineering the Amen break. IEEE/ACM Transactions on Audio, Speech, and
        Language Processing 24(9), 2016, figure 10.
    """
    models = np.asarray(models, float)
    if models.ndim != 3 or not models.size:
        raise ValueError(f"expected magnitudes (component, freq, frame), got {models.shape}")
    if not dynamic_range > 0:
        raise ValueError(f"dynamic_range: expected more than 0 dB, got {dynamic_range}")
    names = names_or_numbers(names, len(models), "component")
    figure, (ax,) = figure_of_rows(1, height=3.6)
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    palette = colormaps["tab10" if len(models) <= 10 else "hsv"]
    marks = range(len(models)) if len(models) <= 10 else np.linspace(0, 1, len(models), endpoint=False)
    colours = np.array([palette(mark)[:3] for mark in marks])
    total = models.sum(axis=0)
    level = decibels(total)
    depth = np.clip(1 + (level - level.max()) / dynamic_range, 0, 1)[..., None]
    hue = np.einsum("kfn,kc->fnc", models / np.where(total > 0, total, 1), colours)
    draw_image(ax, 1 - depth * (1 - hue), sample_rate, hop_length)
    patches = [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)]
    ax.legend(handles=patches, loc="upper right", fontsize="small")
    return figure


def components(
    w: ArrayLike,
    h: ArrayLike,
    v: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    sample_rate: float | None = None,
    hop_length: int | None = None,
) -> "Figure":
    """Draw an NMF: templates in dB at the left, their activations at the right, above them what they explain.

    Args:
        w: templates `(freq, component)`, or those of an NMFD `(freq, component, lag)`; ≥ 0.
        h: activations `(component, frame)`, ≥ 0.
        v: the spectrogram that they explain, `(freq, frame)`; by default their product, and nothing where
            templates have lags.
        names: of the components; numbers by default.
        sample_rate: see `spectrogram`.
        hop_length: see `spectrogram`.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: shapes that do not go together.

    Example:
        >>> figure = components(np.eye(6)[:, :2], np.ones((2, 9)))
        >>> len(figure.axes)  # the product, and two a component
        5
    """
    w, h = np.asarray(w), np.asarray(h)
    if w.ndim not in (2, 3) or h.ndim != 2 or w.shape[1] != h.shape[0] or not w.size or not h.size:
        raise ValueError(
            f"expected w (freq, component) or (freq, component, lag) and h (component, frame), "
            f"got {w.shape} and {h.shape}"
        )
    v = w @ h if v is None and w.ndim == 2 else v
    if v is not None and np.shape(v) != (len(w), h.shape[1]):
        raise ValueError(f"expected v (freq, frame) = {(len(w), h.shape[1])}, got {np.shape(v)}")
    n_components, top_rows = len(h), 0 if v is None else 1
    names = names_or_numbers(names, n_components, "component")
    figure = blank_figure(9.0, 1.1 * n_components + 2.6 * top_rows)
    grid = figure.add_gridspec(
        top_rows + n_components, 2, width_ratios=(1, 3), height_ratios=[2.4] * top_rows + [1] * n_components
    )
    if v is not None:
        ax = figure.add_subplot(grid[0, 1])
        picture = decibels(v)
        loudest = float(picture.max())
        draw_image(ax, picture, sample_rate, hop_length, vmin=loudest - 80, vmax=loudest, cmap=COLOURS)
    frequencies, unit = places(len(w), bin_width(len(w), sample_rate), "Hz", "bin")
    times, time_unit = places(h.shape[1], frame_seconds(sample_rate, hop_length), "s", "frame")
    for k, name in enumerate(names):
        template = figure.add_subplot(grid[top_rows + k, 0])
        if w.ndim == 3:
            picture = decibels(w[:, k])
            loudest = float(picture.max())
            floor = loudest - TEMPLATE_RANGE
            draw_image(template, picture, sample_rate, None, vmin=floor, vmax=loudest, cmap=COLOURS)
        else:
            # In decibels: on a linear scale the lowest partials would hide all others.
            level = decibels(w[:, k : k + 1])[:, 0]
            floor = float(level.max()) - TEMPLATE_RANGE
            template.fill_between(frequencies, floor, np.maximum(level, floor), color="0.45", linewidth=0)
            template.set_ylim(floor, None)
            template.set_xlim(frequencies[0], frequencies[-1] or 1)
        template.set(ylabel=name, yticks=[], xlabel="")
        activation = figure.add_subplot(grid[top_rows + k, 1])
        activation.plot(times, h[k], color="0.2", **LINE)
        activation.set(xlim=(times[0], times[-1] or 1), yticks=[], ylim=(0, None))
        if k == n_components - 1:
            template.set_xlabel("lag" if w.ndim == 3 else unit)
            activation.set_xlabel(time_unit)
        else:
            template.tick_params(labelbottom=False)
            activation.tick_params(labelbottom=False)
    return figure
