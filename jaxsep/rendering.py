"""From magnitudes to sound, block by block: what every method of separation ends with.

A method yields, for each block of a song, the magnitudes of its sources; :func:`render` filters the mixture
with them and adds up the frames. Only the samples that two blocks share wait in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import filtering, memory, stft
from jaxsep.blocks import Block
from jaxsep.config import SeparationConfig
from jaxsep.planes import sum_along

__all__ = ["Estimate", "OpenAudio", "Report", "render", "transform"]

Report = Callable[[float], None]
"""Called with the part of the work that is done, from 0 to 1."""

OpenAudio = Callable[[], Iterable[np.ndarray]]
"""Reads a song from its start each time that it is called: pieces ``(channel, time)``."""


class Estimate(NamedTuple):
    """A block of a song and what a method makes of it."""

    block: Block  # samples (group, channel, time)
    spectrogram: Complex[Array, "group channel freq frame"]  # that of the samples, not centred
    magnitudes: tuple[Float[Array, "source group channel freq frame"], ...]  # joined along source


def transform(
    samples: Float[Array, "group channel time"], *, n_fft: int, hop_length: int
) -> Complex[Array, "group channel freq frame"]:
    """The spectrogram of a block, compiled once for all blocks of a song, and awaited: see :mod:`jaxsep.one_core`."""
    return jax.block_until_ready(_transform(samples, n_fft=n_fft, hop_length=hop_length, center=False))


_transform = jax.jit(stft.stft, static_argnames=("n_fft", "hop_length", "center"))


def render(
    estimates: Iterable[Estimate],
    config: SeparationConfig,
    *,
    n_fft: int,
    hop_length: int,
    n_blocks: int | None = None,
    report: Report | None = None,
    kept: tuple[int, ...] | None = None,
) -> Iterator[Float[np.ndarray, "group source channel time"]]:
    """Filter a song with the magnitudes of its sources, a block at a time.

    Args:
        estimates: the song's blocks in order, of equal shape.
        config: how magnitudes become stems.
        n_fft: window length in samples.
        hop_length: samples between frames.
        n_blocks: how many there are, if that is known.
        report: called with the part that is done.
        kept: the numbers of the sources that are wanted as sound; all by default. With some of them
            ``config.consistency``, which is about the sum of all, has no say.

    Yields:
        float32 pieces that together are as long as the song; with ``config.residual`` one source more.
    """
    if kept is not None:
        config = replace(config, consistency=False)
    pieces = _pieces(estimates, config, kept, n_fft=n_fft, hop_length=hop_length)
    for index, piece in enumerate(_ahead(pieces)):
        yield piece
        if report and n_blocks:
            report((index + 1) / n_blocks)


def _ahead(pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The pieces, the next one in the making while the caller writes this one.

    All that computes does so in one other thread: see :mod:`jaxsep.one_core`.
    """
    remaining = iter(pieces)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, remaining, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, remaining, None)
            yield piece


def _pieces(
    estimates: Iterable[Estimate],
    config: SeparationConfig,
    kept: tuple[int, ...] | None,
    *,
    n_fft: int,
    hop_length: int,
) -> Iterator[Float[np.ndarray, "group source channel time"]]:
    overlap, position, tail = n_fft - hop_length, -(n_fft // 2), None
    for index, estimate in enumerate(estimates):
        block, magnitudes = estimate.block, estimate.magnitudes
        if tail is None:
            if kept is None:
                kept = tuple(range(sum(len(some) for some in magnitudes) + config.residual))
            group, channels = block.samples.shape[:2]
            tail = _Tail(jnp.zeros((group, len(kept), channels, overlap)), jnp.zeros(overlap))
        made, tail = _filter(
            magnitudes,
            estimate.spectrogram,
            block.samples,
            block.n_valid,
            tail,
            n_fft=n_fft,
            hop_length=hop_length,
            config=config,
            kept=kept,
        )
        stop = block.length - position if block.is_last else block.samples.shape[-1] - overlap
        yield np.asarray(made)[..., max(0, -position) : stop]
        position += stop
        memory.release(index)


class _Tail(NamedTuple):
    """What the frames so far add to samples of the next block."""

    stems: Array  # (group, source, channel, n_fft - hop_length)
    weight: Array  # (n_fft - hop_length,), the summed squared window


@partial(jax.jit, static_argnames=("n_fft", "hop_length", "config", "kept"))
def _filter(
    magnitudes: tuple[Array, ...],
    spectrogram: Array,
    samples: Array,
    n_valid: int,
    tail: _Tail,
    *,
    n_fft: int,
    hop_length: int,
    config: SeparationConfig,
    kept: tuple[int, ...],
) -> tuple[Float[Array, "group source channel time"], _Tail]:
    """Wiener filter and overlap-add; the samples that later blocks will add to are at the end."""
    n_frames = spectrogram.shape[-1]
    valid = jnp.arange(n_frames) < n_valid
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
    if len(kept) < stems.shape[1]:
        stems = jnp.stack([stems[:, source] for source in kept], axis=1)
    window = stft.hann_window(n_fft).astype(np.float32)
    frames = jnp.fft.irfft(jnp.swapaxes(stems, -1, -2), n=n_fft, axis=-1)
    total = stft.overlap_add(frames * window[None, None, None, None], hop_length)
    weight = stft.overlap_add(valid[:, None] * (window**2)[None], hop_length)
    overlap = n_fft - hop_length
    total = total.at[..., :overlap].add(tail.stems)
    weight = weight.at[:overlap].add(tail.weight)
    finished = total / jnp.where(weight > 0, weight, 1)[None, None, None]
    if config.consistency:
        missing = samples - sum_along(finished, 1)
        finished = finished + missing[:, None] / finished.shape[1]
    step = n_frames * hop_length
    return finished, _Tail(total[..., step:], weight[step:])
