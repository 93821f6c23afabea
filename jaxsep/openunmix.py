"""Open-Unmix: a three-layer BiLSTM that estimates the magnitudes of one source from those of the mixture.

``magnitude → crop, standardise → dense, tanh → BiLSTM → dense, relu → dense → mask → × magnitude``

:func:`init`, :func:`apply` and :func:`apply_train` are pure functions of a dict of arrays; the Flax module
behind them is the only one in this library, so that everything else sees arrays. :func:`encode`,
:func:`layers`, :func:`merge` and :func:`decode` are the same net cut where its sequences are narrow, for
running it piece by piece.

Source: F.-R. Stöter, S. Uhlich, A. Liutkus, Y. Mitsufuji, "Open-Unmix - A Reference Implementation for Music
Source Separation", Journal of Open Source Software 4(41), 2019.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxsep import lstm
from jaxsep.config import OpenUnmixConfig
from jaxsep.products import product

__all__ = [
    "OpenUnmix",
    "OpenUnmixConfig",
    "Variables",
    "apply",
    "apply_frames",
    "apply_train",
    "decode",
    "encode",
    "init",
    "layers",
    "merge",
]

Variables = Mapping[str, Any]
"""``{"params": {...}, "batch_stats": {...}}``, nested dicts of arrays."""

BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # torch's: the weight of the new batch
DROPOUT = 0.4

# torch's kaiming-uniform with a = sqrt(5): uniform within ±1 / sqrt(fan_in).
_dense_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class BatchNorm(nn.Module):
    """Batch normalisation with torch's statistics: the running variance is the unbiased one."""

    def __call__(self, x: Float[Array, "batch frame feature"], *, train: bool) -> Array:
        """Normalise over batch and frames; in training with their own statistics, which are also kept."""
        gain, offset = self.affine(x, train=train)
        return x * gain[None, None] + offset[None, None]

    @nn.compact
    def affine(
        self, x: Float[Array, "batch frame feature"], *, train: bool
    ) -> tuple[Float[Array, " feature"], Float[Array, " feature"]]:
        """What each feature is multiplied with and what is added: all that reads ``x`` are its statistics."""
        features = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        if train:
            # Two passes: E[x²] - E[x]² loses the variance of features far from zero to rounding. Around its
            # minimum the variance does not depend on the mean, so no gradient goes that way.
            batch_mean = jnp.mean(x, axis=(0, 1))
            batch_var = jnp.mean((x - lax.stop_gradient(batch_mean)[None, None]) ** 2, axis=(0, 1))
            n = x.shape[0] * x.shape[1]
            keep, new = 1.0 - BATCH_NORM_MOMENTUM, BATCH_NORM_MOMENTUM
            mean.value = keep * mean.value + new * batch_mean
            var.value = keep * var.value + new * batch_var * (n / max(1, n - 1))
        else:
            batch_mean, batch_var = mean.value, var.value
        gain = scale / jnp.sqrt(batch_var + BATCH_NORM_EPS)
        return gain, bias - batch_mean * gain


class ScaledDense(nn.Module):
    """``((x + mean) scale) kernel``, where the mean and scale of a bin are those of all channels.

    The scale goes into the kernel and the mean into what is added: the wide input is never changed, and the gradients
    of both follow from the kernel's, without one of the input.
    """

    features: int
    bf16: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch frame channel*bin"], scale: Array, mean: Array) -> Array:
        """The product, for every frame."""
        kernel = self.param("kernel", _dense_init, (x.shape[-1], self.features))
        n_channels = x.shape[-1] // len(scale)
        scaled = kernel * jnp.tile(scale, n_channels)[:, None]
        return product(x, scaled, bf16=self.bf16) + (jnp.tile(mean, n_channels) @ scaled)[None, None]


class LSTMLayer(nn.Module):
    """Holds the parameters of one (bi)directional layer; the computation is :mod:`jaxsep.lstm`'s."""

    hidden_size: int
    n_directions: int
    bf16: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch frame feature"]) -> Array:
        """Run the layer over whole sequences."""

        def draw(key: Array, shape: tuple[int, ...]) -> Array:
            return lstm.draw(shape, self.hidden_size, key=key)

        shapes = lstm.param_shapes(x.shape[-1], self.hidden_size, self.n_directions)._asdict()
        params = {name: self.param(name, draw, shape) for name, shape in shapes.items()}
        return lstm.bilstm(lstm.LSTMParams(**params), x, bf16=self.bf16)


class LSTMStack(nn.Module):
    """Layers on top of each other, with dropout between them."""

    config: OpenUnmixConfig
    bf16: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch frame feature"], *, dropout: float) -> Array:
        """Run all layers over whole sequences."""
        n_directions = 2 if self.config.bidirectional else 1
        for index in range(self.config.n_layers):
            if index > 0 and dropout > 0:
                x = nn.Dropout(dropout, deterministic=False)(x)
            hidden_size = self.config.hidden_size // n_directions
            x = LSTMLayer(hidden_size, n_directions, self.bf16, name=f"layer_{index}")(x)
        return x


class OpenUnmix(nn.Module):
    """The net of one target. Here magnitudes are ``(batch, frame, channel, freq)``: what a frame has lies together."""

    config: OpenUnmixConfig
    bf16: bool = False

    def setup(self) -> None:
        """Name the parts as open-unmix's own state dict does."""
        config = self.config
        self.input_mean = self.param("input_mean", nn.initializers.zeros, (config.max_bin,))
        self.input_scale = self.param("input_scale", nn.initializers.ones, (config.max_bin,))
        self.output_mean = self.param("output_mean", nn.initializers.ones, (config.n_bins,))
        self.output_scale = self.param("output_scale", nn.initializers.ones, (config.n_bins,))
        multiply = partial(_dense_product, bf16=self.bf16)
        dense = partial(nn.Dense, use_bias=False, kernel_init=_dense_init, dot_general=multiply)
        self.fc1 = ScaledDense(config.hidden_size, self.bf16)
        self.fc2 = dense(config.hidden_size)
        self.fc3 = dense(config.n_channels * config.n_bins)
        self.bn1, self.bn2, self.bn3 = BatchNorm(), BatchNorm(), BatchNorm()
        self.lstm = LSTMStack(config, self.bf16)

    def __call__(self, magnitude: Array, *, train: bool, dropout: float, frame_step: int = 1) -> Array:
        """Magnitudes of the mixture to magnitudes of the target, at every ``frame_step``-th frame."""
        x = self.encode(magnitude, train=train)
        recurrent = self.lstm(x, dropout=dropout)
        x = self.merge(x[:, ::frame_step], recurrent[:, ::frame_step], train=train)
        return self.decode(x, magnitude[:, ::frame_step], train=train)

    def encode(self, magnitude: Array, *, train: bool) -> Float[Array, "batch frame hidden"]:
        """From magnitudes to the LSTM's input."""
        x = magnitude[..., : self.config.max_bin]
        x = self.fc1(x.reshape(*x.shape[:2], -1), self.input_scale, self.input_mean)
        return jnp.tanh(self.bn1(x, train=train))

    def merge(self, x: Array, recurrent: Array, *, train: bool) -> Float[Array, "batch frame hidden"]:
        """From the LSTM's input and output to one narrow sequence."""
        x = jnp.concatenate([x, recurrent], axis=-1)
        return nn.relu(self.bn2(self.fc2(x), train=train))

    def decode(self, x: Array, magnitude: Array, *, train: bool) -> Array:
        """From the narrow sequence, through a mask, to the target's magnitudes."""
        x = self.fc3(x)
        gain, offset = (a.reshape(self.config.n_channels, -1) for a in self.bn3.affine(x, train=train))
        # Both scalings in one: the wide array is read once, and once more for their gradients.
        gain = gain * self.output_scale[None]
        offset = offset * self.output_scale[None] + self.output_mean[None]
        mask = nn.relu(x.reshape(magnitude.shape) * gain[None, None] + offset[None, None])
        return mask * magnitude


def _dense_product(
    x: Array, kernel: Array, dimension_numbers: Any, precision: Any = None, *, bf16: bool
) -> Array:
    """What a dense layer multiplies with."""
    del dimension_numbers, precision  # a dense layer's: the last axis with the first
    return product(x, kernel, bf16=bf16)


def _frames_first(magnitude: Array) -> Array:
    return jnp.transpose(magnitude, (0, 3, 1, 2))


def _frames_last(magnitude: Array) -> Array:
    return jnp.transpose(magnitude, (0, 2, 3, 1))


def init(config: OpenUnmixConfig, *, key: Array) -> Variables:
    """Fresh variables, drawn from the distributions that torch draws from.

    Args:
        config: sizes of the net.
        key: PRNG key.

    Returns:
        ``{"params": ..., "batch_stats": ...}``; ``input_mean`` and ``input_scale`` are 0 and 1, to be
        replaced by minus the mean and one over the standard deviation of the training set.

    Example:
        >>> import jax
        >>> variables = init(OpenUnmixConfig(hidden_size=8), key=jax.random.key(0))
        >>> variables["params"]["fc1"]["kernel"].shape
        (2974, 8)
    """
    magnitude = jnp.zeros((1, 1, config.n_channels, config.n_bins))
    return OpenUnmix(config).init(key, magnitude, train=False, dropout=0.0)


def apply(
    variables: Variables, magnitude: Float[Array, "*batch channel freq frame"], config: OpenUnmixConfig
) -> Float[Array, "*batch channel freq frame"]:
    """Estimate the target's magnitudes: ``mask(magnitude) × magnitude`` with a mask of 0 or more.

    Args:
        variables: the net's arrays.
        magnitude: of the mixture's STFT, 0 or more, any leading dimensions.
        config: sizes of the net.

    Returns:
        Magnitudes of the target, 0 or more, in the shape of ``magnitude``.

    Raises:
        ValueError: channels or bins differ from the configuration's.

    Example:
        >>> import jax
        >>> config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=8)
        >>> variables = init(config, key=jax.random.key(0))
        >>> apply(variables, jnp.ones((1, 33, 5)), config).shape
        (1, 33, 5)
    """
    flat = _frames_first(_flatten(magnitude, config))
    estimate = OpenUnmix(config).apply(variables, flat, train=False, dropout=0.0)
    return _frames_last(estimate).reshape(magnitude.shape)


def apply_train(
    variables: Variables,
    magnitude: Float[Array, "*batch channel freq frame"],
    config: OpenUnmixConfig,
    *,
    key: Array,
    dropout: float = DROPOUT,
) -> tuple[Float[Array, "*batch channel freq frame"], Variables]:
    """Estimate as in training: batch statistics of this batch, dropout between the LSTM's layers.

    Args:
        variables: the net's arrays.
        magnitude: of the mixtures' STFTs, 0 or more; statistics are taken over leading dimensions and frames.
        config: sizes of the net.
        key: PRNG key of the dropout.
        dropout: probability with which a feature is dropped, 0 to 1.

    Returns:
        Magnitudes of the target, and the new ``batch_stats``: ``0.9 old + 0.1 batch``, the variance unbiased.

    Raises:
        ValueError: channels or bins differ from the configuration's.

    Example:
        >>> import jax
        >>> config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=8)
        >>> variables = init(config, key=jax.random.key(0))
        >>> magnitude = jnp.ones((4, 1, 33, 5))
        >>> estimate, batch_stats = apply_train(variables, magnitude, config, key=jax.random.key(1))
        >>> sorted(batch_stats)
        ['bn1', 'bn2', 'bn3']
    """
    flat = _frames_first(_flatten(magnitude, config))
    estimate, batch_stats = apply_frames(variables, flat, config, key=key, dropout=dropout)
    return _frames_last(estimate).reshape(magnitude.shape), batch_stats


def apply_frames(
    variables: Variables,
    magnitude: Float[Array, "batch frame channel freq"],
    config: OpenUnmixConfig,
    *,
    key: Array,
    dropout: float = DROPOUT,
    frame_step: int = 1,
    bf16: bool = False,
) -> tuple[Float[Array, "batch some_frame channel freq"], Variables]:
    """:func:`apply_train` in the layout in which frames need not be gathered, for the step of a training.

    Args:
        variables: the net's arrays.
        magnitude: of the mixtures' STFTs, 0 or more.
        config: sizes of the net.
        key: PRNG key of the dropout.
        dropout: probability with which a feature is dropped, 0 to 1.
        frame_step: what comes after the LSTM runs on every so many-th frame only.
        bf16: multiply in bfloat16 in the large products.

    Returns:
        Magnitudes of the target at every ``frame_step``-th frame, and the new ``batch_stats``.

    Example:
        >>> import jax
        >>> config = OpenUnmixConfig(n_channels=1, n_fft=64, hop_length=16, hidden_size=8)
        >>> variables = init(config, key=jax.random.key(0))
        >>> magnitude = jnp.ones((4, 5, 1, 33))
        >>> apply_frames(variables, magnitude, config, key=jax.random.key(1), frame_step=2)[0].shape
        (4, 3, 1, 33)
    """
    estimate, updated = OpenUnmix(config, bf16).apply(
        variables,
        magnitude,
        train=True,
        dropout=dropout,
        frame_step=frame_step,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    return estimate, updated["batch_stats"]


def encode(
    variables: Variables, magnitude: Float[Array, "batch channel freq frame"], config: OpenUnmixConfig
) -> Float[Array, "batch frame hidden"]:
    """The part of :func:`apply` before the LSTM; frames do not see each other."""
    return OpenUnmix(config).apply(variables, _frames_first(magnitude), train=False, method="encode")


def layers(variables: Variables, config: OpenUnmixConfig) -> list[lstm.LSTMParams]:
    """The LSTM's layers, first one first, for :func:`jaxsep.lstm.scan_layer`."""
    stack = variables["params"]["lstm"]
    return [lstm.LSTMParams(**stack[f"layer_{index}"]) for index in range(config.n_layers)]


def merge(
    variables: Variables,
    x: Float[Array, "batch frame hidden"],
    recurrent: Float[Array, "batch frame hidden"],
    config: OpenUnmixConfig,
) -> Float[Array, "batch frame hidden"]:
    """The part of :func:`apply` that joins the LSTM's input and output; frames do not see each other."""
    return OpenUnmix(config).apply(variables, x, recurrent, train=False, method="merge")


def decode(
    variables: Variables,
    x: Float[Array, "batch frame hidden"],
    magnitude: Float[Array, "batch channel freq frame"],
    config: OpenUnmixConfig,
) -> Float[Array, "batch channel freq frame"]:
    """The part of :func:`apply` after :func:`merge`; frames do not see each other."""
    estimate = OpenUnmix(config).apply(variables, x, _frames_first(magnitude), train=False, method="decode")
    return _frames_last(estimate)


def _flatten(magnitude: Array, config: OpenUnmixConfig) -> Array:
    """All leading dimensions as one, after a check of the others."""
    expected = (config.n_channels, config.n_bins)
    if magnitude.ndim < 3 or magnitude.shape[-3:-1] != expected:
        raise ValueError(
            f"expected magnitudes (..., {expected[0]}, {expected[1]}, frame) for this configuration, "
            f"got shape {magnitude.shape}"
        )
    return magnitude.reshape(-1, *magnitude.shape[-3:])
