r"""Non-negative matrix factorisation of magnitude spectrograms under the beta-divergence.

A magnitude spectrogram is approximated by few spectra (the templates ``w``) and the loudness of each over
time (the activations ``h``), ``v ≈ w h``, by multiplicative updates that never raise the beta-divergence

.. math::
    D_\beta(v \,|\, \hat v) = \sum_{f,n} \frac{v^\beta + (\beta - 1) \hat v^\beta - \beta v \hat v^{\beta-1}}
    {\beta (\beta - 1)}

whose limits are the Itakura-Saito (beta 0) and the generalised Kullback-Leibler divergence (beta 1); beta 2
is half the squared Euclidean distance.

Floor: for beta < 2 the model that is compared with ``v`` is ``w h + floor`` with ``floor = eps * mean(v)``,
eps being the rounding unit of the dtype; for beta ≤ 0 also ``v`` counts as at least ``floor``. A constant
background is a component that is never updated, so that the updates remain exact and monotone while nothing
divides by zero, at any loudness of ``v``.

References:
    C. Févotte, J. Idier: Algorithms for nonnegative matrix factorization with the beta-divergence. Neural
    Computation 23(9), 2011 (updates and their exponent, sections 4.1-4.3).
    D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization. NIPS 2001 (beta 1 and 2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsep.beta_divergence import (
    Penalty,
    as_magnitude,
    beta_divergence,
    elastic_penalties,
    h_terms,
    in_units,
    level,
    multiplied,
    penalties_in_units,
    w_terms,
)
from jaxsep.descent import advance, check_nonnegative, check_steps, degrees, descend
from jaxsep.nmf_init import start

__all__ = ["NMFInfo", "NMFState", "divergence", "fit", "init", "reconstruct", "step"]


class NMFState(NamedTuple):
    """The two factors, all that the next step needs."""

    w: Float[Array, "*batch freq component"]  # templates
    h: Float[Array, "*batch component frame"]  # activations


class NMFInfo(NamedTuple):
    """How a fit went."""

    divergence: Float[Array, "*batch step"]  # after each step
    n_steps: Int[Array, "*batch"]  # steps made


def init(
    v: Float[Array, "*batch freq frame"], n_components: int, *, key: Array, strategy: str = "random"
) -> NMFState:
    """Factors to start from, scaled so that ``w h`` is about as loud as ``v``.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        n_components: number of components, 1 or more.
        key: PRNG key; "uniform" draws nothing from it.
        strategy: "random": absolute values of normal numbers; "uniform": one constant, for the factor that
            accompanies an informed one (equal components never separate by themselves); "nndsvd", "nndsvda",
            "nndsvdar": non-negative double SVD with zeros kept, filled with the mean of ``v``, or with small
            random numbers (zeros stay zero in multiplicative updates: prefer the latter two).

    Returns:
        The state, in the dtype of ``v`` (float32 for integers).

    Raises:
        TypeError: ``v`` is complex.
        ValueError: ``v`` has fewer than two dimensions or a negative or NaN value, no components, more
            components than bins or frames with an SVD strategy, or an unknown strategy.

    Example:
        >>> state = init(jnp.ones((5, 7)), 2, key=jax.random.key(0))
        >>> state.w.shape, state.h.shape
        ((5, 2), (2, 7))

    References:
        C. Boutsidis, E. Gallopoulos: SVD based initialization: a head start for nonnegative matrix
        factorization. Pattern Recognition 41(4), 2008.
    """
    v = as_magnitude(v)
    check_nonnegative(v=v)
    return NMFState(*start(v, n_components, key=key, strategy=strategy))


def reconstruct(state: NMFState) -> Float[Array, "*batch freq frame"]:
    """The model spectrogram ``w h``.

    Args:
        state: factors w (..., freq, component) and h (..., component, frame).

    Returns:
        Magnitudes (..., freq, frame).

    Raises:
        TypeError: the factors differ in their number of components.

    Example:
        >>> reconstruct(NMFState(jnp.ones((5, 2)), jnp.ones((2, 7)))).shape
        (5, 7)
    """
    return state.w @ state.h


def divergence(
    v: Float[Array, "*batch freq frame"], v_hat: Float[Array, "*batch freq frame"], *, beta: float = 1.0
) -> Float[Array, "*batch"]:
    r"""The beta-divergence of a model from a spectrogram, summed over bins and frames.

    Defined, and at least 0 up to rounding, where ``v`` or ``v_hat`` is 0, by the floor that the module's
    docstring states.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        v_hat: the model, same shape, ≥ 0.
        beta: 2 half the squared Euclidean distance, 1 Kullback-Leibler, 0 Itakura-Saito, or any other number.

    Returns:
        One number per leading index, in the unit of ``v`` to the power beta.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: the shapes differ, or fewer than two dimensions.

    Example:
        >>> float(divergence(jnp.full((2, 3), 2.0), jnp.ones((2, 3)), beta=2.0))
        3.0
    """
    v = as_magnitude(v)
    if jnp.shape(v_hat)[-2:] != v.shape[-2:]:
        raise ValueError(f"v_hat must have the shape of v, {v.shape}, got {jnp.shape(v_hat)}")
    unit = level(v)
    return beta_divergence(in_units(v, unit, beta), v_hat / unit, beta) * unit[..., 0, 0] ** beta


def step(
    v: Float[Array, "*batch freq frame"],
    state: NMFState,
    *,
    beta: float = 1.0,
    update_w: bool = True,
    update_h: bool = True,
    alpha_w: float = 0.0,
    alpha_h: float | None = None,
    l1_ratio: float = 0.0,
) -> NMFState:
    r"""One multiplicative update of w and then, with the new w, of h.

    .. math::
        w \leftarrow w \left( \frac{(v\, \hat v^{\beta-2})\, h^T}
        {\hat v^{\beta-1}\, h^T + \lambda_1 + \lambda_2 w} \right)^\gamma

    with the exponent 1 / (2 - beta) for beta < 1, 1 / (beta - 1) for beta > 2 and 1 between.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        state: factors w (..., freq, component) and h (..., component, frame), ≥ 0.
        beta: which divergence, see :func:`divergence`.
        update_w: whether w moves.
        update_h: whether h moves.
        alpha_w: weight of the penalty ``n_frames * (l1_ratio sum(w) + (1 - l1_ratio) / 2 sum(w²))``, ≥ 0.
        alpha_h: the same for h with ``n_freq`` in front; None: as ``alpha_w``.
        l1_ratio: share of the absolute values in the penalties, 0 to 1.

    Returns:
        The next state. A component whose template or activation is all zero stays so.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together.

    Example:
        >>> v = jnp.outer(jnp.arange(1.0, 4.0), jnp.arange(1.0, 5.0))
        >>> state = step(v, NMFState(jnp.ones((3, 1)), jnp.ones((1, 4))))
        >>> bool(jnp.allclose(reconstruct(state), v))
        True
    """
    v, state = as_problem(v, state)
    penalties = elastic_penalties(v, alpha_w, alpha_h, l1_ratio)
    return advance(_stepper(beta, update_w, update_h, penalties), v, state, w_ndim=2, beta=beta)


def fit(
    v: Float[Array, "*batch freq frame"],
    state: NMFState,
    *,
    beta: float = 1.0,
    n_steps: int = 200,
    tol: float | None = None,
    update_w: bool | Float[Array, "*batch component"] = True,
    update_h: bool | Float[Array, "*batch component"] = True,
    adapt_timing: float = 1.0,
    alpha_w: float = 0.0,
    alpha_h: float | None = None,
    l1_ratio: float = 0.0,
    constraint: Callable[[NMFState, Int[Array, ""], int], NMFState] | None = None,
    divergence_every: int = 1,
) -> tuple[NMFState, NMFInfo]:
    """Factorise one or many spectrograms by multiplicative updates.

    Never raises the divergence for beta in [-1, 3] with boolean `update_w` and `update_h`, no penalties and
    no constraint, up to rounding.

    Args:
        v: magnitudes (..., freq, frame), finite, ≥ 0.
        state: factors to start from, w (..., freq, component) and h (..., component, frame), finite, ≥ 0.
            The leading dims of ``v`` and the factors broadcast: several starts of one spectrogram share it.
        beta: which divergence, see :func:`divergence`.
        n_steps: steps at most.
        tol: stop a problem once a round lowers its divergence by less than ``tol`` times the divergence of
            the start. None makes all the steps; only then can the result be differentiated in reverse mode.
        update_w: whether w moves, or a degree per component (..., component): 0 fixed (bit by bit), 1 free,
            between them semi-fixed: after the update w is ``a w + (1 - a) w_start``, ``a = t **
            (adapt_timing (1 - d) / d)`` for degree d and ``t = (step + 1) / n_steps``, so that d = 1/2 opens
            linearly with the steps.
        update_h: the same for h.
        adapt_timing: above 1 semi-fixed components open later, below 1 earlier; > 0.
        alpha_w: weight of the penalty on w, see :func:`step`.
        alpha_h: weight of the penalty on h; None: as ``alpha_w``.
        l1_ratio: share of the absolute values in the penalties, 0 to 1.
        constraint: a pure function ``(state, step, n_steps) -> state`` that is applied before each step, to
            one problem without leading dims; see :mod:`jaxsep.nmf_constraints`. Compiled code is reused for
            the same (or an equal) function.
        divergence_every: measure the divergence after every so many steps and after the last. Measuring
            costs about half a step; steps that are not measured repeat the last measured value.

    Returns:
        The state, and the divergence (without penalties) after each step with the number of steps made;
        after an early stop the divergence repeats its last value.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together, negative, infinite or NaN values in concrete arrays, or
            options out of range.

    Example:
        >>> v = jnp.outer(jnp.arange(1.0, 4.0), jnp.arange(1.0, 5.0))
        >>> state, info = fit(v, init(v, 2, key=jax.random.key(0)), n_steps=20)
        >>> info.divergence.shape, bool(info.divergence[-1] <= info.divergence[0])
        ((20,), True)
    """
    v, state = as_problem(v, state)
    check_steps(n_steps, divergence_every, tol, adapt_timing)
    check_nonnegative(v=v, w=state.w, h=state.h)
    update_w, degree_w = degrees("update_w", update_w, state.h)
    update_h, degree_h = degrees("update_h", update_h, state.h)
    return _fit(
        (v, state, degree_w, degree_h),
        elastic_penalties(v, alpha_w, alpha_h, l1_ratio),
        beta=float(beta),
        update_w=update_w,
        update_h=update_h,
        n_steps=n_steps,
        tol=tol,
        timing=adapt_timing,
        constraint=constraint,
        divergence_every=divergence_every,
    )


def as_problem(v: Array, state: NMFState) -> tuple[Array, NMFState]:
    """The arguments as arrays of the dtype of `v`, with shapes that fit together."""
    v = as_magnitude(v)
    w, h = jnp.asarray(state.w, v.dtype), jnp.asarray(state.h, v.dtype)
    if w.ndim < 2 or h.ndim < 2:
        raise ValueError(f"w and h must have 2 dimensions or more, got shapes {w.shape} and {h.shape}")
    expected = (v.shape[-2], w.shape[-1]), (w.shape[-1], v.shape[-1])
    if (w.shape[-2:], h.shape[-2:]) != expected:
        raise ValueError(
            f"v {v.shape} needs w (..., freq, component) and h (..., component, frame) that end in "
            f"{expected[0]} and {expected[1]}, got {w.shape} and {h.shape}"
        )
    return v, NMFState(w, h)


def _stepper(
    beta: float, update_w: bool, update_h: bool, penalties: tuple[Penalty, Penalty] | None
) -> Callable[..., NMFState]:
    """One step in units of the level; what holds components back is applied as soon as a factor has moved."""

    def step(
        v: Array,
        state: NMFState,
        unit: Array,
        settle_w: Callable[[Array], Array] | None,
        settle_h: Callable[[Array], Array] | None,
    ) -> NMFState:
        w, h = state
        penalty_w, penalty_h = (
            (None, None) if penalties is None else penalties_in_units(penalties, unit, beta)
        )
        if update_w:
            w = multiplied(w, *w_terms(v, w, h, beta), beta, penalty_w)
            w = w if settle_w is None else settle_w(w)
        if update_h:
            h = multiplied(h, *h_terms(v, w, h, beta), beta, penalty_h)
            h = h if settle_h is None else settle_h(h)
        return NMFState(w, h)

    return step


@partial(
    jax.jit,
    static_argnames=("beta", "update_w", "update_h", "n_steps", "constraint", "divergence_every"),
)
def _fit(
    problem: tuple[Array, NMFState, Array | None, Array | None],
    penalties: tuple[Penalty, Penalty] | None,
    *,
    beta: float,
    update_w: bool,
    update_h: bool,
    **options: Any,
) -> tuple[NMFState, NMFInfo]:
    step = _stepper(beta, update_w, update_h, penalties)
    state, curve, n_done = descend(step, tuple, problem, w_ndim=2, beta=beta, **options)
    return state, NMFInfo(curve, n_done)
