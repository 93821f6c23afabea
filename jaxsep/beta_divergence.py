"""The beta-divergence and what multiplicative updates need of it, shared by `nmf` and `nmfd`.

Spectrograms come here divided by their level: powers of quiet ones would leave the range of float32
(1e-6 ** -7), and the floor that keeps divisions finite is then one number, the rounding unit of the dtype.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsep.row_blocks import concatenated_over_rows, summed_over_rows

__all__ = [
    "Penalty",
    "as_magnitude",
    "beta_divergence",
    "elastic_penalties",
    "h_terms",
    "in_units",
    "level",
    "mm_exponent",
    "model_divergence",
    "multiplied",
    "penalties_in_units",
    "update_weights",
    "w_terms",
]

Penalty = tuple[Float[Array, ""] | float, Float[Array, ""] | float]  # l1, l2


def as_magnitude(v: Array) -> Float[Array, "*batch freq frame"]:
    """`v` as a real floating-point array with at least two dimensions and one value.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: ``v`` has fewer than two dimensions, or no bin or frame.
    """
    v = jnp.asarray(v)
    if jnp.iscomplexobj(v):
        raise TypeError(f"expected a real magnitude spectrogram, got {v.dtype}: take jnp.abs first")
    if v.ndim < 2 or not v.size:
        raise ValueError(
            f"expected magnitudes (..., freq, frame) of one bin and frame or more, got {v.shape}"
        )
    return v if jnp.issubdtype(v.dtype, jnp.floating) else v.astype(jnp.float32)


def level(v: Float[Array, "*batch freq frame"]) -> Float[Array, "*batch 1 1"]:
    """The power of two next above the mean over bins and frames, 1 where that is 0: dividing by it is exact."""
    mean = jnp.mean(v, axis=(-2, -1), keepdims=True)
    _, exponent = jnp.frexp(jnp.where(mean > 0, mean, 0.5))
    return jnp.ldexp(jnp.ones_like(mean), exponent)


def in_units(
    v: Float[Array, "*batch freq frame"], unit: Float[Array, "*batch 1 1"], beta: float
) -> Float[Array, "*batch freq frame"]:
    """`v` over its level, with a floor where the divergence of 0 is infinite."""
    v = v / unit
    return jnp.maximum(v, jnp.finfo(v.dtype).eps) if beta <= 0 else v


def beta_divergence(
    v: Float[Array, "*batch freq frame"], v_hat: Float[Array, "*batch freq frame"], beta: float
) -> Float[Array, "*batch"]:
    """The sum over bins and frames of the divergence of `v_hat` from `v`, which is `in_units`."""
    q = _floored(v_hat, beta)
    if beta == 2:
        terms = 0.5 * (v - q) ** 2
    elif beta == 1:
        # Inside the logarithm the smallest number only keeps 0 log 0 and its derivatives finite.
        terms = v * jnp.log(v / q + jnp.finfo(v.dtype).tiny) - v + q
    elif beta == 0:
        ratio = v / q
        terms = ratio - jnp.log(ratio) - 1
    else:
        terms = _power(v, beta) + (beta - 1) * _power(q, beta) - beta * v * _power(q, beta - 1)
        terms = terms / (beta * (beta - 1))
    # In two stages: the rounding error of a float32 sum grows with the length of a run.
    return terms.sum(axis=-1).sum(axis=-1)


def update_weights(
    v: Float[Array, "*batch freq frame"], v_hat: Float[Array, "*batch freq frame"], beta: float
) -> tuple[Float[Array, "*batch freq frame"], Float[Array, "*batch freq frame"] | None]:
    """``v v_hat^(beta - 2)`` and ``v_hat^(beta - 1)``, minus and plus part of the derivative in `v_hat`.

    The second is None where it is 1 everywhere (beta 1).
    """
    q = _floored(v_hat, beta)
    if beta == 1:
        return v / q, None
    if beta == 0:
        inverse = 1 / q  # the only division: an update takes a seventh less than by `_power`
        return v * (inverse * inverse), inverse
    power = _power(q, beta - 2)
    return v * power, q * power


def model_divergence(
    v: Float[Array, "freq frame"],
    w: Float[Array, "freq component"],
    h: Float[Array, "component frame"],
    beta: float,
) -> Float[Array, ""]:
    """The divergence of ``w h`` from `v`, which is `in_units`, without forming ``w h`` as a whole."""
    return summed_over_rows(lambda v, w: beta_divergence(v, w @ h, beta), v, w)


def w_terms(
    v: Float[Array, "freq frame"],
    w: Float[Array, "freq component"],
    h: Float[Array, "component frame"],
    beta: float,
) -> tuple[Float[Array, "freq component"], Float[Array, "_ component"]]:
    """Numerator and denominator of the update of `w`."""
    if beta == 2:
        # By the small matrix h h': w h itself is never formed.
        return v @ h.mT, w @ (h @ h.mT)
    if beta == 1:
        (numerator,) = concatenated_over_rows(lambda v, w: (update_weights(v, w @ h, 1)[0] @ h.mT,), v, w)
        return numerator, h.sum(axis=-1)[None, :]
    return concatenated_over_rows(
        lambda v, w: tuple(weight @ h.mT for weight in update_weights(v, w @ h, beta)), v, w
    )


def h_terms(
    v: Float[Array, "freq frame"],
    w: Float[Array, "freq component"],
    h: Float[Array, "component frame"],
    beta: float,
) -> tuple[Float[Array, "component frame"], Float[Array, "component _"]]:
    """Numerator and denominator of the update of `h`."""
    if beta == 2:
        return w.mT @ v, (w.mT @ w) @ h
    if beta == 1:
        numerator = summed_over_rows(lambda v, w: w.mT @ update_weights(v, w @ h, 1)[0], v, w)
        return numerator, w.sum(axis=-2)[:, None]
    return summed_over_rows(
        lambda v, w: tuple(w.mT @ weight for weight in update_weights(v, w @ h, beta)), v, w
    )


def multiplied(
    factor: Float[Array, "..."],
    numerator: Float[Array, "..."],
    denominator: Float[Array, "..."],
    beta: float,
    penalty: Penalty | None = None,
) -> Float[Array, "..."]:
    """``factor * (numerator / (denominator + l1 + l2 factor)) ** exponent``.

    The exponent is that of majorisation-minimisation, which cannot overshoot.
    """
    if penalty is not None:
        l1, l2 = penalty
        denominator = denominator + l1 + l2 * factor
    # A denominator of 0 has a numerator of 0: the component is silent, and stays so. The inner where keeps
    # the derivative of the quotient finite there.
    alive = denominator > 0
    ratio = jnp.where(alive, numerator / jnp.where(alive, denominator, 1), 0)
    if beta != 0 and mm_exponent(beta) != 1:
        ratio = ratio ** mm_exponent(beta)
    return factor * (jnp.sqrt(ratio) if beta == 0 else ratio)


def mm_exponent(beta: float) -> float:
    """The exponent of majorisation-minimisation: 1/(2 - beta) below 1, 1/(beta - 1) above 2, else 1."""
    if beta < 1:
        return 1 / (2 - beta)
    return 1 / (beta - 1) if beta > 2 else 1.0


def elastic_penalties(
    v: Array, alpha_w: float, alpha_h: float | None, l1_ratio: float
) -> tuple[Penalty, Penalty] | None:
    """Weights of the absolute values and squares of w and of h, by the other factor's length as in scikit-learn.

    None where there is nothing to penalise.

    Raises:
        ValueError: a weight below 0, or `l1_ratio` beyond 0 and 1.
    """
    alpha_h = alpha_w if alpha_h is None else alpha_h
    if all(isinstance(x, (int, float)) for x in (alpha_w, alpha_h, l1_ratio)):
        if alpha_w < 0 or alpha_h < 0 or not 0 <= l1_ratio <= 1:
            raise ValueError(
                "alpha_w and alpha_h must be 0 or more and l1_ratio within 0 and 1, "
                f"got {alpha_w}, {alpha_h} and {l1_ratio}"
            )
        if alpha_w == alpha_h == 0:
            return None
    n_freq, n_frames = v.shape[-2:]
    return (
        (n_frames * alpha_w * l1_ratio, n_frames * alpha_w * (1 - l1_ratio)),
        (n_freq * alpha_h * l1_ratio, n_freq * alpha_h * (1 - l1_ratio)),
    )


def penalties_in_units(
    penalties: tuple[Penalty, Penalty], unit: Array, beta: float
) -> tuple[Penalty, Penalty]:
    """Penalties beside a divergence over ``unit ** beta`` and an h over ``unit``."""
    (l1_w, l2_w), (l1_h, l2_h) = penalties
    scale = unit**-beta
    return (l1_w * scale, l2_w * scale), (l1_h * scale * unit, l2_h * scale * unit**2)


def _floored(v_hat: Float[Array, "..."], beta: float) -> Float[Array, "..."]:
    """A constant background under the model where negative powers of it are taken."""
    return v_hat + jnp.finfo(v_hat.dtype).eps if beta < 2 else v_hat


def _power(x: Float[Array, "..."], exponent: float) -> Float[Array, "..."]:
    """``x ** exponent`` for x ≥ 0, by multiplications where the exponent is a small whole number."""
    if exponent == int(exponent) and abs(exponent) <= 4:
        return lax.integer_pow(x, int(exponent))
    return x**exponent
