"""Muon: steps along orthogonalised momenta, which move all directions of a matrix alike.

A gradient of a dense layer is nearly of low rank: Adam goes on changing what is loud, and what is rare is learned
late. Muon replaces the momentum ``U S Vᵀ`` of each matrix by nearly ``U Vᵀ``.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of a step: J. Liu
et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, 2025, section 2.2.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

__all__ = ["muon", "orthogonalised"]

_MOMENTUM = 0.95
_RMS = 0.2  # of a step, about Adam's: the same learning rates serve both
# Of an odd polynomial of fifth degree that takes singular values between 0.001 and 1 to about 1 in five goes.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_GOES = 5


class MuonState(NamedTuple):
    """What is kept between steps."""

    momentum: Any


@cache  # the same object again, so that what was compiled with it serves again
def muon(*, weight_decay: float = 1e-5, clip: float | None = None) -> optax.GradientTransformation:
    """The direction of Muon for kernels and of Adam for all else, in the size of Adam's.

    Args:
        weight_decay: of the squared weights that Adam moves, 0 or more.
        clip: a gradient of a larger norm is scaled down to it; None for no limit.

    Example:
        >>> optimizer = muon()
        >>> params = {"kernel": jnp.zeros((4, 2)), "bias": jnp.zeros(2)}
        >>> gradient = {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}
        >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        >>> round(float(updates["bias"][0]), 4)
        1.0
    """
    limit = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    adam = optax.chain(optax.add_decayed_weights(weight_decay), optax.scale_by_adam())
    kinds = {"kernel": _scale_by_muon(), "other": adam}
    return optax.chain(limit, optax.partition(kinds, _kinds))


def _kinds(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "kernel" if path[-1].key.endswith("kernel") else "other", params
    )


def _scale_by_muon() -> optax.GradientTransformation:
    def init(params: Any) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(gradient: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        del params
        momentum = jax.tree.map(lambda m, g: _MOMENTUM * m + g, state.momentum, gradient)
        ahead = jax.tree.map(lambda m, g: _MOMENTUM * m + g, momentum, gradient)  # Nesterov's
        return jax.tree.map(_step, ahead), MuonState(momentum)

    return optax.GradientTransformation(init, update)


def _step(matrix: Float[Array, "*batch row column"]) -> Float[Array, "*batch row column"]:
    # The root mean square of an orthogonal matrix's elements is one over the root of its longer side.
    return _RMS * max(matrix.shape[-2:]) ** 0.5 * orthogonalised(matrix)


def orthogonalised(matrix: Float[Array, "*batch row column"]) -> Float[Array, "*batch row column"]:
    """Nearly ``U Vᵀ`` of ``matrix = U S Vᵀ``: singular values between about 0.7 and 1.2.

    ``X ← (a I + b X Xᵀ + c (X Xᵀ)²) X``, five times; those factors commute, so that they are found from the smaller
    side's Gram matrix alone, and the long matrix is read twice instead of ten times.

    Args:
        matrix: one or several, any scale; zeros stay zeros.

    Returns:
        As many matrices of the same shape.

    Example:
        >>> import numpy as np
        >>> matrix = np.diag([3.0, 0.5]) @ np.ones((2, 3)) + np.eye(2, 3)
        >>> bool(np.all(np.abs(np.linalg.svd(orthogonalised(matrix), compute_uv=False) - 1) < 0.35))
        True
    """
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    norm = jnp.linalg.norm(matrix, axis=(-2, -1), keepdims=True)
    x = matrix / jnp.maximum(norm, 1e-30)
    turned = jnp.swapaxes(x, -1, -2)
    gram = turned @ x if tall else x @ turned
    one = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=gram.dtype), gram.shape)
    factor = one
    for _ in range(_GOES):
        go = a * one + b * gram + c * (gram @ gram)
        factor = go @ factor
        gram = go @ (go @ gram)
    return x @ factor if tall else factor @ x
