"""What a step of training changes: the nets of all targets, stacked, and the optimiser's moments."""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig

__all__ = ["TrainState", "adam_with_l2", "init_state", "kept_variables", "stack", "state_shapes", "unstack"]


class TrainState(NamedTuple):
    """Everything that a step changes; arrays of the nets have a leading ``target`` axis."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any
    opt_state: Any  # every net's own
    average: Any  # {"params", "batch_stats"}: running average of the weights; None without


@cache  # the same object again, so that what was compiled with it serves again
def adam_with_l2(*, weight_decay: float = 1e-5, clip: float | None = None) -> optax.GradientTransformation:
    """The direction of Adam whose gradient includes that of ``weight_decay / 2 |params|²``, as in open-unmix.

    The penalty enters the moments (coupled L2), unlike in AdamW. The learning rate is `train_step`'s.

    Args:
        weight_decay: of the squared weights, 0 or more.
        clip: a gradient of a larger norm is scaled down to it, before the penalty is added; None for no limit.

    Example:
        >>> optimizer = adam_with_l2()
        >>> updates, _ = optimizer.update({"w": jnp.ones(1)}, optimizer.init({"w": jnp.zeros(1)}), {"w": jnp.zeros(1)})
        >>> round(float(updates["w"][0]), 4)
        1.0
    """
    limit = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    return optax.chain(limit, optax.add_decayed_weights(weight_decay), optax.scale_by_adam())


def init_state(
    config: OpenUnmixConfig,
    optimizer: optax.GradientTransformation,
    *,
    n_targets: int,
    key: Array,
    input_mean: Float[Array, " bin"] | None = None,
    input_std: Float[Array, " bin"] | None = None,
    variables: Any = None,
    average: bool = False,
) -> TrainState:
    """Nets for ``n_targets`` targets before their first step.

    Args:
        config: sizes of each net.
        optimizer: the one that `train_step` gets.
        n_targets: how many nets, at least 1.
        key: PRNG key of the weights.
        input_mean: ``(max_bin,)`` mean magnitude of the mixtures to be seen; 0 if None.
        input_std: ``(max_bin,)`` their standard deviation, > 0; 1 if None.
        variables: stacked ``{"params", "batch_stats"}`` to start from, instead of fresh ones.
        average: keep a running average of the weights.

    Returns:
        The state before the first step.

    Raises:
        ValueError: the statistics have another shape, or the variables are those of other nets.

    Example:
        >>> config = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=8)
        >>> state = init_state(config, adam_with_l2(), n_targets=3, key=jax.random.key(0))
        >>> state.params["fc2"]["kernel"].shape
        (3, 16, 8)
    """
    if variables is None:
        variables = stack([_fresh(k, config) for k in jax.random.split(key, n_targets)])
    variables = jax.tree.map(np.asarray, {name: variables[name] for name in ("params", "batch_stats")})
    expected = _variable_shapes(config, n_targets)
    if jax.tree.map(np.shape, variables) != jax.tree.map(lambda leaf: leaf.shape, expected):
        raise ValueError(
            f"variables: expected those of {n_targets} nets of {config}, got arrays of other names or shapes"
        )
    params = dict(variables["params"])
    for name, value in (("input_mean", input_mean), ("input_scale", input_std)):
        if value is None:
            continue
        value = np.asarray(value)
        if value.shape != (config.max_bin,):
            raise ValueError(f"{name}: expected statistics of shape {(config.max_bin,)}, got {value.shape}")
        value = -value if name == "input_mean" else 1.0 / value
        params[name] = np.broadcast_to(value, params[name].shape).astype(params[name].dtype)
    return _begin({**variables, "params": params}, optimizer=optimizer, average=average)


def state_shapes(
    config: OpenUnmixConfig, optimizer: optax.GradientTransformation, *, n_targets: int, average: bool
) -> TrainState:
    """The state that `init_state` makes, without its numbers: shapes and dtypes."""
    begin = partial(_begin, optimizer=optimizer, average=average)
    return jax.eval_shape(begin, _variable_shapes(config, n_targets))


@partial(jax.jit, static_argnames=("optimizer", "average"))
def _begin(
    variables: dict[str, Any], *, optimizer: optax.GradientTransformation, average: bool
) -> TrainState:
    # Copies: the state will be donated, but not what it was made of; nor may it hold an array twice.
    own, kept = (jax.tree.map(jnp.copy, variables) for _ in range(2))
    opt_state = jax.vmap(optimizer.init)(own["params"])
    return TrainState(jnp.zeros((), jnp.int32), **own, opt_state=opt_state, average=kept if average else None)


@partial(jax.jit, static_argnums=1)
def _fresh(key: Array, config: OpenUnmixConfig) -> dict[str, Any]:
    return dict(openunmix.init(config, key=key))


def _variable_shapes(config: OpenUnmixConfig, n_targets: int) -> dict[str, Any]:
    one = jax.eval_shape(partial(_fresh, config=config), jax.random.key(0))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n_targets, *leaf.shape), leaf.dtype), one)


def kept_variables(state: TrainState) -> dict[str, Any]:
    """The stacked variables that are validated and saved: the average where there is one."""
    return state.average or {"params": state.params, "batch_stats": state.batch_stats}


def stack(variables: Sequence[Any]) -> dict[str, Any]:
    """The variables of one net after the other as those of a stacked model, in NumPy."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(dict(one) for one in variables))


def unstack(variables: Any, index: int) -> dict[str, Any]:
    """The variables of one target out of stacked ones, for `openunmix.apply`."""
    return {
        name: jax.tree.map(lambda leaf: leaf[index], variables[name]) for name in ("params", "batch_stats")
    }
