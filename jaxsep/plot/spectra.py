"""Spectrograms and masks: one image a row, on one scale of colours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxsep.plot.canvas import COLOURS, decibels, draw_image, figure_of_rows, names_or_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["masks", "spectrogram", "spectrograms"]


def spectrogram(
    x: ArrayLike,
    *,
    sample_rate: float | None = None,
    hop_length: int | None = None,
    dynamic_range: float = 80.0,
    top: float | None = None,
    title: str = "",
) -> "Figure":
    """Draw a spectrogram in decibels.

    Args:
        x: STFT or magnitudes, `(freq, frame)`, or `(channel, freq, frame)`, whose channels' powers are
            averaged.
        sample_rate: in Hz, for a frequency axis in Hz; else in bins.
        hop_length: samples between frames, for a time axis in seconds together with `sample_rate`; else in
            frames.
        dynamic_range: dB from the brightest colour to the darkest, > 0.
        top: dB of the brightest colour; the loudest bin's by default.
        title: written above.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: another number of axes, no bin, or matplotlib is missing.

    Example:
        >>> figure = spectrogram(np.eye(5), sample_rate=8000, hop_length=4)
        >>> figure.axes[0].get_ylabel()
        'Hz'
    """
    return spectrograms(
        {title: x},
        sample_rate=sample_rate,
        hop_length=hop_length,
        dynamic_range=dynamic_range,
        top=top,
    )


def spectrograms(
    x: Mapping[str, ArrayLike],
    *,
    sample_rate: float | None = None,
    hop_length: int | None = None,
    dynamic_range: float = 80.0,
    top: float | None = None,
) -> "Figure":
    """Draw spectrograms one above the other, on one scale of colours: a mixture and its stems, say.

    Args:
        x: spectrograms by title, each as for `spectrogram`.
        sample_rate: see `spectrogram`.
        hop_length: see `spectrogram`.
        dynamic_range: see `spectrogram`.
        top: dB of the brightest colour; the loudest bin's of all by default.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no spectrogram, or one that `spectrogram` refuses.

    Example:
        >>> len(spectrograms({"mixture": np.eye(5), "drums": 0.1 * np.eye(5)}).axes)
        3
    """
    if not x:
        raise ValueError("expected one spectrogram or more, got none")
    if not dynamic_range > 0:
        raise ValueError(f"dynamic_range: expected more than 0 dB, got {dynamic_range}")
    pictures = {title: decibels(value) for title, value in x.items()}
    loudest = max(float(picture.max()) for picture in pictures.values()) if top is None else top
    figure, axes = figure_of_rows(len(pictures), height=2.6)
    for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
        image = draw_image(
            ax, picture, sample_rate, hop_length, vmin=loudest - dynamic_range, vmax=loudest, cmap=COLOURS
        )
        ax.set_title(title, loc="left")
    figure.colorbar(image, ax=axes, label="dB", aspect=12 * len(axes), pad=0.02)
    return figure


def masks(
    m: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    sample_rate: float | None = None,
    hop_length: int | None = None,
) -> "Figure":
    """Draw masks one above the other, from white (0) to dark (1).

    Args:
        m: `(source, freq, frame)`, or `(source, channel, freq, frame)`, whose channels are averaged.
        names: of the sources; numbers by default.
        sample_rate: see `spectrogram`.
        hop_length: see `spectrogram`.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: another number of axes or of names, or no bin.

    Example:
        >>> figure = masks(np.full((2, 5, 4), 0.5), ["vocals", "rest"])
        >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
        ['vocals', 'rest']
    """
    m = np.asarray(m)
    if m.ndim not in (3, 4) or not m.size:
        raise ValueError(
            f"expected masks (source, freq, frame) or (source, channel, freq, frame), got {m.shape}"
        )
    m = m.mean(axis=1) if m.ndim == 4 else m
    names = names_or_numbers(names, len(m), "source")
    figure, axes = figure_of_rows(len(m), height=2.2)
    for ax, mask, name in zip(axes, m, names, strict=True):
        image = draw_image(ax, mask, sample_rate, hop_length, vmin=0, vmax=1, cmap="Greys")
        ax.set_title(name, loc="left")
    figure.colorbar(image, ax=axes, label="share", aspect=12 * len(axes), pad=0.02)
    return figure
