"""What a step of training changes: the nets of all targets, stacked, and the optimiser's moments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig

__all__ = ["TrainState", "adam_with_l2", "init_state", "kept_variables", "stack", "unstack"]


class TrainState(NamedTuple):
    """Everything that a step changes; arrays of the nets have a leading ``target`` axis."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any
    opt_state: Any  # every net's own
    average: Any  # {"params", "batch_stats"}: running average of the weights; None without


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
        variables = _fresh(key, config, n_targets)
    else:
        shapes = jax.eval_shape(lambda: _fresh(key, config, n_targets))
        # Copies: the state will be donated, the caller's arrays must not be.
        variables = jax.tree.map(jnp.array, {name: variables[name] for name in ("params", "batch_stats")})
        if jax.tree.map(jnp.shape, variables) != jax.tree.map(jnp.shape, shapes):
            raise ValueError(
                f"variables: expected those of {n_targets} nets of {config}, got arrays of other names or shapes"
            )
    params = dict(variables["params"])
    for name, value in (("input_mean", input_mean), ("input_scale", input_std)):
        if value is None:
            continue
        value = jnp.asarray(value)
        if value.shape != (config.max_bin,):
            raise ValueError(f"{name}: expected statistics of shape {(config.max_bin,)}, got {value.shape}")
        value = -value if name == "input_mean" else 1.0 / value
        params[name] = jnp.array(jnp.broadcast_to(value, params[name].shape), params[name].dtype)
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    # The average starts as a copy: a donated state may not hold an array twice.
    copy = jax.tree.map(jnp.copy, variables) if average else None
    opt_state = jax.jit(jax.vmap(optimizer.init))(params)
    return TrainState(jnp.zeros((), jnp.int32), **variables, opt_state=opt_state, average=copy)


def _fresh(key: Array, config: OpenUnmixConfig, n_targets: int) -> dict[str, Any]:
    # Not compiled as a whole: XLA takes half a minute over so many random numbers.
    return stack([openunmix.init(config, key=k) for k in jax.random.split(key, n_targets)])


def kept_variables(state: TrainState) -> dict[str, Any]:
    """The stacked variables that are validated and saved: the average where there is one."""
    return state.average or {"params": state.params, "batch_stats": state.batch_stats}


def stack(variables: list[Any]) -> dict[str, Any]:
    """The variables of one net after the other as those of a stacked model."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(dict(one) for one in variables))


def unstack(variables: Any, index: int) -> dict[str, Any]:
    """The variables of one target out of stacked ones, for `openunmix.apply`."""
    return {
        name: jax.tree.map(lambda leaf: leaf[index], variables[name]) for name in ("params", "batch_stats")
    }
