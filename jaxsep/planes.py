"""Complex arrays as two real ones, and sums of arrays, as XLA's CPU computes them eight numbers at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

__all__ = ["Planes", "sum_along", "total"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Planes:
    """Complex numbers in two arrays of equal shape. With complex ones XLA's CPU computes singly.

    Example:
        >>> z = Planes.of(jnp.array([3 + 4j]))
        >>> z.power(), (z * z.conj()).join(), (2j * z.join() + 1)
        (Array([25.], dtype=float32), Array([25.+0.j], dtype=complex64), Array([-7.+6.j], dtype=complex64))
    """

    real: Float[Array, "..."]
    imag: Float[Array, "..."]

    @classmethod
    def of(cls, z: Complex[Array, "..."]) -> "Planes":
        """Take a complex array apart."""
        return cls(jnp.real(z), jnp.imag(z))

    def join(self) -> Complex[Array, "..."]:
        """Put it together again."""
        return lax.complex(self.real, self.imag)

    def conj(self) -> "Planes":
        """Complex conjugate."""
        return Planes(self.real, -self.imag)

    def power(self) -> Float[Array, "..."]:
        """``|z|^2``, without the square root that `abs` would take."""
        return jnp.square(self.real) + jnp.square(self.imag)

    def __getitem__(self, index: Any) -> "Planes":
        return Planes(self.real[index], self.imag[index])

    def __add__(self, other: "Planes") -> "Planes":
        return Planes(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: "Planes") -> "Planes":
        return Planes(self.real - other.real, self.imag - other.imag)

    def __mul__(self, other: "Planes | Array") -> "Planes":
        if not isinstance(other, Planes):  # a real gain
            return Planes(self.real * other, self.imag * other)
        return Planes(
            self.real * other.real - self.imag * other.imag, self.real * other.imag + self.imag * other.real
        )


def total(terms: Iterable[Any]) -> Any:
    """Sum of one or more arrays or :class:`Planes`."""
    return reduce(add, terms)


def sum_along(z: Array, axis: int) -> Array:
    """``z.sum(axis)`` for a short axis, such as that of the sources, slice by slice.

    Where no other axis goes before it XLA's CPU would sum number by number, and take twenty times as long.

    Example:
        >>> sum_along(jnp.array([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        Array([4., 6.], dtype=float32)
    """
    return total(jnp.unstack(z, axis=axis))
