"""The loss over whole songs, in blocks of one shape: equal to that of each song at once."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsep import blocks, passes
from jaxsep.batches import MIXTURE, Song
from jaxsep.blocks import Block
from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import Weights
from jaxsep.training.state import unstack

__all__ = ["song_losses"]

BLOCK_FRAMES = 300


def song_losses(
    variables: Any,
    songs: Sequence[Song],
    config: OpenUnmixConfig,
    *,
    targets: Sequence[str],
) -> Float[np.ndarray, "song target"]:
    """``mean (net(|X|) - |X_target|)²`` of each song and target, over all its channels, bins and frames.

    Frames are not centred, as in training. The song is run as a separation runs it (:mod:`jaxsep.passes`): its
    mixture in blocks, the LSTMs with their state handed from block to block in both directions.

    Args:
        variables: stacked ``{"params", "batch_stats"}``.
        songs: any number of any length.
        config: sizes of the nets.
        targets: the name of each net's source.

    Returns:
        float64; the loss of an epoch is the mean over songs, as in open-unmix.

    Raises:
        ValueError: a song has no sample or another number of channels.
    """
    # Batches live on all devices, a song on one: its loss is the same number on any number of them.
    variables = jax.tree.map(np.asarray, jax.device_get(variables))
    models = {name: Weights(unstack(variables, i), config, {}) for i, name in enumerate(targets)}
    stacks = passes.stack_models(models)
    return np.array([_song_loss(stacks, song, config, targets) for song in songs]).reshape(-1, len(targets))


def _song_loss(
    stacks: list[passes.Stack], song: Song, config: OpenUnmixConfig, targets: Sequence[str]
) -> Float[np.ndarray, " target"]:
    encoded = passes.encode(stacks, _cut(song, [MIXTURE], config), n_blocks=None, report=_nothing)
    hidden = passes.recur(stacks, encoded, report=_nothing)
    estimates = passes.decode(stacks, hidden, _cut(song, [MIXTURE], config))
    total, n_frames = np.zeros(len(targets)), 0
    for estimate, truth in zip(estimates, _cut(song, targets, config), strict=True):
        magnitudes = jnp.concatenate(estimate.magnitudes)[:, 0]
        errors = _frame_errors(magnitudes, truth.samples, n_fft=config.n_fft, hop_length=config.hop_length)
        total += np.asarray(errors, np.float64)[:, : truth.n_valid].sum(axis=1)
        n_frames += truth.n_valid
    return total / n_frames


def _cut(song: Song, names: Sequence[str], config: OpenUnmixConfig) -> Iterator[Block]:
    """Blocks of samples ``(name, channel, time)``, full scale ±1: of one group, to the passes."""

    def pieces() -> Iterator[np.ndarray]:
        for piece in song.pieces(names):
            if piece.shape[1] != config.n_channels:
                raise ValueError(f"{song.name}: expected {config.n_channels} channels, got {piece.shape[1]}")
            yield piece.astype(np.float32) / 32768.0

    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    return blocks.cut(pieces(), n_frames=BLOCK_FRAMES, center=False, **sizes)


@jax.jit
def _mean_square(difference: Array) -> Array:
    return jnp.mean(difference**2, axis=(1, 2))


def _frame_errors(
    estimate: Float[Array, "target channel freq frame"], truth: np.ndarray, *, n_fft: int, hop_length: int
) -> Float[Array, "target frame"]:
    spectrogram = passes.rendering.transform(truth, n_fft=n_fft, hop_length=hop_length)
    return _mean_square(estimate - jnp.abs(spectrogram))


def _nothing(done: float) -> None:
    """No report of a song's progress."""
