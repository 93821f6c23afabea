"""The three passes of a separation, each over a song in blocks of one fixed shape.

:func:`encode` reads the song and keeps, of every frame, the narrow input of each net's LSTM. :func:`recur`
runs the LSTMs over these sequences, forwards from the start and backwards from the true end at once, handing
state from block to block. :func:`decode` reads the song again and makes what is wide, the sources' magnitudes,
a block at a time. Nothing wide is kept, and the result is that of the whole song at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from jaxsep import lstm, memory, openunmix, rendering
from jaxsep.blocks import Block
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import Weights
from jaxsep.one_core import one_core_jit
from jaxsep.rendering import Report

__all__ = ["Sequences", "Stack", "decode", "encode", "pick", "recur", "stack_models"]


class Stack(NamedTuple):
    """Nets of equal shape that run as one; every array has a leading target axis."""

    targets: tuple[str, ...]
    variables: openunmix.Variables  # without those of the LSTM
    layers: list[list[lstm.LSTMParams]]  # of the LSTM, for each lane: arrays (target, direction, ...)
    lanes: list[tuple[int, ...]]  # directions that run in one loop, 0 forward and 1 backward
    config: OpenUnmixConfig


class Sequences(NamedTuple):
    """A song as the nets of one stack see it."""

    blocks: list[Array]  # each (target, group, frame, hidden)
    last_valid: int  # frames of the last block that belong to the song


def stack_models(models: Mapping[str, Weights]) -> list[Stack]:
    """Join what is faster together, in the order of ``models``.

    An accelerator wants few large products: there, nets of equal shape form one stack, and all their
    directions advance in one loop. A CPU is busy with one net, and stacking would only keep four times the
    sequences in memory; and a recurrence keeps just one core busy, whatever there is beside it in the loop:
    there, nets stand alone and each direction is a lane of its own.
    """
    on_cpu = jax.default_backend() == "cpu"
    groups: list[list[str]] = []
    for target, model in models.items():
        if groups and not on_cpu and models[groups[-1][0]].config == model.config:
            groups[-1].append(target)
        else:
            groups.append([target])
    stacks = []
    for group in groups:
        config = models[group[0]].config
        directions = range(2 if config.bidirectional else 1)
        lanes = [(direction,) for direction in directions] if on_cpu else [tuple(directions)]
        # Joined and cut by NumPy: as operations of JAX, each shape would be compiled.
        joined = jax.tree.map(lambda *arrays: np.stack(arrays), *(dict(models[t].variables) for t in group))
        layers = [
            [jax.device_put(jax.tree.map(lambda a, lane=lane: a[:, list(lane)], layer)) for lane in lanes]
            for layer in openunmix.layers(joined, config)
        ]
        joined["params"] = {name: value for name, value in joined["params"].items() if name != "lstm"}
        stacks.append(Stack(tuple(group), jax.device_put(joined), layers, lanes, config))
    return stacks


def pick(stacks: Sequence[Stack], target: str) -> Stack:
    """The net of one target alone."""
    stack = next(stack for stack in stacks if target in stack.targets)
    if len(stack.targets) == 1:
        return stack
    place = stack.targets.index(target)
    variables, layers = jax.tree.map(lambda a: a[place : place + 1], (stack.variables, stack.layers))
    return stack._replace(targets=(target,), variables=variables, layers=layers)


def encode(
    stacks: Sequence[Stack], song: Iterable[Block], *, n_blocks: int | None, report: Report
) -> list[Sequences]:
    """Read the song and keep the input of each net's LSTM.

    Args:
        stacks: the nets.
        song: its blocks, samples ``(group, channel, time)``.
        n_blocks: how many there are, if that is known.
        report: called with the part that is done.

    Returns:
        For each stack the sequences of its targets.
    """
    kept: list[list[Array]] = [[] for _ in stacks]
    n_valid = 0
    for index, block in enumerate(song):
        n_valid = block.n_valid
        spectrogram = _transform(block.samples, stacks)
        for blocks, stack in zip(kept, stacks, strict=True):
            # Awaited, so that one runs after the other, and the whole song's audio does not wait in memory.
            made = _encode(stack.variables, spectrogram, config=stack.config)
            blocks.append(jax.block_until_ready(made))
        memory.release(index)
        if n_blocks:
            report((index + 1) / n_blocks)
    return [Sequences(blocks, n_valid) for blocks in kept]


def recur(stacks: Sequence[Stack], encoded: list[Sequences], *, report: Report) -> list[Sequences]:
    """Run the LSTMs; return what the decoders need of every frame.

    The list ``encoded`` is emptied on the way: each sequence is let go when the next one has been made of it.
    """
    n_steps = len(encoded[0].blocks) * sum(stack.config.n_layers * len(stack.lanes) for stack in stacks)
    done = iter(range(1, n_steps + 1))
    results = []
    with ThreadPoolExecutor(2) as pool:
        for stack in stacks:
            inputs, last_valid = encoded.pop(0)
            halves: list[tuple[Array, ...]] = [(block,) for block in inputs]
            for layer in stack.layers:
                for _ in _run_layer(layer, stack.lanes, halves, last_valid, pool):
                    report(next(done) / n_steps)
            for index, recurrent in enumerate(halves):
                merged = _merge(stack.variables, inputs[index], recurrent, config=stack.config)
                inputs[index] = jax.block_until_ready(merged)  # what is queued holds on to its arguments
                halves[index] = ()
                memory.release(index)
            results.append(Sequences(inputs, last_valid))
    return results


def _run_layer(
    layer: Sequence[lstm.LSTMParams],
    lanes: Sequence[tuple[int, ...]],
    halves: list[tuple[Array, ...]],
    last_valid: int,
    pool: Executor,
) -> Iterator[None]:
    """Replace a layer's input by its output, block by block; yields after each block of each lane.

    ``halves`` holds for every block the features as one array, or as a forward and a backward one. A direction reads
    each block once, the forward one from the start and the backward one from the end, and the input goes when the
    last direction has read it. Lanes do not wait for each other: two threads of one core get on best while one is at
    a large product, which keeps the core's arithmetic busy, and the other at a recurrence, which waits for memory.
    """
    n_blocks, n_frames = len(halves), halves[0][0].shape[2]
    n_directions = sum(map(len, lanes))
    outputs: list[dict[int, Array]] = [{} for _ in range(n_blocks)]  # direction to what it made
    running: dict[Future, tuple[int, int]] = {}  # to the number of the lane, and of its block

    def start(lane: int, step: int, carry: lstm.LSTMCarry) -> None:
        read = [halves[_place(step, direction, n_blocks)] for direction in lanes[lane]]
        # The backward direction meets the padding of the last block first, before it has read anything.
        n_valid = n_frames if step else last_valid
        running[pool.submit(_scan_now, layer[lane], read, n_valid, carry, lanes[lane])] = lane, step

    for lane, part in enumerate(layer):
        targets, directions, hidden_size, _ = part.recurrent_kernel.shape
        # Made here, not when compiled: a song of one block and one of more then run the same code.
        zeros = np.zeros((targets * directions, halves[0][0].shape[1], hidden_size), np.float32)
        start(lane, 0, lstm.LSTMCarry(zeros, zeros))
    while running:
        for job in wait(running, return_when=FIRST_COMPLETED).done:
            lane, step = running.pop(job)
            made, carry = job.result()
            if step + 1 < n_blocks:
                start(lane, step + 1, carry)
            for direction, output in zip(lanes[lane], made, strict=True):
                place = _place(step, direction, n_blocks)
                outputs[place][direction] = output
                if len(outputs[place]) == n_directions:
                    halves[place] = ()
            memory.release(step)
            yield
    halves[:] = [tuple(made for _, made in sorted(block.items())) for block in outputs]


def _place(step: int, direction: int, n_blocks: int) -> int:
    """The number of the block that a direction, 0 forward and 1 backward, reads at its ``step``."""
    return n_blocks - 1 - step if direction else step


def _scan_now(params, read, n_valid, carry, lane) -> tuple[list[Array], lstm.LSTMCarry]:
    """:func:`_scan`, awaited in the thread that it runs in: another lane's runs beside it."""
    return jax.block_until_ready(_scan(params, read, n_valid, carry, lane=lane))


def decode(
    stacks: Sequence[Stack], hidden: list[Sequences], song: Iterable[Block], *, keep: bool = False
) -> Iterator[rendering.Estimate]:
    """Read the song again and make its sources' magnitudes, a block at a time.

    Args:
        stacks: the nets.
        hidden: what :func:`recur` returned; emptied on the way.
        song: its blocks once more.
        keep: leave ``hidden`` as it is.

    Yields:
        What :func:`jaxsep.rendering.render` makes stems of.
    """
    for index, block in enumerate(song):
        spectrogram = _transform(block.samples, stacks)
        magnitudes = tuple(
            jax.block_until_ready(
                _decode(stack.variables, sequences.blocks[index], spectrogram, config=stack.config)
            )
            for stack, sequences in zip(stacks, hidden, strict=True)
        )
        for sequences in () if keep else hidden:
            sequences.blocks[index] = None  # type: ignore[call-overload]
        yield rendering.Estimate(block, spectrogram, magnitudes)


def _transform(samples: np.ndarray, stacks: Sequence[Stack]) -> Complex[Array, "group channel freq frame"]:
    sizes = stacks[0].config
    return rendering.transform(samples, n_fft=sizes.n_fft, hop_length=sizes.hop_length)


# The compiled functions: one each for the whole song, whatever its length. By default an accelerator multiplies
# float32 matrices in fewer bits, and stems would differ from those of a CPU by more than 16-bit files can hold.
_exactly = partial(jax.default_matmul_precision, "float32")


@partial(jax.jit, static_argnames="config")
def _encode(variables: openunmix.Variables, spectrogram: Array, *, config: OpenUnmixConfig) -> Array:
    encode = jax.vmap(partial(openunmix.encode, config=config), (0, None))
    with _exactly():
        return encode(variables, jnp.abs(spectrogram))


@partial(one_core_jit, static_argnames="lane")
def _scan(
    params: lstm.LSTMParams,
    read: Sequence[tuple[Array, ...]],
    n_valid: int,
    carry: lstm.LSTMCarry,
    *,
    lane: tuple[int, ...],
) -> tuple[list[Array], lstm.LSTMCarry]:
    """One block of some directions of a layer, 0 forward and 1 backward; each reads features of its own.

    Returns:
        For each direction ``(target, group, frame, hidden)`` with frames in the song's order, and the carry.
    """
    targets = params.recurrent_kernel.shape[0]
    x = [jnp.concatenate(block, axis=-1) for block in read]
    x = [block[:, :, ::-1] if d else block for d, block in zip(lane, x, strict=True)]
    # The forward direction meets padding when all that counts is done.
    reached = jnp.arange(x[0].shape[2])
    valid = [(reached < n_valid)[::-1] if d else reached >= 0 for d in lane]
    # To the layer, the targets' directions are so many directions: all advance in one loop.
    params, x = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (params, jnp.stack(x, axis=1)))
    with _exactly():
        made, carry = lstm.scan_layer(params, x, carry, valid=jnp.tile(jnp.stack(valid), (targets, 1)))
    made = made.reshape(targets, len(lane), *made.shape[1:])
    return [made[:, i, :, ::-1] if d else made[:, i] for i, d in enumerate(lane)], carry


@partial(jax.jit, static_argnames="config")
def _merge(
    variables: openunmix.Variables, x: Array, recurrent: tuple[Array, ...], *, config: OpenUnmixConfig
) -> Array:
    merge = jax.vmap(partial(openunmix.merge, config=config))
    with _exactly():
        return merge(variables, x, jnp.concatenate(recurrent, axis=-1))


@partial(jax.jit, static_argnames="config")
def _decode(
    variables: openunmix.Variables, x: Array, spectrogram: Array, *, config: OpenUnmixConfig
) -> Array:
    decode = jax.vmap(partial(openunmix.decode, config=config), (0, 0, None))
    with _exactly():
        return decode(variables, x, jnp.abs(spectrogram))
