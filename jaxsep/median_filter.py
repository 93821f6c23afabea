"""Running median along one axis, as a network of minima and maxima."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["median", "median_filter"]


def median_filter(
    x: Float[Array, "..."], size: int, *, axis: int = -1, mode: str = "symmetric"
) -> Float[Array, "..."]:
    """Median of `size` neighbours along an axis.

    Each output is selected by about ``3/8 size**2`` comparisons that all positions make at once: pure
    elementwise work, many times faster than sorting every window.

    Args:
        x: any shape.
        size: window length, 1 or more; an even window reaches one further back, and its median is the larger
            of the two middle values, as in SciPy.
        axis: the axis to filter.
        mode: what lies beyond the ends: "symmetric" (reflected, the end value repeated; what SciPy calls
            "reflect") or "constant" (zeros).

    Returns:
        The medians, in the shape and dtype of `x`.

    Raises:
        ValueError: `size` is below 1.

    Example:
        >>> median_filter(jnp.array([1.0, 9.0, 2.0, 3.0]), 3).tolist()
        [1.0, 2.0, 3.0, 3.0]

    References:
        A. W. Paeth: Median finding on a 3x3 grid. Graphics Gems, 1990 (selection that forgets extremes).
    """
    x = jnp.asarray(x)
    if size < 1:
        raise ValueError(f"size must be 1 or more, got {size}")
    x = jnp.moveaxis(x, axis, -1)
    length = x.shape[-1]
    if mode == "symmetric":
        # numpy's own padding gives the order; it also folds windows that are longer than the axis.
        order = np.pad(np.arange(length), (size // 2, size - 1 - size // 2), mode="symmetric")
        padded = x[..., order]
    elif mode == "constant":
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)])
    else:
        raise ValueError(f"mode must be symmetric or constant, got {mode!r}")
    windows = [padded[..., i : i + length] for i in range(size)]
    if size % 2 == 0:
        windows.append(jnp.full_like(x, jnp.inf))
    return jnp.moveaxis(median(windows), -1, axis)


def median(values: Sequence[Array]) -> Array:
    """Elementwise median of an odd number of arrays.

    Of any ``n // 2 + 2`` among n values neither the smallest nor the largest can be the median: forget both,
    take in one more value, repeat.

    Args:
        values: an odd number of arrays of one shape.

    Returns:
        An array of that shape.

    Raises:
        ValueError: an even number of arrays, or none.

    Example:
        >>> median([jnp.array([1.0, 9.0]), jnp.array([3.0, 2.0]), jnp.array([2.0, 4.0])]).tolist()
        [2.0, 4.0]

    References:
        A. W. Paeth: Median finding on a 3x3 grid. Graphics Gems, 1990.
    """
    n = len(values)
    if n % 2 == 0:
        raise ValueError(f"values must be an odd number of arrays, got {n}")
    if n == 1:
        return values[0]
    pool, waiting = list(values[: n // 2 + 2]), list(values[n // 2 + 2 :])
    while True:
        pool = _extremes_to_ends(pool)[1:-1]
        if not waiting:
            return pool[0]
        pool.append(waiting.pop(0))


def _extremes_to_ends(values: list[Array]) -> list[Array]:
    """The same values with the smallest first and the largest last."""
    n = len(values)

    def exchange(i: int, j: int) -> None:
        values[i], values[j] = jnp.minimum(values[i], values[j]), jnp.maximum(values[i], values[j])

    for i in range(n // 2):
        exchange(i, n - 1 - i)
    for i in range(1, (n + 1) // 2):
        exchange(0, i)
    for i in range(n // 2, n - 1):
        exchange(i, n - 1)
    return values
