"""Pictures of what the library computes: arrays in, a matplotlib Figure out.

matplotlib is an extra (`pip install 'jaxsep[plot]'`), imported at the first picture. The figures belong to no
window and no global state: save them with `figure.savefig("name.png")`; a notebook shows them as they are.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["components", "curves", "masks", "spectrogram", "spectrograms"]

_COLOURS = "magma"
_TEMPLATE_RANGE = 60.0  # dB
_LINE = {"linewidth": 1.4}


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
    pictures = {title: _decibels(value) for title, value in x.items()}
    loudest = max(float(picture.max()) for picture in pictures.values()) if top is None else top
    figure, axes = _figure(len(pictures), height=2.6)
    for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
        image = _image(
            ax, picture, sample_rate, hop_length, vmin=loudest - dynamic_range, vmax=loudest, cmap=_COLOURS
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
    names = _names(names, len(m), "source")
    figure, axes = _figure(len(m), height=2.2)
    for ax, mask, name in zip(axes, m, names, strict=True):
        image = _image(ax, mask, sample_rate, hop_length, vmin=0, vmax=1, cmap="Greys")
        ax.set_title(name, loc="left")
    figure.colorbar(image, ax=axes, label="share", aspect=12 * len(axes), pad=0.02)
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
    names = _names(names, n_components, "component")
    figure = _blank(9.0, 1.1 * n_components + 2.6 * top_rows)
    grid = figure.add_gridspec(
        top_rows + n_components, 2, width_ratios=(1, 3), height_ratios=[2.4] * top_rows + [1] * n_components
    )
    if v is not None:
        ax = figure.add_subplot(grid[0, 1])
        picture = _decibels(v)
        loudest = float(picture.max())
        _image(ax, picture, sample_rate, hop_length, vmin=loudest - 80, vmax=loudest, cmap=_COLOURS)
    frequencies, unit = _axis(len(w), _bin_width(len(w), sample_rate), "Hz", "bin")
    times, time_unit = _axis(h.shape[1], _seconds(sample_rate, hop_length), "s", "frame")
    for k, name in enumerate(names):
        template = figure.add_subplot(grid[top_rows + k, 0])
        if w.ndim == 3:
            picture = _decibels(w[:, k])
            loudest = float(picture.max())
            floor = loudest - _TEMPLATE_RANGE
            _image(template, picture, sample_rate, None, vmin=floor, vmax=loudest, cmap=_COLOURS)
        else:
            # In decibels: on a linear scale the lowest partials would hide all others.
            level = _decibels(w[:, k : k + 1])[:, 0]
            floor = float(level.max()) - _TEMPLATE_RANGE
            template.fill_between(frequencies, floor, np.maximum(level, floor), color="0.45", linewidth=0)
            template.set_ylim(floor, None)
            template.set_xlim(frequencies[0], frequencies[-1] or 1)
        template.set(ylabel=name, yticks=[], xlabel="")
        activation = figure.add_subplot(grid[top_rows + k, 1])
        activation.plot(times, h[k], color="0.2", **_LINE)
        activation.set(xlim=(times[0], times[-1] or 1), yticks=[], ylim=(0, None))
        if k == n_components - 1:
            template.set_xlabel("lag" if w.ndim == 3 else unit)
            activation.set_xlabel(time_unit)
        else:
            template.tick_params(labelbottom=False)
            activation.tick_params(labelbottom=False)
    return figure


def curves(
    history: Mapping[str, ArrayLike],
    *,
    x_label: str = "epoch",
    y_label: str = "loss",
    logarithmic: bool = False,
    best: str | None = None,
) -> "Figure":
    """Draw training curves, or the divergences of an NMF.

    Args:
        history: a curve by name, `(step,)` each, of any lengths; NaN leaves a gap.
        x_label: below.
        y_label: at the left.
        logarithmic: draw the values on a logarithmic scale; they must be > 0.
        best: the name of the curve whose lowest point is marked.

    Returns:
        A matplotlib Figure.

    Raises:
        ValueError: no curve, one that is not one-dimensional, or an unknown `best`.

    Example:
        >>> figure = curves({"train": [3.0, 2.0, 1.5], "valid": [3.1, 2.5, 2.6]}, best="valid")
        >>> [line.get_label() for line in figure.axes[0].lines[:2]]
        ['train', 'valid']
    """
    lines = {name: np.asarray(values, float) for name, values in history.items()}
    wrong = {name: line.shape for name, line in lines.items() if line.ndim != 1 or not line.size}
    if wrong or not lines:
        raise ValueError(f"expected one curve (step,) or more, got {wrong or 'none'}")
    if best is not None and best not in lines:
        raise ValueError(f"best: expected one of {', '.join(lines)}; got {best!r}")
    figure, (ax,) = _figure(1, height=4.0)
    for name, line in lines.items():
        ax.plot(np.arange(1, line.size + 1), line, label=name, **_LINE)
    if best is not None and np.isfinite(lines[best]).any():
        place = int(np.nanargmin(lines[best]))
        ax.plot(place + 1, lines[best][place], "o", color="0.2", markersize=5)
        ax.annotate(
            f"{lines[best][place]:.4g}",
            (place + 1, lines[best][place]),
            textcoords="offset points",
            xytext=(6, -12),
        )
    ax.set(xlabel=x_label, ylabel=y_label, yscale="log" if logarithmic else "linear")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def _blank(width: float, height: float) -> "Figure":
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


def _figure(n_rows: int, *, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure of rows that share the time axis; `height` inches each."""
    figure = _blank(9.0, height * n_rows)
    axes = figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0]
    for ax in axes:
        ax.label_outer()
    return figure, list(axes)


def _image(
    ax: "Axes",
    picture: Float[np.ndarray, "freq frame"],
    sample_rate: float | None,
    hop_length: int | None,
    **style: Any,
) -> Any:
    n_freqs, n_frames = picture.shape
    frequencies, unit = _axis(n_freqs, _bin_width(n_freqs, sample_rate), "Hz", "bin")
    times, time_unit = _axis(n_frames, _seconds(sample_rate, hop_length), "s", "frame")
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


def _axis(n: int, step: float | None, unit: str, count: str) -> tuple[Float[np.ndarray, " n"], str]:
    """Places along an axis, and their unit: numbers where the step is not known."""
    return np.arange(n) * (1 if step is None else step), count if step is None else unit


def _bin_width(n_freqs: int, sample_rate: float | None) -> float | None:
    return None if sample_rate is None else sample_rate / 2 / max(1, n_freqs - 1)


def _seconds(sample_rate: float | None, hop_length: int | None) -> float | None:
    return None if sample_rate is None or hop_length is None else hop_length / sample_rate


def _decibels(x: ArrayLike) -> Float[np.ndarray, "freq frame"]:
    x = np.abs(np.asarray(x)) ** 2
    if x.ndim not in (2, 3) or not x.size:
        raise ValueError(f"expected a spectrogram (freq, frame) or (channel, freq, frame), got {x.shape}")
    power = x.mean(axis=0) if x.ndim == 3 else x
    return 10 * np.log10(np.maximum(power, 1e-20))


def _names(names: Sequence[str] | None, n: int, what: str) -> Sequence[str]:
    if names is not None and len(names) != n:
        raise ValueError(f"names: expected {n}, one a {what}, got {len(names)}")
    return [f"{what} {k + 1}" for k in range(n)] if names is None else names
