"""Computing with a large matrix a few rows at a time, so that what is derived from it stays small and in cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["concatenated_over_rows", "summed_over_rows"]

_BLOCK_ELEMENTS = 2**17  # half a MiB of float32: two or three such stay in a core's second-level cache
_LEAST_ROWS = 512  # fewer make matrix products slow: with 256 an update takes a seventh more on an Intel Xeon

RowFunction = Callable[[Float[Array, "row frame"], Float[Array, "row component"]], Any]


def concatenated_over_rows(
    fn: RowFunction, v: Float[Array, "freq frame"], w: Float[Array, "freq component"]
) -> tuple[Array, ...]:
    """``fn(v, w)`` for a function whose results, a tuple of arrays, have a row for each row of its arguments.

    On CPUs block by block; accelerators are fastest with the whole.
    """

    def blockwise(v: Array, w: Array) -> tuple[Array, ...]:
        n_rows = _rows_in_a_block(v)
        n_blocks = v.shape[0] // n_rows
        blocks = lax.map(lambda i: fn(*_block(v, w, i, n_rows)), jnp.arange(n_blocks))
        parts = [tuple(x.reshape((-1, *x.shape[2:])) for x in blocks)]
        if v.shape[0] % n_rows:
            parts.append(fn(v[n_blocks * n_rows :], w[n_blocks * n_rows :]))
        return tuple(jnp.concatenate(x) for x in zip(*parts, strict=True))

    return _by_platform(fn, blockwise, v, w)


def summed_over_rows(
    fn: RowFunction, v: Float[Array, "freq frame"], w: Float[Array, "freq component"]
) -> Any:
    """``fn(v, w)`` for a function whose results are sums over the rows of its arguments; blocks as above."""

    def blockwise(v: Array, w: Array) -> Any:
        n_rows = _rows_in_a_block(v)
        n_blocks = v.shape[0] // n_rows
        if v.shape[0] % n_rows:
            total = fn(v[n_blocks * n_rows :], w[n_blocks * n_rows :])
        else:
            shapes = jax.eval_shape(lambda: fn(*_block(v, w, 0, n_rows)))
            total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return lax.fori_loop(
            0, n_blocks, lambda i, t: jax.tree.map(jnp.add, t, fn(*_block(v, w, i, n_rows))), total
        )

    return _by_platform(fn, blockwise, v, w)


def _by_platform(whole: RowFunction, blockwise: RowFunction, v: Array, w: Array) -> Any:
    if v.shape[0] < 2 * _rows_in_a_block(v):
        return whole(v, w)
    return lax.platform_dependent(v, w, cpu=blockwise, default=whole)


def _rows_in_a_block(v: Array) -> int:
    return max(_LEAST_ROWS, _BLOCK_ELEMENTS // v.shape[1])


def _block(v: Array, w: Array, i: Array | int, n_rows: int) -> tuple[Array, Array]:
    return tuple(lax.dynamic_slice_in_dim(x, i * n_rows, n_rows) for x in (v, w))
