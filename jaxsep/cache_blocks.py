"""Making a large array a part at a time, so that what leads to each part stays in the cache."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

__all__ = ["in_blocks"]


def in_blocks(
    whole: Callable[..., Array], part: Callable[..., Array], *args: Array, block: int, axis: int
) -> Array:
    """``whole(*args)``, on a CPU `block` entries of an axis at a time.

    There each step of the algebra is a pass over memory, unless its arrays stay in the cache. Accelerators want all at
    once, and so does differentiation, which would have to add up a full-sized gradient after each block.

    Args:
        whole: makes the array.
        part: ``part(start, *args)`` makes its entries from `start` on, `block` of them.
        args: arrays.
        block: 1 or more.
        axis: of the result, counted from the end, below 0.

    Returns:
        The array.

    Example:
        >>> def doubled(start, x):
        ...     return 2 * lax.dynamic_slice_in_dim(x, start, 2)
        >>> in_blocks(lambda x: 2 * x, doubled, jnp.arange(3.0), block=2, axis=-1)
        Array([0., 2., 4.], dtype=float32)
    """
    result = jax.eval_shape(whole, *args)
    n = result.shape[axis]
    if block >= n:
        return whole(*args)

    def blockwise(*args: Array) -> Array:
        def write(i: Int[Array, ""], made: Array) -> Array:
            # The last block overlaps its neighbour where blocks do not divide the axis: the same entries again.
            start = jnp.minimum(i * block, n - block)
            # XLA does not split an update in place over threads: keep it from fusing the arithmetic into it.
            some = lax.optimization_barrier(part(start, *args))
            return lax.dynamic_update_slice_in_dim(made, some, start, axis=made.ndim + axis)

        return lax.fori_loop(0, -(-n // block), write, jnp.zeros(result.shape, result.dtype))

    either = jax.custom_jvp(lambda *args: lax.platform_dependent(*args, cpu=blockwise, default=whole))
    either.defjvp(partial(jax.jvp, whole))
    return either(*args)
