"""The loop that `nmf.fit` and `nmfd.fit` share: update, measure, stop; one problem or many."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsep.beta_divergence import in_units, level, model_divergence

__all__ = ["advance", "check_nonnegative", "check_steps", "degrees", "descend", "over_batch", "run"]

State = TypeVar("State")


def run(
    step: Callable[[State, Int[Array, ""]], State],
    objective: Callable[[State], Float[Array, ""]],
    state: State,
    *,
    n_steps: int,
    tol: float | Float[Array, ""] | None,
    divergence_every: int,
) -> tuple[State, Float[Array, " step"], Int[Array, ""]]:
    """Repeat `step`, measuring `objective` after every `divergence_every` steps (a round) and after the last.

    Args:
        step: maps a state and the number of steps already made to the next state.
        objective: maps a state to the number that the steps bring down.
        state: where to start.
        n_steps: the largest number of steps, 0 or more.
        tol: stop once a round lowers the objective by less than `tol` times its first value; None makes all
            the steps.
        divergence_every: steps in a round.

    Returns:
        The last state; the objective after each step, shape (n_steps,), where steps that were not measured
        repeat the last measured value; the number of steps made.
    """
    first = objective(state)
    if tol is None:
        n_whole, n_left = divmod(n_steps, divergence_every)

        # Static lengths throughout: these loops are scans, which reverse-mode differentiation can walk back.
        def round_of(length: int, state: State, start: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
            state = lax.fori_loop(0, length, lambda i, s: step(s, start + i), state)
            return state, objective(state)

        starts = divergence_every * jnp.arange(n_whole)
        state, measured = lax.scan(partial(round_of, divergence_every), state, starts)
        measured = jnp.append(first, measured)
        if n_left:
            state, last = round_of(n_left, state, n_steps - n_left)
            measured = jnp.append(measured, last)
        n_done = jnp.asarray(n_steps)
    else:
        state, measured, n_done = _run_until(
            step, objective, state, first, n_steps=n_steps, tol=tol, divergence_every=divergence_every
        )
    # Entry s of the curve is the state after s + 1 steps: the end of the last round that is complete by then.
    rounds = np.append(np.arange(1, n_steps) // divergence_every, -(-n_steps // divergence_every))[:n_steps]
    return state, measured[rounds], n_done


def _run_until(
    step: Callable[[State, Int[Array, ""]], State],
    objective: Callable[[State], Float[Array, ""]],
    state: State,
    first: Float[Array, ""],
    *,
    n_steps: int,
    tol: float | Float[Array, ""],
    divergence_every: int,
) -> tuple[State, Float[Array, " round"], Int[Array, ""]]:
    """The rounds of `run` as a while loop: `first` and the objective after each, repeated after the last."""
    n_rounds = -(-n_steps // divergence_every)

    def goes_on(carry: tuple[Any, ...]) -> Array:
        n_done, n_measured, _, measured = carry
        drop = measured[jnp.maximum(n_measured - 1, 0)] - measured[n_measured]
        return (n_done < n_steps) & ((n_measured == 0) | (drop > tol * first))

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        n_done, n_measured, state, measured = carry
        end = jnp.minimum(n_done + divergence_every, n_steps)
        state = lax.fori_loop(n_done, end, lambda i, s: step(s, i), state)
        # Written to every later entry too: what is never reached keeps the last value.
        later = jnp.arange(n_rounds + 1) > n_measured
        return end, n_measured + 1, state, jnp.where(later, objective(state), measured)

    n_done, _, state, measured = lax.while_loop(goes_on, body, (0, 0, state, jnp.full(n_rounds + 1, first)))
    return state, measured, n_done


def over_batch(fn: Callable[..., Any], arrays: tuple[Array | None, ...], core_ndims: tuple[int, ...]) -> Any:
    """Call `fn` for every item of the broadcast leading dims of `arrays`.

    On CPUs the items run one after the other: a single matrix product already fills the cores, XLA's batched
    product is slower than a row of single ones, and one item's arrays stay in cache for all its steps.
    Elsewhere the items run side by side.

    Args:
        fn: a function of as many arrays, each without leading dims.
        arrays: the arguments; None is passed through.
        core_ndims: how many trailing dims of each array belong to one item.

    Returns:
        What `fn` returns, with the broadcast leading dims in front of each array of it.
    """
    batches = [() if a is None else a.shape[: a.ndim - n] for a, n in zip(arrays, core_ndims, strict=True)]
    batch = np.broadcast_shapes(*batches)
    if batch == ():
        return fn(*arrays)
    n_items = math.prod(batch)
    stacks, owners = [], []
    for a, own in zip(arrays, batches, strict=True):
        stacks.append(None if a is None else a.reshape((math.prod(own), *a.shape[len(own) :])))
        # Which entry of its stack each item reads: an array that is broadcast is never copied.
        owners.append(np.broadcast_to(np.arange(math.prod(own)).reshape(own), batch).reshape(-1))

    def one_by_one(stacks: list[Array | None]) -> Any:
        def item(owner: Int[Array, " array"]) -> Any:
            return fn(*(None if s is None else s[owner[i]] for i, s in enumerate(stacks)))

        return lax.map(item, jnp.asarray(np.stack(owners, axis=1)))

    def side_by_side(stacks: list[Array | None]) -> Any:
        shared = [s is None or s.shape[0] == 1 for s in stacks]
        stacks = [
            s if s is None else s[0] if alone else s if s.shape[0] == n_items else s[owner]
            for s, alone, owner in zip(stacks, shared, owners, strict=True)
        ]
        axes = tuple(None if alone else 0 for alone in shared)
        return jax.vmap(fn, in_axes=axes, axis_size=n_items)(*stacks)

    out = lax.platform_dependent(stacks, cpu=one_by_one, default=side_by_side)
    return jax.tree.map(lambda x: x.reshape((*batch, *x.shape[1:])), out)


def check_nonnegative(**arrays: Array) -> None:
    """Refuse concrete arrays with a negative, infinite or NaN entry; tracers have no values to look at.

    Raises:
        ValueError: names the array, what was expected and what was found.
    """
    for name, a in arrays.items():
        if isinstance(a, jax.core.Tracer) or bool(jnp.all((a >= 0) & (a < jnp.inf))):
            continue
        a = np.asarray(a)
        got = (
            f"{int(np.isnan(a).sum())} NaN, {int(np.isinf(a).sum())} infinite, {int((a < 0).sum())} negative"
        )
        raise ValueError(f"{name} must be finite and non-negative, got {got} of {a.size} values")


def check_steps(n_steps: int, divergence_every: int, tol: Any, adapt_timing: Any) -> None:
    """Refuse numbers of steps, and a timing of them, that mean nothing.

    Raises:
        ValueError: a negative `n_steps` or `tol`, a `divergence_every` below 1, or an `adapt_timing` that is
            not above 0.
    """
    if n_steps < 0:
        raise ValueError(f"n_steps must be 0 or more, got {n_steps}")
    if divergence_every < 1:
        raise ValueError(f"divergence_every must be 1 or more, got {divergence_every}")
    if tol is not None and not isinstance(tol, jax.core.Tracer) and not tol >= 0:
        raise ValueError(f"tol must be None or 0 or more, got {tol}")
    if not isinstance(adapt_timing, jax.core.Tracer) and not 0 < adapt_timing < math.inf:
        raise ValueError(f"adapt_timing must be above 0 and finite, got {adapt_timing}")


def degrees(name: str, update: bool | Array, h: Array) -> tuple[bool, Array | None]:
    """Whether a factor moves at all, and the degree to which each component does (None: all of them freely).

    Raises:
        ValueError: `update` is neither a bool nor a degree within 0 and 1 per component of `h`.
    """
    if isinstance(update, bool):
        return update, None
    degree = jnp.asarray(update, h.dtype)
    n_components = h.shape[-2]
    if degree.ndim < 1 or degree.shape[-1] != n_components:
        raise ValueError(
            f"{name} must be True, False or of shape (..., {n_components}), got shape {degree.shape}"
        )
    if not isinstance(degree, jax.core.Tracer) and not bool(jnp.all((degree >= 0) & (degree <= 1))):
        raise ValueError(f"{name} must be within 0 (fixed) and 1 (free), got {degree}")
    return True, degree


def descend(
    step: Callable[..., State],
    factors: Callable[[State], tuple[Array, Array]],
    problem: tuple[Array, State, Array | None, Array | None],
    *,
    w_ndim: int,
    beta: float,
    n_steps: int,
    tol: float | Float[Array, ""] | None,
    timing: float | Float[Array, ""],
    constraint: Callable[[State, Int[Array, ""], int], State] | None,
    divergence_every: int,
) -> tuple[State, Float[Array, "*batch step"], Int[Array, "*batch"]]:
    """The body of `nmf.fit` and `nmfd.fit`: one descent per item of the leading dims.

    Args:
        step: ``(v, state, unit, settle_w, settle_h) -> state``, where `unit` is the level that `v` and h
            were divided by and ``settle_w``, ``settle_h`` draw (semi-)fixed components of a factor back as
            soon as it has moved (None: all are free).
        factors: the two matrices whose product is the model that a state stands for.
        problem: spectrogram, start, and the degree to which the components of w and of h are free (None:
            fully).
        w_ndim: dims of the templates of one item.
        beta: which divergence.
        n_steps: steps at most.
        tol: as in `run`.
        timing: as in `_adaptation`.
        constraint: applied before each step.
        divergence_every: as in `run`.

    Returns:
        The last state, the divergence after each step, the number of steps made.
    """
    v, start, degree_w, degree_h = problem
    state_type = type(start)

    def one(
        v: Array, w: Array, h: Array, degree_w: Array | None, degree_h: Array | None
    ) -> tuple[State, Array, Array]:
        unit = level(v)
        v = in_units(v, unit, beta)
        start = state_type(w, h / unit)
        settle_w = _adaptation(degree_w, start.w, 1, timing, n_steps)
        settle_h = _adaptation(degree_h, start.h, 0, timing, n_steps)

        def update(state: State, i: Int[Array, ""]) -> State:
            if constraint is not None:
                state = constraint(state._replace(h=state.h * unit), i, n_steps)
                state = state._replace(h=state.h / unit)
            return step(v, state, unit, settle_w and partial(settle_w, i), settle_h and partial(settle_h, i))

        def objective(state: State) -> Float[Array, ""]:
            return model_divergence(v, *factors(state), beta)

        state, curve, n_done = run(
            update, objective, start, n_steps=n_steps, tol=tol, divergence_every=divergence_every
        )
        return state._replace(h=state.h * unit), curve * unit[0, 0] ** beta, n_done

    return over_batch(one, (v, start.w, start.h, degree_w, degree_h), (2, w_ndim, 2, 1, 1))


def advance(step: Callable[..., State], v: Array, state: State, *, w_ndim: int, beta: float) -> State:
    """The body of `nmf.step` and `nmfd.step`: one step without measuring, arguments as for `descend`."""
    state_type = type(state)

    def one(v: Array, w: Array, h: Array) -> State:
        unit = level(v)
        state = step(in_units(v, unit, beta), state_type(w, h / unit), unit, None, None)
        return state._replace(h=state.h * unit)

    return over_batch(one, (v, state.w, state.h), (2, w_ndim, 2))


def _adaptation(
    degree: Float[Array, " component"] | None,
    origin: Array,
    axis: int,
    timing: Array | float,
    n_steps: int,
) -> Callable[[Int[Array, ""], Array], Array] | None:
    """What draws (semi-)fixed components back to where they started: a function of step and factor.

    Args:
        degree: 0 (fixed) to 1 (free) per component; None: all free.
        origin: the factor at the start.
        axis: where the factor has its components.
        timing: above 1 semi-fixed components open later.
        n_steps: steps in all.

    References:
        C. Dittmar, M. Müller: Reverse engineering the Amen break. IEEE/ACM Transactions on Audio, Speech, and
        Language Processing 24(9), 2016 (semi-fixed templates).
    """
    if degree is None:
        return None
    degree = jnp.expand_dims(degree, tuple(i for i in range(origin.ndim) if i != axis))
    # Degree 0 is decided by the outer where alone; the inner one keeps its division finite.
    exponent = timing * (1 - degree) / jnp.where(degree > 0, degree, 1)

    def settle(step: Int[Array, ""], factor: Array) -> Array:
        share = ((step + 1) / n_steps).astype(factor.dtype) ** exponent
        blend = share * factor + (1 - share) * origin
        return jnp.where(degree == 0, origin, jnp.where(degree == 1, factor, blend))

    return settle
