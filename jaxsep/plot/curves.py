"""Numbers over steps: losses, divergences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxsep.plot.canvas import LINE, figure_of_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curves"]


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
    figure, (ax,) = figure_of_rows(1, height=4.0)
    for name, line in lines.items():
        ax.plot(np.arange(1, line.size + 1), line, label=name, **LINE)
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
