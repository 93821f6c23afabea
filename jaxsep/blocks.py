"""A stream of audio of any length, cut into the frames of its whole-file STFT, a fixed number at a time.

Memory holds one block, whatever the length, and every block has the same shape, so that what is compiled for
one serves all, the last one included: its missing frames are zeros, counted out by ``n_valid``.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxsep import stft

__all__ = ["Block", "count", "cut"]


class Block(NamedTuple):
    """Samples behind a fixed number of frames."""

    samples: np.ndarray  # (..., (n_frames - 1) * hop_length + n_fft), zeros after the end
    n_valid: int  # how many of the frames belong to the signal: all of them, except in the last block
    length: int  # samples of the signal up to here: in the last block, all of them
    is_last: bool


def cut(
    pieces: Iterable[np.ndarray], *, n_frames: int, n_fft: int, hop_length: int, center: bool = True
) -> Iterator[Block]:
    """Cut a signal that comes in pieces into blocks of ``n_frames`` frames.

    ``stft.stft(block.samples, center=False)`` gives the frames ``b n_frames ... (b + 1) n_frames - 1`` of
    ``stft.stft(signal, center=center)``, the reflection at both ends of a centred one included.

    Args:
        pieces: arrays ``(..., time)`` of any lengths, equal in their leading dimensions.
        n_frames: frames per block, at least 1.
        n_fft: window length in samples.
        hop_length: samples between frames, at most ``n_fft``.
        center: whether frame ``t`` is centred on sample ``t * hop_length``, or starts there.

    Yields:
        Blocks, each overlapping the one before by ``n_fft - hop_length`` samples.

    Raises:
        ValueError: the pieces hold no sample at all.

    Example:
        >>> signal = np.arange(100.0)
        >>> [b.n_valid for b in cut([signal[:30], signal[30:]], n_frames=10, n_fft=16, hop_length=4)]
        [10, 10, 6]
    """
    size, step = (n_frames - 1) * hop_length + n_fft, n_frames * hop_length
    held: list[np.ndarray] = []
    n_held, total, is_first = 0, 0, True
    for piece, total in _reflected(pieces, n_fft // 2) if center else _counted(pieces):
        held.append(piece)
        n_held += piece.shape[-1]
        while n_held > size:  # not >=: whether a block is the last one shows only in what follows
            signal = np.concatenate(held, axis=-1)
            yield Block(signal[..., :size], n_frames, total, is_last=False)
            held = [signal[..., step:].copy()]  # a copy, or the view would keep all of it
            n_held -= step
            is_first = False
    n_valid = 1 + (n_held - n_fft) // hop_length
    if is_first:  # a signal below one window, followed by zeros, has one frame
        n_valid = max(1, n_valid)
    signal = np.concatenate(held, axis=-1)
    padding = [(0, 0)] * (signal.ndim - 1) + [(0, size - n_held)]
    yield Block(np.pad(signal, padding), n_valid, total, is_last=True)


def count(n_samples: int, *, n_frames: int, n_fft: int, hop_length: int) -> int:
    """How many blocks :func:`cut` makes of a signal of ``n_samples``.

    That may be one more than its frames need: the last block is then of samples after the last frame.

    Example:
        >>> count(100, n_frames=10, n_fft=16, hop_length=4)
        3
    """
    first = (n_frames - 1) * hop_length + n_fft
    beyond = n_samples + 2 * (n_fft // 2) - first
    return 1 + max(0, -(-beyond // (n_frames * hop_length)))


def _counted(pieces: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """The pieces as they are, each with the samples of the signal so far."""
    total = 0
    for piece in pieces:
        total += piece.shape[-1]
        yield piece, total
    if total == 0:
        raise ValueError("expected audio of at least one sample, got none")


def _reflected(pieces: Iterable[np.ndarray], pad: int) -> Iterator[tuple[np.ndarray, int]]:
    """The pieces with the signal's reflection around them, each with the samples of the signal so far."""
    head: list[np.ndarray] = []  # what there is until the margin before the signal can be built
    tail = None  # the last pad + 1 samples, from which the margin after it will be
    total = 0
    for piece in pieces:
        if piece.shape[-1] == 0:
            continue
        total += piece.shape[-1]
        if tail is None:
            head.append(piece)
            if total <= pad:
                continue
            piece = np.concatenate(head, axis=-1)
            yield piece[..., stft.reflection(total, pad)[0]], 0
        else:
            piece = np.asarray(piece)
        yield piece, total
        joined = piece if piece.shape[-1] > pad else np.concatenate([tail, piece], axis=-1)
        tail = joined[..., -(pad + 1) :].copy()
    if total == 0:
        raise ValueError("expected audio of at least one sample, got none")
    if tail is None:  # shorter than the margin: the reflection goes back and forth within it
        signal = np.concatenate(head, axis=-1)
        left, right = stft.reflection(total, pad)
        yield np.concatenate([signal[..., left], signal, signal[..., right]], axis=-1), total
        return
    yield tail[..., stft.reflection(tail.shape[-1], pad)[1]], total
