"""Long short-term memory layers as ``torch.nn.LSTM`` defines them, run fast.

Three choices make these layers quick on every backend. The product of the whole input with the input
kernel is one large matrix product outside the loop over frames. The directions of a layer are one stacked
axis, so that both advance in the same loop. And the gradient is our own: the loop backwards keeps only the
gates' gradients, and the recurrent kernel's is one large product at the end, not a small one per frame.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxsep.products import product

__all__ = ["LSTMCarry", "LSTMParams", "bilstm", "draw", "init", "init_carry", "param_shapes", "scan_layer"]

Carry = Any  # pytrees of arrays
Frame = Any


class LSTMParams(NamedTuple):
    """One layer. ``direction`` is 1 (forward) or 2 (forward, backward); the gates' order is i, f, g, o."""

    input_kernel: Array  # (direction, in, 4 hidden)
    recurrent_kernel: Array  # (direction, hidden, 4 hidden)
    input_bias: Array  # (direction, 4 hidden)
    recurrent_bias: Array  # (direction, 4 hidden); a second bias, as torch keeps (and trains) two


class LSTMCarry(NamedTuple):
    """What one layer hands from frame to frame."""

    hidden: Array  # (direction, batch, hidden)
    cell: Array  # (direction, batch, hidden)


def param_shapes(input_size: int, hidden_size: int, n_directions: int) -> LSTMParams:
    """The shapes of a layer's parameters, each a tuple."""
    return LSTMParams(
        (n_directions, input_size, 4 * hidden_size),
        (n_directions, hidden_size, 4 * hidden_size),
        (n_directions, 4 * hidden_size),
        (n_directions, 4 * hidden_size),
    )


def draw(shape: tuple[int, ...], hidden_size: int, *, key: Array) -> Array:
    """One parameter as torch draws it: uniform within ±1 / sqrt(hidden_size)."""
    bound = 1.0 / math.sqrt(hidden_size)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def init(input_size: int, hidden_size: int, n_directions: int, *, key: Array) -> LSTMParams:
    """Parameters of one layer, drawn as torch draws them: uniform within ±1 / sqrt(hidden_size).

    Args:
        input_size: features of the layer's input.
        hidden_size: features of its output per direction.
        n_directions: 1 or 2.
        key: PRNG key.

    Returns:
        LSTMParams in JAX's default float type.

    Example:
        >>> init(3, 4, 2, key=jax.random.key(0)).recurrent_kernel.shape
        (2, 4, 16)
    """
    shapes = param_shapes(input_size, hidden_size, n_directions)
    keys = jax.random.split(key, len(shapes))
    return LSTMParams(*(draw(s, hidden_size, key=k) for s, k in zip(shapes, keys, strict=True)))


def init_carry(params: LSTMParams, batch: int) -> LSTMCarry:
    """The state before the first frame: zeros ``(direction, batch, hidden)``."""
    n_directions, hidden_size, _ = params.recurrent_kernel.shape
    zeros = jnp.zeros((n_directions, batch, hidden_size), params.recurrent_kernel.dtype)
    return LSTMCarry(zeros, zeros)


def bilstm(
    params: LSTMParams, x: Float[Array, "batch frame feature"], *, bf16: bool = False
) -> Float[Array, "batch frame direction*hidden"]:
    """One LSTM layer over whole sequences, forwards and, with two directions, backwards.

    ``i, f, g, o = split(x_t W + h_(t-1) R + b)``, ``c_t = σ(f) c_(t-1) + σ(i) tanh(g)``,
    ``h_t = σ(o) tanh(c_t)``.

    Args:
        params: the layer's parameters.
        x: sequences, any floating values.
        bf16: multiply the input in bfloat16, see :func:`jaxsep.products.product`.

    Returns:
        The hidden states, the backward ones after the forward ones on the last axis.

    Raises:
        ValueError: ``x`` is not three-dimensional or its features do not fit the parameters.

    Example:
        >>> layer = init(3, 4, 2, key=jax.random.key(0))
        >>> bilstm(layer, jnp.zeros((5, 7, 3))).shape
        (5, 7, 8)

    Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997, with the
    forget gate of Gers et al. (2000).
    """
    features = params.input_kernel.shape[1]
    if x.ndim != 3 or x.shape[-1] != features:
        raise ValueError(f"expected sequences (batch, frame, {features}), got shape {x.shape}")
    frames = jnp.swapaxes(x, 0, 1)
    both = jnp.stack([frames, frames[::-1]]) if params.input_kernel.shape[0] == 2 else frames[None]
    outputs, _ = _scan_frames(params, both, init_carry(params, x.shape[0]), None, bf16)
    if len(outputs) == 2:
        return jnp.swapaxes(jnp.concatenate([outputs[0], outputs[1][::-1]], axis=-1), 0, 1)
    return jnp.swapaxes(outputs[0], 0, 1)


def scan_layer(
    params: LSTMParams,
    x: Float[Array, "direction batch frame feature"],
    carry: LSTMCarry,
    *,
    valid: Bool[Array, "direction frame"] | None = None,
    bf16: bool = False,
) -> tuple[Float[Array, "direction batch frame hidden"], LSTMCarry]:
    """Run a layer over a piece of its sequences, each direction in the order in which it reads.

    A long sequence can be run piece by piece: the carry that comes out goes into the next piece. The backward
    direction starts at the end: hand its pieces, last one first, with their frames reversed.

    Args:
        params: the layer's parameters.
        x: each direction's input, frames in reading order.
        carry: the state before the first frame.
        valid: which frames are real. Padding, before or after the sequence, holds the state at zero.
        bf16: multiply the input in bfloat16; the products from frame to frame stay as they are.

    Returns:
        The hidden states in reading order, and the carry after the last frame.

    Example:
        >>> layer = init(3, 4, 1, key=jax.random.key(0))
        >>> x = jnp.ones((1, 1, 6, 3))
        >>> whole, _ = scan_layer(layer, x, init_carry(layer, 1))
        >>> first, carry = scan_layer(layer, x[:, :, :2], init_carry(layer, 1))
        >>> rest, _ = scan_layer(layer, x[:, :, 2:], carry)
        >>> bool(jnp.allclose(whole, jnp.concatenate([first, rest], axis=2)))
        True
    """
    outputs, carry = _scan_frames(params, jnp.swapaxes(x, 1, 2), carry, valid, bf16)
    return jnp.swapaxes(outputs, 1, 2), carry


def _scan_frames(
    params: LSTMParams,
    x: Float[Array, "direction frame batch feature"],
    carry: LSTMCarry,
    valid: Bool[Array, "direction frame"] | None,
    bf16: bool,
) -> tuple[Float[Array, "direction frame batch hidden"], LSTMCarry]:
    """:func:`scan_layer` with what a frame has lying together: nothing wide is transposed."""
    gates = jax.vmap(partial(product, bf16=bf16))(x, params.input_kernel)
    if valid is not None:
        # Closed input and forget gates: at padding the cell becomes 0, exactly, and the output with it.
        gates = jnp.where(valid[:, :, None, None], gates, jnp.asarray(-1e4, gates.dtype))
    return _recurrence(gates, params.recurrent_kernel, params.input_bias + params.recurrent_bias, carry)


def _halves(gates: Array) -> np.ndarray:
    """σ(a) = (1 + tanh(a / 2)) / 2: with i, f and o halved, one tanh serves all four gates."""
    return np.repeat([0.5, 0.5, 1.0, 0.5], gates.shape[-1] // 4).astype(gates.dtype)[None, None]


def _gates(gates: Array, kernel: Array, bias: Array, hidden: Array) -> Array:
    """``tanh`` of all four gates of one frame, halved, ``(direction, batch, 4 hidden)``."""
    product = lax.dot_general(hidden, kernel, (((2,), (1,)), ((0,), (0,))))
    return jnp.tanh((gates + product + bias[:, None]) * _halves(gates))


def _advance(activation: Array, cell: Array) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(activation, 4, axis=-1)
    cell = 0.5 * ((f + 1) * cell + (i + 1) * g)
    return 0.5 * (o + 1) * jnp.tanh(cell), cell


def _over_frames(
    step: Callable[[Carry, Frame], tuple[Carry, Frame]], carry: Carry, inputs: Frame, *, reverse: bool = False
) -> tuple[Carry, Frame]:
    """`jax.lax.scan` along the second axis of all arrays, which is where the frames are."""
    n_frames = jax.tree.leaves(inputs)[0].shape[1]
    numbers = jnp.arange(n_frames)

    def frame(number: Array) -> Frame:
        def pick(array: Array) -> Array:
            return lax.dynamic_index_in_dim(array, number, 1, keepdims=False, allow_negative_indices=False)

        return jax.tree.map(pick, inputs)

    def body(state: tuple[Carry, Frame], number: Array) -> tuple[tuple[Carry, Frame], None]:
        def write(whole: Array, one: Array) -> Array:
            return lax.dynamic_update_index_in_dim(whole, one, number, 1, allow_negative_indices=False)

        carry, made = step(state[0], frame(number))
        return (carry, jax.tree.map(write, state[1], made)), None

    shapes = jax.eval_shape(lambda: step(carry, frame(numbers[0]))[1])
    empty = jax.tree.map(lambda one: jnp.zeros((one.shape[0], n_frames, *one.shape[1:]), one.dtype), shapes)
    return lax.scan(body, (carry, empty), numbers, reverse=reverse)[0]


@jax.custom_vjp
def _recurrence(gates: Array, kernel: Array, bias: Array, carry: LSTMCarry) -> tuple[Array, LSTMCarry]:
    """The loop over frames: gates ``(direction, frame, batch, 4 hidden)`` to ``(..., hidden)``."""

    def step(carry: LSTMCarry, gates: Array) -> tuple[LSTMCarry, Array]:
        hidden, cell = _advance(_gates(gates, kernel, bias, carry.hidden), carry.cell)
        return LSTMCarry(hidden, cell), hidden

    carry, outputs = _over_frames(step, carry, gates)
    return outputs, carry


def _recurrence_forward(gates: Array, kernel: Array, bias: Array, carry: LSTMCarry) -> tuple:
    def step(carry: LSTMCarry, gates: Array) -> tuple[LSTMCarry, tuple[Array, Array, Array]]:
        activation = _gates(gates, kernel, bias, carry.hidden)
        hidden, cell = _advance(activation, carry.cell)
        return LSTMCarry(hidden, cell), (hidden, activation, cell)

    last, (outputs, activations, cells) = _over_frames(step, carry, gates)
    return (outputs, last), (kernel, carry, outputs, activations, cells)


def _recurrence_backward(saved: tuple, gradients: tuple) -> tuple:
    kernel, first, outputs, activations, cells = saved
    d_outputs, d_last = gradients
    # Turned once: XLA's CPU would turn it in every frame, and takes the barrier to see that this is meant.
    turned = lax.optimization_barrier(jnp.swapaxes(kernel, 1, 2))

    def step(carry: LSTMCarry, frame: tuple) -> tuple[LSTMCarry, Array]:
        d_output, activation, cell, previous_cell = frame
        i, f, g, o = jnp.split(activation, 4, axis=-1)
        squashed = jnp.tanh(cell)
        d_hidden = d_output + carry.hidden
        d_cell = carry.cell + 0.5 * d_hidden * (o + 1) * (1 - squashed**2)
        d_halves = (d_cell * g, d_cell * previous_cell, d_cell * (i + 1), d_hidden * squashed)
        d_activation = 0.5 * jnp.concatenate(d_halves, axis=-1)
        d_gates = d_activation * (1 - activation**2) * _halves(activation)
        d_previous = lax.dot_general(d_gates, turned, (((2,), (1,)), ((0,), (0,))))
        return LSTMCarry(d_previous, 0.5 * d_cell * (f + 1)), d_gates

    def previous(start: Array, states: Array) -> Array:
        return jnp.concatenate([start[:, None], states[:, :-1]], axis=1)

    frames = (d_outputs, activations, cells, previous(first.cell, cells))
    d_first, d_gates = _over_frames(step, d_last, frames, reverse=True)
    d_kernel = jnp.einsum("dtbh,dtbg->dhg", previous(first.hidden, outputs), d_gates)
    return d_gates, d_kernel, d_gates.sum((1, 2)), d_first


_recurrence.defvjp(_recurrence_forward, _recurrence_backward)
