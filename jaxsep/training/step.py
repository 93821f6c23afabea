"""One pure step of training, for one target or for several stacked into one model.

The nets of all targets have the same shape, so their arrays carry a leading ``target`` axis. A step sees a batch as
it lies on disk, changes and adds up its stems, and compares magnitudes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Complex, Float

from jaxsep import openunmix
from jaxsep.batches import Batch
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import frame_spectra, stft
from jaxsep.training.state import TrainState

__all__ = ["Augment", "StepReport", "eval_step", "train_step"]

Augment = Callable[[Complex[Array, "batch source channel frame freq"], Array], Array]
"""``augment(spectrograms of stems, key)`` to spectrograms of the same shape."""


_SILENCE = 1e-10  # what keeps a share of nothing defined; far below the power of any bin that sounds


class StepReport(NamedTuple):
    """What a step found, of each net."""

    loss: Float[Array, " target"]  # before the step
    gradient_norm: Float[Array, " target"]


@partial(
    jax.jit,
    static_argnames=(
        "config",
        "optimizer",
        "targets",
        "augment",
        "dropout",
        "accumulate",
        "bf16",
        "frame_step",
        "filtered",
    ),
    donate_argnums=0,
)
def train_step(
    state: TrainState,
    batch: Batch,
    learning_rate: Float[Array, " target"],
    *,
    key: Array,
    config: OpenUnmixConfig,
    optimizer: optax.GradientTransformation,
    targets: tuple[int, ...],
    augment: Augment | None = None,
    dropout: float = openunmix.DROPOUT,
    ema: float = 0.999,
    accumulate: int = 1,
    bf16: bool = False,
    frame_step: int = 1,
    filtered: float = 0.0,
) -> tuple[TrainState, StepReport]:
    """One step of gradient descent on ``mean w (V - |S|)²``, and on ``mean w |V² / (sum_j V_j²) X - S|²``.

    ``S`` are the spectrograms of a target, ``X`` those of the mixture, ``V`` the magnitudes that the net finds in
    ``|X|``. The first term is open-unmix's loss, of each net alone. The second, weighed by ``filtered``, is the
    error of the stems behind a Wiener filter: the nets learn to share the mixture out among them. There a source
    that no net is to find has its true magnitudes.

    Args:
        state: donated: its buffers are reused and it must not be used again.
        batch: excerpts, and the changes to make; an ``origin`` of None leaves every stem where it is. Stems may
            also be float.
        learning_rate: of each net.
        key: PRNG key of the whole run; the step's own is folded from it and the step's number.
        config: sizes of the nets.
        optimizer: the one that `init_state` got.
        targets: which source each net is to find.
        augment: changes the stems' spectrograms before they are added.
        dropout: between the LSTM's layers.
        ema: weight of the old in the running average of weights, if the state has one; it forgets faster in the
            first steps.
        accumulate: parts that the batch is computed in. Each has its own batch statistics, kept one after the
            other; gradients are averaged.
        bf16: multiply in bfloat16 in the large products.
        frame_step: the loss is taken over every ``frame_step``-th frame.
        filtered: weight of the second term, 0 to 1; the first has what is left.

    Returns:
        The next state, and each target's loss and norm of the gradient.

    Raises:
        ValueError: shapes that do not fit together.
    """
    _check(state, batch, learning_rate, targets, accumulate, filtered)
    # No frame of a training excerpt is centred, so that none sees padding.
    stems, weight = _changed(batch), batch.weight[:, jnp.asarray(targets)]
    rest = [source for source in range(stems.shape[1]) if source not in targets] if filtered else []
    keys = jax.random.split(jax.random.fold_in(key, state.step), accumulate)

    def part(batch_stats: Any, index: int | Array, stems: Array, weight: Array) -> tuple[Any, Any, Array]:
        key_augment, key_dropout = jax.random.split(keys[index])
        mixture, truth = _spectra(stems, (*targets, *rest), config, augment, key_augment)
        magnitude = jnp.abs(mixture)

        def net(params: Any, batch_stats: Any, key: Array) -> tuple[Array, Any]:
            variables = {"params": params, "batch_stats": batch_stats}
            return openunmix.apply_frames(
                variables, magnitude, config, key=key, dropout=dropout, frame_step=frame_step, bf16=bf16
            )

        keys_dropout = jax.random.split(key_dropout, len(targets))
        truth = truth[:, :, ::frame_step]
        if filtered:
            mixture = mixture[:, ::frame_step]
            return _joint_gradients(
                net, state.params, batch_stats, keys_dropout, mixture, truth, weight, filtered
            )
        # What one net keeps for its gradient is gone before the next is computed.
        arrays = (state.params, batch_stats, keys_dropout, jnp.abs(truth), weight.T)
        return _for_each_target(partial(_gradient, net), *arrays)

    if accumulate == 1:
        batch_stats, gradient, losses = part(state.batch_stats, 0, stems, weight)
    else:
        batch_stats, gradient, losses = _accumulated(part, state, stems, weight, accumulate)
    norm = jnp.sqrt(sum(jnp.sum(g**2, axis=range(1, g.ndim)) for g in jax.tree.leaves(gradient)))
    updates, opt_state = jax.vmap(optimizer.update)(gradient, state.opt_state, state.params)
    params = jax.tree.map(
        lambda p, u: p - learning_rate.astype(p.dtype).reshape(-1, *[1] * (p.ndim - 1)) * u,
        state.params,
        updates,
    )
    average = state.average
    if average is not None:
        keep = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(
            lambda old, new: (keep * old + (1.0 - keep) * new).astype(old.dtype),
            average,
            {"params": params, "batch_stats": batch_stats},
        )
    return TrainState(state.step + 1, params, batch_stats, opt_state, average), StepReport(losses, norm)


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
        variables: stacked ``{"params", "batch_stats"}``, such as `kept_variables` of a state.
        stems: audio whose sum is the mixture, float, or 16-bit integers of full scale 32768.
        config: sizes of the nets.
        targets: which source each net is to find.

    Returns:
        Error and power, both ``(target, batch)``.
    """
    spectrograms = stft(_audio(stems), n_fft=config.n_fft, hop_length=config.hop_length, center=False)
    mixture = jnp.abs(spectrograms.sum(axis=1))
    truth = jnp.stack([jnp.abs(spectrograms[:, source]) for source in targets])

    def error(variables: Any, truth: Array) -> Float[Array, " batch"]:
        return _mean_square(openunmix.apply(variables, mixture, config) - truth)

    return _for_each_target(error, variables, truth), _mean_square(truth)


def _audio(stems: Array) -> Float[Array, "batch source channel time"]:
    if jnp.issubdtype(stems.dtype, jnp.integer):
        return stems.astype(jnp.float32) / 32768.0
    return stems


def _changed(batch: Batch) -> Float[Array, "batch source channel time"]:
    """The stems as they were drawn: from their excerpts, with their gains, channels exchanged."""
    stems = batch.stems
    if batch.origin is not None:
        stems = stems[batch.origin, jnp.arange(stems.shape[1])[None]]
    stems = _audio(stems) * batch.gain[..., None, None].astype(jnp.result_type(float))
    return jnp.where(batch.swap[..., None, None], stems[:, :, ::-1], stems)


def _spectra(
    stems: Array, wanted: tuple[int, ...], config: OpenUnmixConfig, augment: Augment | None, key: Array
) -> tuple[Complex[Array, "batch frame channel freq"], Complex[Array, "source batch frame channel freq"]]:
    """Those of the mixture and of the sources that are wanted."""
    transform = partial(frame_spectra, n_fft=config.n_fft, hop_length=config.hop_length)
    if augment is None:
        # The transform is linear: that of the sum and those of the wanted are all there is to do, and one for all
        # of them: from jaxlib 0.11 on, two beside each other may wait for each other for ever on a CPU.
        heard = [stems.sum(axis=1, keepdims=True), stems[:, jnp.asarray(wanted)]]
        spectra = transform(jnp.concatenate(heard, axis=1))
        mixture, sources = spectra[:, 0], spectra[:, 1:]
    else:
        spectra = augment(transform(stems), key)
        mixture, sources = spectra.sum(axis=1), spectra[:, jnp.asarray(wanted)]
    return jnp.transpose(mixture, (0, 2, 1, 3)), jnp.transpose(sources, (1, 0, 3, 2, 4))


def _gradient(
    net: Callable, params: Any, batch_stats: Any, key: Array, truth: Array, weight: Array
) -> tuple[Any, Any, Array]:
    """One net's new statistics, gradient and loss, whatever the others do."""

    def loss_of(params: Any) -> tuple[Array, Any]:
        estimate, updated = net(params, batch_stats, key)
        return jnp.mean(_mean_square(estimate - truth) * weight), updated

    (loss, updated), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    return updated, gradient, loss


def _joint_gradients(
    net: Callable,
    params: Any,
    batch_stats: Any,
    keys: Array,
    mixture: Complex[Array, "batch frame channel freq"],
    truth: Complex[Array, "source batch frame channel freq"],
    weight: Float[Array, "batch target"],
    filtered: float,
) -> tuple[Any, Any, Array]:
    """All nets' new statistics, gradients and losses, where each hears what the others claim.

    In ``truth`` sources that have no net come after those that have.
    """
    truth, rest = truth[: len(keys)], truth[len(keys) :]
    rest = jnp.sum(rest.real**2 + rest.imag**2, axis=0, keepdims=True)

    def loss_of(params: Any) -> tuple[Array, tuple[Array, Any]]:
        estimate, updated = _for_each_target(net, params, batch_stats, keys)
        losses = jnp.mean(_error(estimate, mixture, truth, rest, filtered) * weight.T, axis=1)
        return losses.sum(), (losses, updated)

    (_, (losses, updated)), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
    return updated, gradient, losses


def _error(
    estimate: Float[Array, "target batch frame channel freq"],
    mixture: Complex[Array, "batch frame channel freq"],
    truth: Complex[Array, "target batch frame channel freq"],
    rest: Float[Array, "1 batch frame channel freq"],
    filtered: float,
) -> Float[Array, "target batch"]:
    """Mean squared error of the magnitudes, and of the stems that they filter out of the mixture."""
    magnitude = jnp.abs(truth)
    error = _mean_square(estimate - magnitude)
    # |g X - S|² in real numbers: g² |X|² - 2 g Re(X* S) + |S|².
    mixture = mixture[None]
    along = mixture.real * truth.real + mixture.imag * truth.imag
    power = mixture.real**2 + mixture.imag**2
    gain = estimate**2 / (jnp.sum(estimate**2, axis=0, keepdims=True) + rest + _SILENCE)
    behind = jnp.mean(gain * (gain * power - 2.0 * along) + magnitude**2, axis=(2, 3, 4))
    return (1.0 - filtered) * error + filtered * behind


def _mean_square(magnitudes: Float[Array, "*batch frame channel freq"]) -> Float[Array, "*batch"]:
    return jnp.mean(magnitudes**2, axis=(-3, -2, -1))


def _for_each_target(function: Callable, *arrays: Any) -> Any:
    """The function of each target's arrays: together, or on a CPU, which one net keeps busy, one after the other."""
    n_targets = jax.tree.leaves(arrays)[0].shape[0]
    if n_targets > 1 and jax.default_backend() == "cpu":
        return jax.lax.map(lambda one: function(*one), arrays)
    return jax.vmap(function)(*arrays)


def _accumulated(
    part: Callable, state: TrainState, stems: Array, weight: Array, n_parts: int
) -> tuple[Any, Any, Array]:
    """`part` over a batch in parts: the last statistics, the mean gradient and loss."""

    def cut(array: Array) -> Array:
        # Every n-th excerpt, so that each part lies on all devices as the batch does.
        return jnp.swapaxes(array.reshape(-1, n_parts, *array.shape[1:]), 0, 1)

    def body(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        batch_stats, gradient, losses = carry
        batch_stats, more, loss = part(batch_stats, *inputs)
        return (batch_stats, jax.tree.map(jnp.add, gradient, more), losses + loss), None

    start = (state.batch_stats, jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(weight.shape[1:]))
    parts = (jnp.arange(n_parts), cut(stems), cut(weight))
    (batch_stats, gradient, losses), _ = jax.lax.scan(body, start, parts)
    return batch_stats, jax.tree.map(lambda g: g / n_parts, gradient), losses / n_parts


def _check(
    state: TrainState,
    batch: Batch,
    learning_rate: Array,
    targets: tuple[int, ...],
    accumulate: int,
    filtered: float,
) -> None:
    n_targets = jax.tree.leaves(state.params)[0].shape[0]
    if len(targets) != n_targets:
        raise ValueError(
            f"targets: expected one source for each of the state's {n_targets} nets, got {targets}"
        )
    if learning_rate.shape != (n_targets,):
        raise ValueError(f"learning_rate: expected shape {(n_targets,)}, got {learning_rate.shape}")
    if batch.stems.ndim != 4:
        raise ValueError(f"stems: expected (batch, source, channel, time), got shape {batch.stems.shape}")
    for name in ("gain", "swap", "origin", "weight"):
        array = getattr(batch, name)
        if not (array is None and name == "origin") and array.shape != batch.stems.shape[:2]:
            raise ValueError(f"{name}: expected shape {batch.stems.shape[:2]}, got {array.shape}")
    if len(batch.stems) % accumulate:
        raise ValueError(
            f"accumulate: expected a divisor of the batch of {len(batch.stems)}, got {accumulate}"
        )
    if filtered and len(set(targets)) < len(targets):
        raise ValueError(f"filtered: expected each source at most once, got targets {targets}")
