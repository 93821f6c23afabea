"""Mean and standard deviation of the mixtures that a net will see, with which it standardises its input."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsep import blocks
from jaxsep.batches import MIXTURE, Song
from jaxsep.config import OpenUnmixConfig
from jaxsep.stft import stft

__all__ = ["Statistics", "measure"]

BLOCK_FRAMES = 256
FLOOR = 1e-4  # of the largest standard deviation: no bin is magnified by more


class Statistics(NamedTuple):
    """Of each bin's magnitude; what `init_state` takes."""

    mean: Float[np.ndarray, " bin"]
    std: Float[np.ndarray, " bin"]  # > 0


class _Moments(NamedTuple):
    """Of some frames: how many, their mean, and the sum of squared distances from it; float64."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    def joined(self, other: "_Moments") -> "_Moments":
        """Of these frames and others, after Chan, Golub and LeVeque (1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        squares = self.squares + other.squares + shift**2 * (self.count * other.count / count)
        return _Moments(count, mean, squares)


def measure(songs: Sequence[Song], config: OpenUnmixConfig) -> Statistics:
    """Statistics over all frames of all songs' mixtures, as open-unmix has them from scikit-learn.

    Of the mean over channels of ``|X|``, frames not centred. A bin that never changes has a deviation of 1, as in
    scikit-learn's ``StandardScaler``; none has less than 1e-4 of the largest.

    Args:
        songs: at least one, none shorter than one sample.
        config: its STFT, its channels and the bins that its net reads.

    Returns:
        float32 arrays ``(max_bin,)``.

    Raises:
        ValueError: no song, or one with another number of channels.
    """
    if not songs:
        raise ValueError("songs: expected at least one to measure statistics of, got none")
    moments = _Moments(0, np.zeros(config.max_bin), np.zeros(config.max_bin))
    for song in songs:
        for part in _parts(song, config):
            moments = moments.joined(part)
    variance = moments.squares / moments.count
    # Rounding alone leaves about this much; scikit-learn has the same bound.
    eps = np.finfo(np.float64).eps
    constant = variance <= moments.count * eps * variance + (moments.count * moments.mean * eps) ** 2
    std = np.where(constant, 1.0, np.sqrt(variance))
    std = np.maximum(std, FLOOR * std.max())
    return Statistics(moments.mean.astype(np.float32), std.astype(np.float32))


def _parts(song: Song, config: OpenUnmixConfig) -> Iterable[_Moments]:
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop_length}
    pieces = _checked(song, config)
    for block in blocks.cut(pieces, n_frames=BLOCK_FRAMES, center=False, **sizes):
        if block.n_valid < 1:
            continue
        mean, squares = _moments_of(block.samples, block.n_valid, config=config)
        yield _Moments(block.n_valid, np.asarray(mean, np.float64), np.asarray(squares, np.float64))


def _checked(song: Song, config: OpenUnmixConfig) -> Iterable[np.ndarray]:
    for piece in song.pieces([MIXTURE]):
        if piece.shape[1] != config.n_channels:
            raise ValueError(f"{song.name}: expected {config.n_channels} channels, got {piece.shape[1]}")
        yield piece[0]


@partial(jax.jit, static_argnames="config")
def _moments_of(samples: Array, n_valid: int, *, config: OpenUnmixConfig) -> tuple[Array, Array]:
    """Mean over the valid frames, and the sum of squared distances from it."""
    spectrogram = stft(
        samples.astype(jnp.float32) / 32768.0, n_fft=config.n_fft, hop_length=config.hop_length, center=False
    )
    magnitude = jnp.abs(spectrogram).mean(axis=0)[: config.max_bin]
    valid = (jnp.arange(magnitude.shape[-1]) < n_valid)[None]
    mean = jnp.where(valid, magnitude, 0).sum(axis=-1) / n_valid
    return mean, jnp.where(valid, (magnitude - mean[:, None]) ** 2, 0).sum(axis=-1)
