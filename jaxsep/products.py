"""Large matrix products of half-precision operands, added up in single precision.

bfloat16 keeps the range of float32 and 8 bits of its mantissa; machines with units for it (TPU, GPU, AMX) multiply
several times faster, and weights, sums and everything between products stay float32.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["half_product"]


@jax.custom_vjp
def half_product(
    x: Float[Array, "*batch feature"], kernel: Float[Array, "feature out"]
) -> Float[Array, "*batch out"]:
    """``x @ kernel`` with operands rounded to bfloat16, forwards and in both gradients.

    Args:
        x: any leading dimensions.
        kernel: a matrix.

    Returns:
        The product in the precision of ``x``; the error of each term is at most 1/128 of it.

    Example:
        >>> half_product(jnp.ones((5, 3)), jnp.full((3, 2), 0.1))[0, 0]
        Array(0.3002..., dtype=float32)
    """
    return _forward(x, kernel)[0]


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple]:
    like = (jnp.zeros((), x.dtype), jnp.zeros((), kernel.dtype))
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    made = _dot(x, kernel, ((x.ndim - 1,), (0,)))
    return made.astype(like[0].dtype), (x, kernel, like)


def _backward(saved: tuple, gradient: Array) -> tuple[Array, Array]:
    x, kernel, like = saved
    gradient = gradient.astype(jnp.bfloat16)
    leading = tuple(range(x.ndim - 1))
    d_x = _dot(gradient, kernel, ((x.ndim - 1,), (1,)))
    d_kernel = _dot(x, gradient, (leading, leading))
    return d_x.astype(like[0].dtype), d_kernel.astype(like[1].dtype)


def _dot(a: Array, b: Array, contracted: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32)


half_product.defvjp(_forward, _backward)
