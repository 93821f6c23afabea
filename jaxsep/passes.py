"""The three passes of a separation, each over a song in blocks of one fixed shape.

:func:`encode` reads the song and keeps, of every frame, the narrow input of each net's LSTM. :func:`recur`
runs the LSTMs over these sequences, forwards from the start and backwards from the true end at once, handing
state from block to block. :func:`render` reads the song again and makes what is wide - masks, Wiener filter,
overlap-add - a block at a time. Nothing wide is kept, and the result is that of the whole song at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import filtering, lstm, openunmix, stft
from jaxsep.blocks import Block
from jaxsep.config import OpenUnmixConfig, SeparationConfig
from jaxsep.io.checkpoint import Weights

__all__ = ["Report", "Stack", "encode", "recur", "render", "stack_models"]

Report = Callable[[float], None]
"""Called with the part of the pass that is done, from 0 to 1."""


class Stack(NamedTuple):
    """Nets of equal shape that run as one; every array has a leading target axis."""

    targets: tuple[str, ...]
    variables: openunmix.Variables
    config: OpenUnmixConfig


class Sequences(NamedTuple):
    """A song as the nets of one stack see it."""

    blocks: list[Array]  # each (target, group, frame, hidden)
    last_valid: int  # frames of the last block that belong to the song


def stack_models(models: Mapping[str, Weights]) -> list[Stack]:
    """Join the nets that are faster together, in the order of ``models``.

    An accelerator wants few large products: there, nets of equal shape form one stack. A CPU is busy with one
    net, and stacking would only keep four times the sequences in memory: there, each stands alone.
    """
    alone = jax.default_backend() == "cpu"
    groups: list[list[str]] = []
    for target, model in models.items():
        if groups and not alone and models[groups[-1][0]].config == model.config:
            groups[-1].append(target)
        else:
            groups.append([target])
    return [
        Stack(
            tuple(group),
            jax.tree.map(lambda *arrays: jnp.stack(arrays), *(dict(models[t].variables) for t in group)),
            models[group[0]].config,
        )
        for group in groups
    ]


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
        spectrogram = _transform(block.samples, config=stacks[0].config)
        for blocks, stack in zip(kept, stacks, strict=True):
            blocks.append(_encode(stack.variables, spectrogram, config=stack.config))
        # Work is queued, not awaited: without this the whole song's audio would wait in memory.
        jax.block_until_ready([blocks[-1] for blocks in kept])
        if n_blocks:
            report((index + 1) / n_blocks)
    return [Sequences(blocks, n_valid) for blocks in kept]


def recur(stacks: Sequence[Stack], encoded: list[Sequences], *, report: Report) -> list[Sequences]:
    """Run the LSTMs; return what the decoders need of every frame.

    The list ``encoded`` is emptied on the way: each sequence is let go when the next one has been made of it.
    """
    n_steps = len(encoded[0].blocks) * sum(stack.config.n_layers for stack in stacks)
    done = iter(range(1, n_steps + 1))
    results = []
    for stack in stacks:
        inputs, last_valid = encoded.pop(0)
        halves: list[tuple[Array, ...]] = [(block,) for block in inputs]
        for layer in openunmix.layers(stack.variables, stack.config):
            for _ in _run_layer(layer, halves, last_valid):
                report(next(done) / n_steps)
        for index, recurrent in enumerate(halves):
            inputs[index] = _merge(stack.variables, inputs[index], recurrent, config=stack.config)
            halves[index] = ()
        results.append(Sequences(jax.block_until_ready(inputs), last_valid))
    return results


def _run_layer(params: lstm.LSTMParams, halves: list[tuple[Array, ...]], last_valid: int) -> Iterator[None]:
    """Replace a layer's input by its output, block by block; yields after each.

    ``halves`` holds for every block the features as one array, or as a forward and a backward one. While the
    forward direction reads block ``i``, the backward one reads block ``n - 1 - i``: from the middle on, every
    step has read its two blocks for the last time, so the input goes as the output comes.
    """
    n_blocks, n_frames = len(halves), halves[0][0].shape[2]
    targets, n_directions, hidden_size, _ = params.recurrent_kernel.shape
    outputs: list[list[Array]] = [[] for _ in range(n_blocks)]
    # Made here, not when compiled: a song of one block and one of more then run the same code.
    zeros = np.zeros((targets * n_directions, halves[0][0].shape[1], hidden_size), halves[0][0].dtype)
    carry = lstm.LSTMCarry(zeros, zeros)
    for index in range(n_blocks):
        mirrored = n_blocks - 1 - index
        # The backward direction meets the padding of the last block first, before it has read anything.
        n_valid = last_valid if index == 0 else n_frames
        made, carry = _scan(params, halves[index], halves[mirrored], n_valid, carry)
        jax.block_until_ready(made)
        outputs[index].insert(0, made[0])
        if n_directions == 2:
            outputs[mirrored].append(made[1])
        if index >= mirrored:
            halves[index] = halves[mirrored] = ()
        yield
    halves[:] = [tuple(pair) for pair in outputs]


def render(
    stacks: Sequence[Stack],
    hidden: list[Sequences],
    song: Iterable[Block],
    config: SeparationConfig,
    *,
    report: Report,
) -> Iterator[Float[np.ndarray, "group source channel time"]]:
    """Read the song again and make its stems, a block at a time.

    Args:
        stacks: the nets.
        hidden: what :func:`recur` returned; emptied on the way.
        song: its blocks once more.
        config: how magnitudes become stems.
        report: called with the part that is done.

    Yields:
        float32 pieces that together are as long as the song.
    """
    sizes = stacks[0].config
    n_sources = sum(len(stack.targets) for stack in stacks) + config.residual
    n_blocks, position, tail = len(hidden[0].blocks), -(sizes.n_fft // 2), None
    for index, block in enumerate(song):
        spectrogram = _transform(block.samples, config=sizes)
        magnitudes = tuple(
            _decode(stack.variables, sequences.blocks[index], spectrogram, config=stack.config)
            for stack, sequences in zip(stacks, hidden, strict=True)
        )
        for sequences in hidden:
            sequences.blocks[index] = None  # type: ignore[call-overload]
        if tail is None:
            tail = _Tail.empty(n_sources, block.samples.shape[:-1], sizes)
        made, tail = _filter(magnitudes, spectrogram, block, tail, sizes=sizes, config=config)
        stop = block.samples.shape[-1] - (sizes.n_fft - sizes.hop_length)
        if index == n_blocks - 1:
            stop = block.length - position
        yield np.asarray(made)[..., max(0, -position) : stop]
        position += stop
        report((index + 1) / n_blocks)


class _Tail(NamedTuple):
    """What the frames so far add to samples of the next block."""

    stems: Array  # (group, source, channel, n_fft - hop_length)
    weight: Array  # (n_fft - hop_length,), the summed squared window

    @classmethod
    def empty(cls, n_sources: int, group_channel: tuple[int, int], sizes: OpenUnmixConfig) -> "_Tail":
        group, channels = group_channel
        overlap = sizes.n_fft - sizes.hop_length
        return cls(jnp.zeros((group, n_sources, channels, overlap)), jnp.zeros(overlap))


# The compiled functions: one each for the whole song, whatever its length.


@partial(jax.jit, static_argnames="config")
def _transform(samples: Array, *, config: OpenUnmixConfig) -> Complex[Array, "group channel freq frame"]:
    return stft.stft(samples, n_fft=config.n_fft, hop_length=config.hop_length, center=False)


@partial(jax.jit, static_argnames="config")
def _encode(variables: openunmix.Variables, spectrogram: Array, *, config: OpenUnmixConfig) -> Array:
    return jax.vmap(partial(openunmix.encode, config=config), (0, None))(variables, jnp.abs(spectrogram))


@jax.jit
def _scan(
    params: lstm.LSTMParams,
    block: tuple[Array, ...],
    mirrored: tuple[Array, ...],
    n_valid: int,
    carry: lstm.LSTMCarry,
) -> tuple[Array, lstm.LSTMCarry]:
    """One block of a layer: ``(direction, target, group, frame, hidden)``, frames in the song's order."""
    targets, directions, *_ = params.recurrent_kernel.shape
    x = jnp.concatenate(block, axis=-1)[:, None]
    valid = jnp.ones((1, x.shape[3]), bool)
    if directions == 2:
        reverse = jnp.concatenate(mirrored, axis=-1)[:, None, :, ::-1]
        x = jnp.concatenate([x, reverse], axis=1)
        valid = jnp.concatenate([valid, (jnp.arange(x.shape[3]) < n_valid)[None, ::-1]])
    # To the layer, the targets' directions are so many directions: all advance in one loop.
    join = partial(jax.tree.map, lambda a: a.reshape(-1, *a.shape[2:]))
    params, x = join(params), join(x)
    made, carry = lstm.scan_layer(params, x, carry, valid=jnp.tile(valid, (targets, 1)))
    made = jnp.moveaxis(made.reshape(targets, directions, *made.shape[1:]), 1, 0)
    if directions == 2:
        made = made.at[1].set(made[1, :, :, ::-1])
    return made, carry


@partial(jax.jit, static_argnames="config")
def _merge(
    variables: openunmix.Variables, x: Array, recurrent: tuple[Array, ...], *, config: OpenUnmixConfig
) -> Array:
    return jax.vmap(partial(openunmix.merge, config=config))(
        variables, x, jnp.concatenate(recurrent, axis=-1)
    )


@partial(jax.jit, static_argnames="config")
def _decode(
    variables: openunmix.Variables, x: Array, spectrogram: Array, *, config: OpenUnmixConfig
) -> Array:
    decode = jax.vmap(partial(openunmix.decode, config=config), (0, 0, None))
    return decode(variables, x, jnp.abs(spectrogram))


@partial(jax.jit, static_argnames=("sizes", "config"))
def _filter(
    magnitudes: tuple[Array, ...],
    spectrogram: Array,
    block: Block,
    tail: _Tail,
    *,
    sizes: OpenUnmixConfig,
    config: SeparationConfig,
) -> tuple[Float[Array, "group source channel time"], _Tail]:
    """Wiener filter and overlap-add; the samples that later blocks will add to are at the end."""
    n_frames = spectrogram.shape[-1]
    valid = jnp.arange(n_frames) < block.n_valid
    # Frames of zeros take no part in the filter's sums, nor in the overlap-add.
    spectrogram = jnp.where(valid[None, None, None], spectrogram, 0)
    sources = jnp.where(valid[None, None, None, None], jnp.concatenate(magnitudes), 0)
    # Expectation maximisation shares the mixture out: a lone target needs something beside it.
    alone = len(sources) == 1 and config.n_iters > 0
    stems = filtering.wiener(
        jnp.moveaxis(sources, 0, 1),
        spectrogram,
        n_iters=config.n_iters,
        softmask=config.softmask,
        residual=config.residual or alone,
    )
    if alone and not config.residual:
        stems = stems[:, :1]
    window = stft.hann_window(sizes.n_fft).astype(np.float32)
    frames = jnp.fft.irfft(jnp.swapaxes(stems, -1, -2), n=sizes.n_fft, axis=-1)
    total = stft.overlap_add(frames * window[None, None, None, None], sizes.hop_length)
    weight = stft.overlap_add(valid[:, None] * (window**2)[None], sizes.hop_length)
    overlap = sizes.n_fft - sizes.hop_length
    total = total.at[..., :overlap].add(tail.stems)
    weight = weight.at[:overlap].add(tail.weight)
    finished = total / jnp.where(weight > 0, weight, 1)[None, None, None]
    if config.consistency:
        missing = block.samples - jnp.sum(finished, axis=1)
        finished = finished + missing[:, None] / finished.shape[1]
    step = n_frames * sizes.hop_length
    return finished, _Tail(total[..., step:], weight[step:])
