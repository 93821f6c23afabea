"""The large matrix products of a net: gradients that copy little, and operands of half precision.

bfloat16 keeps the range of float32 and 8 bits of its mantissa; machines with units for it (TPU, GPU, AMX) multiply
several times faster, and weights, sums and everything between products stay float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["product"]


def product(
    x: Float[Array, "*batch feature"], kernel: Float[Array, "feature out"], *, bf16: bool = False
) -> Float[Array, "*batch out"]:
    """``x @ kernel``.

    Args:
        x: any leading dimensions.
        kernel: a matrix.
        bf16: round the operands to bfloat16, forwards and in both gradients, and add up in float32; the error of each
            term is at most 1/128 of it.

    Returns:
        The product in the precision of ``x``.

    Example:
        >>> product(jnp.ones((5, 3)), jnp.full((3, 2), 0.1), bf16=True)[0, 0]
        Array(0.3002..., dtype=float32)
    """
    return _product(x, kernel, bf16)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: Array, kernel: Array, bf16: bool) -> Array:
    return _dot(x, kernel, ((x.ndim - 1,), (0,)), bf16).astype(x.dtype)


def _forward(x: Array, kernel: Array, bf16: bool) -> tuple[Array, tuple]:
    like = (jnp.zeros((), x.dtype), jnp.zeros((), kernel.dtype))
    if bf16:  # what is kept for the gradients takes half the memory
        x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    made = _dot(x, kernel, ((x.ndim - 1,), (0,)), bf16)
    return made.astype(like[0].dtype), (x, kernel, like)


def _backward(bf16: bool, saved: tuple, gradient: Array) -> tuple[Array, Array]:
    x, kernel, like = saved
    leading = tuple(range(x.ndim - 1))
    d_x = _dot(gradient, kernel, ((x.ndim - 1,), (1,)), bf16)
    # XLA's CPU copies the first operand, transposed: let that be the narrower one. In bfloat16 it knows only the
    # first of these.
    if bf16 or kernel.shape[0] <= kernel.shape[1]:
        d_kernel = _dot(x, gradient, (leading, leading), bf16)
    else:
        d_kernel = _dot(gradient, x, (leading, leading), bf16).T
    return d_x.astype(like[0].dtype), d_kernel.astype(like[1].dtype)


def _dot(a: Array, b: Array, contracted: tuple[tuple[int, ...], tuple[int, ...]], bf16: bool) -> Array:
    if not bf16:
        return lax.dot_general(a, b, (contracted, ((), ())))
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32)


_product.defvjp(_forward, _backward)
