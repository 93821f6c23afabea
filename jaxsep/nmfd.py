r"""Convolutive non-negative matrix factorisation: templates that last several frames.

.. math::
    v_{f,n} \approx \sum_{c} \sum_{l} w_{f,c,l} \, h_{c,n-l}

A template is a short spectrogram, laid down wherever its activation has an onset: the model of drums and
loops. With the activations of all lags stacked, and the templates beside each other, this is an ordinary
factorisation whose rows of h are shifted copies; its updates are those of :mod:`jaxsep.nmf`, with the same
floor.

Diagonal factorisation (audio mosaicing), the other way to a temporal order, is `jaxsep.nmf` with the
constraint :class:`jaxsep.nmf_constraints.Mosaic`.

References:
    P. Smaragdis: Non-negative matrix factor deconvolution; extraction of multiple sound sources from
    monophonic inputs. ICA 2004 (model, averaged update).
    C. Févotte, J. Idier: Algorithms for nonnegative matrix factorization with the beta-divergence. Neural
    Computation 23(9), 2011 (multiplicative updates).
    A. Cichocki, R. Zdunek, A. H. Phan, S. Amari: Nonnegative Matrix and Tensor Factorizations. Wiley 2009,
    section 3.7 (penalties).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsep import nmf
from jaxsep.beta_divergence import as_magnitude
from jaxsep.descent import advance, check_nonnegative, check_steps, degrees, descend
from jaxsep.nmf import NMFInfo
from jaxsep.nmfd_updates import NMFDState, factors, stepper, template_sum

__all__ = ["NMFDState", "divergence", "fit", "init", "learn_templates", "reconstruct", "step"]

divergence = nmf.divergence  # the same for any model


def init(
    v: Float[Array, "*batch freq frame"], n_components: int, *, key: Array, n_lags: int = 8
) -> NMFDState:
    """Factors to start from: random templates of unit sum, constant activations, as loud as ``v``.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        n_components: number of components, 1 or more.
        key: PRNG key.
        n_lags: frames in a template, 1 or more.

    Returns:
        The state, in the dtype of ``v`` (float32 for integers).

    Raises:
        TypeError: ``v`` is complex.
        ValueError: ``v`` has fewer than two dimensions or a negative or NaN value, no components, or no lags.

    Example:
        >>> state = init(jnp.ones((5, 7)), 2, key=jax.random.key(0), n_lags=3)
        >>> state.w.shape, state.h.shape
        ((5, 2, 3), (2, 7))
    """
    v = as_magnitude(v)
    check_nonnegative(v=v)
    if n_components < 1 or n_lags < 1:
        raise ValueError(f"n_components and n_lags must be 1 or more, got {n_components} and {n_lags}")
    *batch, n_freq, n_frames = v.shape
    w = jax.random.uniform(key, (*batch, n_freq, n_components, n_lags), v.dtype)
    frame_sum = v.mean(axis=(-2, -1), keepdims=True) * n_freq / n_components
    h = jnp.broadcast_to(frame_sum, (*batch, n_components, n_frames))
    return NMFDState(w / template_sum(w), h)


def reconstruct(state: NMFDState) -> Float[Array, "*batch freq frame"]:
    """The model spectrogram, each template laid down at the onsets of its activation.

    Args:
        state: factors w (..., freq, component, lag) and h (..., component, frame).

    Returns:
        Magnitudes (..., freq, frame); what a template would add after the last frame is cut.

    Example:
        >>> w = jnp.array([[[3.0, 2.0, 1.0]]])  # one bin, one component, three lags
        >>> reconstruct(NMFDState(w, jnp.array([[0.0, 1.0, 0.0, 0.0, 0.0]]))).tolist()
        [[0.0, 3.0, 2.0, 1.0, 0.0]]
    """
    templates, activations = factors(state)
    return templates @ activations


def step(
    v: Float[Array, "*batch freq frame"],
    state: NMFDState,
    *,
    beta: float = 1.0,
    rule: str = "multiplicative",
    update_w: bool = True,
    update_h: bool = True,
    sparsity: float = 0.0,
    decorrelation: float = 0.0,
) -> NMFDState:
    r"""One update of w and then of h.

    Args:
        v: magnitudes (..., freq, frame), ≥ 0.
        state: factors w (..., freq, component, lag) and h (..., component, frame), ≥ 0.
        beta: which divergence, see :func:`jaxsep.nmf.divergence`.
        rule: "multiplicative": all lags jointly, monotone, h with the new model. "averaged", for beta 1: h
            by the mean over the lags of one ratio per lag, and still with the old model; templates get unit
            sum after each step where w moves freely (`update_w` True). It may raise the divergence, yet is the
            rule of the NMF toolbox.
        update_w: whether w moves.
        update_h: whether h moves.
        sparsity: weight of ``sum(h / u)``, ≥ 0, where u is the mean of v rounded up to a power of two: the
            loudness does not matter.
        decorrelation: weight of ``1/2 sum of w[:, c, l] w[:, c, m] over l != m``, ≥ 0, which keeps the lags
            of a template different. With either penalty templates that move freely get unit sum (and h their
            loudness) after each step, else both penalties could be evaded by rescaling.

    Returns:
        The next state.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: shapes that do not fit together, an unknown rule, or the averaged rule with another beta
            or a penalty.

    Example:
        >>> state = init(jnp.ones((5, 7)), 2, key=jax.random.key(0), n_lags=3)
        >>> step(jnp.ones((5, 7)), state).w.shape
        (5, 2, 3)
    """
    v, state = _as_problem(v, state)
    penalties = _penalties(rule, beta, sparsity, decorrelation)
    one_step = stepper(beta, rule, update_w, update_h, penalties)
    return advance(one_step, v, state, w_ndim=3, beta=beta)


def fit(
    v: Float[Array, "*batch freq frame"],
    state: NMFDState,
    *,
    beta: float = 1.0,
    rule: str = "multiplicative",
    n_steps: int = 30,
    tol: float | None = None,
    update_w: bool | Float[Array, "*batch component"] = True,
    update_h: bool | Float[Array, "*batch component"] = True,
    adapt_timing: float = 1.0,
    sparsity: float = 0.0,
    decorrelation: float = 0.0,
    constraint: Callable[[NMFDState, Int[Array, ""], int], NMFDState] | None = None,
    divergence_every: int = 1,
) -> tuple[NMFDState, NMFInfo]:
    """Factorise one or many spectrograms.

    Never raises the divergence with the multiplicative rule for beta in [-1, 3], boolean `update_w` and
    `update_h`, no penalties and no constraint, up to rounding.

    Args:
        v: magnitudes (..., freq, frame), finite, ≥ 0.
        state: factors to start from, w (..., freq, component, lag) and h (..., component, frame), finite, ≥
            0. The leading dims of ``v`` and the factors broadcast.
        beta: which divergence, see :func:`jaxsep.nmf.divergence`.
        rule: "multiplicative" or "averaged", see :func:`step`.
        n_steps: steps at most.
        tol: early stop, see :func:`jaxsep.nmf.fit`.
        update_w: whether w moves, or a degree per component from 0 (fixed) to 1 (free), see
            :func:`jaxsep.nmf.fit`.
        update_h: the same for h.
        adapt_timing: above 1 semi-fixed components open later, below 1 earlier; > 0.
        sparsity: see :func:`step`.
        decorrelation: see :func:`step`.
        constraint: a pure function ``(state, step, n_steps) -> state`` that is applied before each step, to
            one problem without leading dims; see :mod:`jaxsep.nmf_constraints`.
        divergence_every: see :func:`jaxsep.nmf.fit`.

    Returns:
        The state, and the divergence (without penalties) after each step with the number of steps made.

    Raises:
        TypeError: ``v`` is complex.
        ValueError: as :func:`step`; negative, infinite or NaN values in concrete arrays; options out of
            range.

    Example:
        >>> v = jnp.ones((5, 7)).at[2, 3:5].set(4.0)
        >>> state, info = fit(v, init(v, 2, key=jax.random.key(0), n_lags=3), n_steps=5)
        >>> info.divergence.shape, bool(info.divergence[-1] <= info.divergence[0])
        ((5,), True)
    """
    v, state = _as_problem(v, state)
    penalties = _penalties(rule, beta, sparsity, decorrelation)
    check_steps(n_steps, divergence_every, tol, adapt_timing)
    check_nonnegative(v=v, w=state.w, h=state.h)
    update_w, degree_w = degrees("update_w", update_w, state.h)
    update_h, degree_h = degrees("update_h", update_h, state.h)
    return _fit(
        (v, state, degree_w, degree_h),
        penalties,
        beta=float(beta),
        rule=rule,
        update_w=update_w,
        update_h=update_h,
        n_steps=n_steps,
        tol=tol,
        timing=adapt_timing,
        constraint=constraint,
        divergence_every=divergence_every,
    )


def learn_templates(
    examples: list[Float[Array, "freq frame"]], *, key: Array, n_lags: int = 8, n_steps: int = 30
) -> Float[Array, "freq component lag"]:
    """One template per sound, from recordings of each alone: a factorisation with one component each.

    Args:
        examples: magnitudes (freq, frame) of each sound, one-shots of it in a row; all with the same bins.
        key: PRNG key.
        n_lags: frames in a template.
        n_steps: steps of each factorisation.

    Returns:
        Templates (freq, component, lag) of unit sum, in the order of the examples.

    Raises:
        ValueError: no examples, or as :func:`fit`.

    Example:
        >>> kick, snare = jnp.ones((5, 9)), jnp.ones((5, 12))
        >>> learn_templates([kick, snare], key=jax.random.key(0), n_lags=3, n_steps=2).shape
        (5, 2, 3)

    References:
        C. Dittmar, M. Müller: Reverse engineering the Amen break. IEEE/ACM Transactions on Audio, Speech, and
        Language Processing 24(9), 2016.
    """
    if not examples:
        raise ValueError("examples must hold one magnitude spectrogram or more, got none")
    templates = []
    for one_key, v in zip(jax.random.split(key, len(examples)), examples, strict=True):
        state, _ = fit(v, init(v, 1, key=one_key, n_lags=n_lags), rule="averaged", n_steps=n_steps)
        templates.append(state.w)
    return jnp.concatenate(templates, axis=-2)


def _as_problem(v: Array, state: NMFDState) -> tuple[Array, NMFDState]:
    """The arguments as arrays of the dtype of `v`, with shapes that fit together."""
    v = as_magnitude(v)
    w, h = jnp.asarray(state.w, v.dtype), jnp.asarray(state.h, v.dtype)
    if w.ndim < 3 or h.ndim < 2:
        raise ValueError(
            f"w (..., freq, component, lag) and h (..., component, frame) must have 3 and 2 dimensions or "
            f"more, got shapes {w.shape} and {h.shape}"
        )
    expected = (v.shape[-2], h.shape[-2]), (w.shape[-2], v.shape[-1])
    if (w.shape[-3:-1], h.shape[-2:]) != expected:
        raise ValueError(
            f"v {v.shape} needs w (..., freq, component, lag) and h (..., component, frame) with "
            f"{v.shape[-2]} bins, {v.shape[-1]} frames and the same components, got {w.shape} and {h.shape}"
        )
    return v, NMFDState(w, h)


def _penalties(
    rule: str, beta: float, sparsity: float | Array, decorrelation: float | Array
) -> tuple[float | Array, float | Array] | None:
    """The penalties, None where both are known to be 0; refuses what does not go together."""
    if rule not in ("multiplicative", "averaged"):
        raise ValueError(f"rule must be multiplicative or averaged, got {rule!r}")
    penalties = sparsity, decorrelation
    if not any(isinstance(x, jax.core.Tracer) for x in penalties):
        if sparsity < 0 or decorrelation < 0:
            raise ValueError(f"penalties must be 0 or more, got {sparsity} and {decorrelation}")
        if sparsity == decorrelation == 0:
            penalties = None
    if rule == "averaged" and (beta != 1 or penalties is not None):
        raise ValueError(
            f"the averaged rule needs beta 1 and no penalties, got beta {beta}, sparsity {sparsity} and "
            f"decorrelation {decorrelation}"
        )
    return penalties


@partial(
    jax.jit,
    static_argnames=("beta", "rule", "update_w", "update_h", "n_steps", "constraint", "divergence_every"),
)
def _fit(
    problem: tuple[Array, NMFDState, Array | None, Array | None],
    penalties: tuple[Array, Array] | None,
    *,
    beta: float,
    rule: str,
    update_w: bool,
    update_h: bool,
    **options: Any,
) -> tuple[NMFDState, NMFInfo]:
    step = stepper(beta, rule, update_w, update_h, penalties)
    state, curve, n_done = descend(step, factors, problem, w_ndim=3, beta=beta, **options)
    return state, NMFInfo(curve, n_done)
