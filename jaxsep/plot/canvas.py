"""Figures, axes and units that the pictures share."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "magma"
LINE = {"linewidth": 1.4}


def blank_figure(width: float, height: float) -> "Figure":
    """A figure of so many inches that belongs to no window."""
    try:
        from matplotlib.figure import Figure  # not pyplot, which keeps every figure and may open windows
    except ImportError:
        raise ValueError(
            "plot: expected matplotlib, got an installation without: pip install 'jaxsep[plot]'"
        ) from None

    class Picture(Figure):
        """A figure that notebooks show by itself; of pyplot's they know how to, once pyplot has made one."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Picture(figsize=(width, height), layout="constrained")


def figure_of_rows(n_rows: int, *, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure of rows that share the time axis; `height` inches each."""
    figure = blank_figure(9.0, height * n_rows)
    axes = figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0]
    for ax in axes:
        ax.label_outer()
    return figure, list(axes)


def draw_image(
    ax: "Axes",
    picture: Float[np.ndarray, "freq frame *colour"],
    sample_rate: float | None,
    hop_length: int | None,
    **style: Any,
) -> Any:
    """One picture with its axes in Hz and seconds where these are known, its first row at the bottom."""
    n_freqs, n_frames = picture.shape[:2]
    frequencies, unit = places(n_freqs, bin_width(n_freqs, sample_rate), "Hz", "bin")
    times, time_unit = places(n_frames, frame_seconds(sample_rate, hop_length), "s", "frame")
    half_bin, half_frame = (places[1] / 2 if len(places) > 1 else 0.5 for places in (frequencies, times))
    extent = (
        times[0] - half_frame,
        times[-1] + half_frame,
        frequencies[0] - half_bin,
        frequencies[-1] + half_bin,
    )
    image = ax.imshow(picture, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **style)
    ax.set_ylabel(unit)
    if ax.get_subplotspec().is_last_row():
        ax.set_xlabel(time_unit)
    return image


def places(n: int, step: float | None, unit: str, count: str) -> tuple[Float[np.ndarray, " n"], str]:
    """Places along an axis, and their unit: numbers where the step is not known."""
    return np.arange(n) * (1 if step is None else step), count if step is None else unit


def bin_width(n_freqs: int, sample_rate: float | None) -> float | None:
    """Hz from one bin to the next; None where the rate is not known."""
    return None if sample_rate is None else sample_rate / 2 / max(1, n_freqs - 1)


def frame_seconds(sample_rate: float | None, hop_length: int | None) -> float | None:
    """Seconds from one frame to the next; None where they are not known."""
    return None if sample_rate is None or hop_length is None else hop_length / sample_rate


def decibels(x: ArrayLike) -> Float[np.ndarray, "freq frame"]:
    """Levels of a spectrogram, the powers of its channels averaged."""
    x = np.abs(np.asarray(x)) ** 2
    if x.ndim not in (2, 3) or not x.size:
        raise ValueError(f"expected a spectrogram (freq, frame) or (channel, freq, frame), got {x.shape}")
    power = x.mean(axis=0) if x.ndim == 3 else x
    return 10 * np.log10(np.maximum(power, 1e-20))


def names_or_numbers(names: Sequence[str] | None, n: int, what: str) -> Sequence[str]:
    """The given names, or `what` with a number."""
    if names is not None and len(names) != n:
        raise ValueError(f"names: expected {n}, one a {what}, got {len(names)}")
    return [f"{what} {k + 1}" for k in range(n)] if names is None else names
