"""Training Open-Unmix: one pure step for one target, or for several stacked into one model.

The nets of all targets have the same shape, so their arrays carry a leading ``target`` axis and every net runs in the
same vmapped pass. A step sees the stems of a batch as audio, adds them to mixtures, and compares magnitudes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Complex, Float, Int

from jaxsep import openunmix
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft

__all__ = ["Augment", "TrainState", "adam_with_l2", "eval_step", "init_state", "train_step", "unstack"]

Augment = Callable[[Complex[Array, "batch source channel freq frame"], Array], Array]
"""``augment(spectrograms of stems, key)`` to spectrograms of the same shape."""


class TrainState(NamedTuple):
    """Everything that a step changes; arrays of the nets have a leading ``target`` axis."""

    step: Int[Array, ""]  # steps done
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any  # {"params", "batch_stats"}: running average of the weights, the ones to use


def adam_with_l2(
    learning_rate: float | optax.Schedule = 1e-3, *, weight_decay: float = 1e-5
) -> optax.GradientTransformation:
    """Adam whose gradient includes that of ``weight_decay / 2 |params|²``, as in open-unmix.

    The penalty enters the moments (coupled L2), unlike in AdamW.

    Example:
        >>> optimizer = adam_with_l2(1e-3)
        >>> optimizer.init({"w": jnp.zeros(2)})[0]
        EmptyState()
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate))


def init_state(
    config: OpenUnmixConfig,
    optimizer: optax.GradientTransformation,
    *,
    n_targets: int,
    key: Array,
    input_mean: Float[Array, " bin"] | None = None,
    input_std: Float[Array, " bin"] | None = None,
) -> TrainState:
    """Fresh nets for ``n_targets`` targets.

    Args:
        config: sizes of each net.
        optimizer: the one that `train_step` gets.
        n_targets: how many nets, at least 1.
        key: PRNG key of the weights.
        input_mean: ``(max_bin,)`` mean magnitude of the mixtures to be seen; 0 if None.
        input_std: ``(max_bin,)`` their standard deviation, > 0; 1 if None.

    Returns:
        The state before the first step.

    Raises:
        ValueError: the statistics have another shape.

    Example:
        >>> config = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=8)
        >>> state = init_state(config, adam_with_l2(), n_targets=3, key=jax.random.key(0))
        >>> state.params["fc2"]["kernel"].shape
        (3, 16, 8)
    """
    variables = [openunmix.init(config, key=k) for k in jax.random.split(key, n_targets)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
    params, batch_stats = dict(stacked["params"]), stacked["batch_stats"]
    for name, value in (("input_mean", input_mean), ("input_scale", input_std)):
        if value is None:
            continue
        value = jnp.asarray(value)
        if value.shape != (config.max_bin,):
            raise ValueError(f"{name}: expected statistics of shape {(config.max_bin,)}, got {value.shape}")
        value = -value if name == "input_mean" else 1.0 / value
        params[name] = jnp.broadcast_to(value, params[name].shape).astype(params[name].dtype)
    # The average starts as a copy: a donated state may not hold an array twice.
    average = jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params), average)


def unstack(average: Any, index: int) -> dict[str, Any]:
    """The variables of one target out of stacked ones, for `openunmix.apply`."""
    return {name: jax.tree.map(lambda leaf: leaf[index], average[name]) for name in ("params", "batch_stats")}


@partial(
    jax.jit,
    static_argnames=("config", "optimizer", "targets", "augment", "decay", "frame_step"),
    donate_argnums=0,
)
def train_step(
    state: TrainState,
    stems: Float[Array, "batch source channel time"],
    weights: Float[Array, "batch target"],
    *,
    key: Array,
    config: OpenUnmixConfig,
    optimizer: optax.GradientTransformation,
    targets: tuple[int, ...],
    augment: Augment | None = None,
    decay: float = 0.999,
    frame_step: int = 1,
) -> tuple[TrainState, Float[Array, " target"]]:
    """One step of gradient descent on ``mean w (net(|sum_j X_j|) - |X_target|)²``.

    Args:
        state: donated: its buffers are reused and it must not be used again.
        stems: audio whose sum is the mixture, float, or 16-bit integers of full scale 32768.
        weights: of each excerpt in the loss of each target; 0 where its truth is not known.
        key: PRNG key of the whole run; the step's own is folded from it and the step's number.
        config: sizes of the nets.
        optimizer: the one that `init_state` got.
        targets: which source each net is to find.
        augment: changes the stems' spectrograms before they are added.
        decay: of the running average of weights, 0 for none; it forgets faster in the first steps.
        frame_step: the loss is taken over every ``frame_step``-th frame. Neighbouring frames share three quarters
            of their samples, so 2 costs little accuracy and saves a quarter of the time; the LSTM sees all frames.

    Returns:
        The next state, and each target's loss before the step.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(state, stems, weights, targets)
    key_augment, key_dropout = jax.random.split(jax.random.fold_in(key, state.step))
    mixture, truth = _magnitudes(stems, config, targets, augment, key_augment, frame_step)
    keys = jax.random.split(key_dropout, len(targets))

    def loss_of(params: Any) -> tuple[Array, tuple[Array, Any]]:
        def net(variables: Any, key: Array) -> tuple[Array, Any]:
            return _forward(variables, mixture, config, frame_step, key)

        estimate, batch_stats = jax.vmap(net)({"params": params, "batch_stats": state.batch_stats}, keys)
        errors = jnp.mean((estimate - truth) ** 2, axis=(2, 3, 4))  # (target, batch)
        losses = jnp.mean(errors * weights.T, axis=1)
        return losses.sum(), (losses, batch_stats)  # the nets share nothing, so each follows its own loss

    (_, (losses, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    keep = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    average = jax.tree.map(
        lambda old, new: (keep * old + (1.0 - keep) * new).astype(old.dtype),
        state.average,
        {"params": params, "batch_stats": batch_stats},
    )
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), losses


@partial(jax.jit, static_argnames=("config", "targets"))
def eval_step(
    variables: Any,
    stems: Float[Array, "batch source channel time"],
    *,
    config: OpenUnmixConfig,
    targets: tuple[int, ...],
) -> tuple[Float[Array, "target batch"], Float[Array, "target batch"]]:
    """Mean squared error of each target's magnitudes in each excerpt, and the mean square of the truth.

    Running statistics, no dropout, no augmentation. The ratio of the two is a signal-to-noise ratio of magnitudes.

    Args:
        variables: stacked ``{"params", "batch_stats"}``, such as the average of a `TrainState`.
        stems: audio whose sum is the mixture.
        config: sizes of the nets.
        targets: which source each net is to find.

    Returns:
        Error and power, both ``(target, batch)``.
    """
    mixture, truth = _magnitudes(stems, config, targets, None, None, 1)
    estimate = jax.vmap(lambda one: openunmix.apply(one, mixture, config))(variables)
    return jnp.mean((estimate - truth) ** 2, axis=(2, 3, 4)), jnp.mean(truth**2, axis=(2, 3, 4))


def _forward(
    variables: Any,
    mixture: Float[Array, "batch channel freq frame"],
    config: OpenUnmixConfig,
    frame_step: int,
    key: Array,
) -> tuple[Float[Array, "batch channel freq some_frame"], Any]:
    """`openunmix.apply_train` whose wide last layers run on every ``frame_step``-th frame only."""
    if frame_step == 1:
        return openunmix.apply_train(variables, mixture, config, key=key)

    def thinned(net: openunmix.OpenUnmix, magnitude: Array) -> Array:
        x = net.encode(magnitude, train=True)
        recurrent = net.lstm(x, dropout=openunmix.DROPOUT)
        x = net.merge(x[:, ::frame_step], recurrent[:, ::frame_step], train=True)
        return net.decode(x, magnitude[..., ::frame_step], train=True)

    estimate, updated = openunmix.OpenUnmix(config).apply(
        variables, mixture, rngs={"dropout": key}, mutable=["batch_stats"], method=thinned
    )
    return estimate, updated["batch_stats"]


def _magnitudes(
    stems: Array,
    config: OpenUnmixConfig,
    targets: tuple[int, ...],
    augment: Augment | None,
    key: Array | None,
    frame_step: int,
) -> tuple[Float[Array, "batch channel freq frame"], Float[Array, "target batch channel freq some_frame"]]:
    """Magnitudes of the mixture and of each target; not centred, so that no frame sees padding."""
    if jnp.issubdtype(stems.dtype, jnp.integer):
        stems = stems.astype(jnp.float32) / 32768.0
    spectrograms = stft(stems, n_fft=config.n_fft, hop_length=config.hop_length, center=False)
    if augment is not None:
        spectrograms = augment(spectrograms, key)
    truth = jnp.stack([jnp.abs(spectrograms[:, source, ..., ::frame_step]) for source in targets])
    return jnp.abs(spectrograms.sum(axis=1)), truth


def _check(state: TrainState, stems: Array, weights: Array, targets: tuple[int, ...]) -> None:
    n_targets = jax.tree.leaves(state.params)[0].shape[0]
    if len(targets) != n_targets:
        raise ValueError(
            f"targets: expected one source for each of the state's {n_targets} nets, got {targets}"
        )
    if stems.ndim != 4:
        raise ValueError(f"stems: expected (batch, source, channel, time), got shape {stems.shape}")
    if weights.shape != (stems.shape[0], n_targets):
        raise ValueError(f"weights: expected shape {(stems.shape[0], n_targets)}, got {weights.shape}")
