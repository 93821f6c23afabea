"""Vocals, drums, bass and other without weights: what can be seen in a spectrogram, then a Wiener filter.

A pipeline of pure functions: :func:`cues` measures how each time-frequency bin relates to its surroundings,
:func:`masks` turns that into shares of the four sources, and :func:`jaxsep.filtering.wiener` refines them
with what the channels tell. It is the baseline that trained nets must beat.

References:
    D. FitzGerald: Harmonic/percussive separation using median filtering. DAFx 2010.
    D. FitzGerald, M. Gainza: Single channel vocal separation using median filtering and factorisation
    techniques. ISAST Transactions on Electronic and Signal Processing 4(1), 2010 (what moves is sung).
    Z. Rafii, B. Pardo: Music/voice separation using the similarity matrix. ISMIR 2012.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from jaxsep import blocks, stft
from jaxsep.config import SeparationConfig
from jaxsep.factorised import BLOCK_FRAMES, common_magnitude
from jaxsep.median_filter import median_filter
from jaxsep.planes import sum_along
from jaxsep.rendering import Estimate, OpenAudio, Report, render, transform
from jaxsep.repetition import similar_median

__all__ = ["CONTEXT", "STEMS", "Classic", "Cues", "cues", "masks"]

STEMS = ("vocals", "drums", "bass", "other")

CONTEXT = 600
"""Frames before and after a block in which its cues look for surroundings: 14 s."""

# Lengths in frames of 1024 and bins of 10.8 Hz: they belong to the STFT that `Classic` has.
LONG, MIDDLE, SHORT = 31, 15, 7  # time medians: 0.7, 0.35 and 0.16 s
ACROSS = 31  # frequency median: 330 Hz
N_SIMILAR, APART = 11, 43  # frames that a repetition is the median of, and how far from here they must be


class Cues(NamedTuple):
    """How a bin relates to its surroundings: natural logarithms of ratios of magnitudes, each (freq, frame)."""

    steady: Array  # medians along time over the one along frequency: a partial rather than a stroke
    burst: Array  # the bin over the time median: louder than just before and just after
    peak: Array  # the bin over the frequency median: louder than its neighbours
    drift: Array  # short over long time median: steady for a moment, not for long; vibrato, glides
    novelty: Array  # the bin over the same bin in similar frames of the song, at least 0: does not repeat
    percussive: Array  # frequency over time medians of the whole frame: something is struck
    centre: Array  # what the channels have in common over what they have not


@dataclass(frozen=True)
class Classic:
    """A separator of vocals, drums, bass and other that needs no weights.

    Memory is small whatever the song's length. The song is read once.

    Attributes:
        n_fft: window length in samples, for which the cues were tuned, at 44100 Hz.
        hop_length: samples between frames.
        sample_rate: Hz.

    Example:
        >>> Classic().stem_names(SeparationConfig())
        ['vocals', 'drums', 'bass', 'other']
    """

    n_fft: int = 4096
    hop_length: int = 1024
    sample_rate: float = 44100.0

    name = "classic"
    licence = "no weights"

    def stem_names(self, config: SeparationConfig) -> list[str]:
        """The stems in the order in which :meth:`stream` makes them.

        Raises:
            ValueError: a residual is asked for: ``other`` is all that the rest leaves.
        """
        if config.residual:
            raise ValueError("residual: expected none with classic, whose stem other is the rest")
        return list(STEMS)

    def stream(
        self,
        open_audio: OpenAudio,
        *,
        n_channels: int,
        config: SeparationConfig | None = None,
        n_samples: int | None = None,
        progress: Report | None = None,
    ) -> Iterator[Float[np.ndarray, "source channel time"]]:
        """Separate a song, piece by piece.

        Args:
            open_audio: reads the song: float32 ``(channel, time)`` at :attr:`sample_rate`.
            n_channels: the song's channels.
            config: iterations and window of the Wiener filter, and consistency; ``softmask`` does not apply,
                for the shares are masks already.
            n_samples: the song's length if it is known, for the progress.
            progress: called with the part of the work that is done.

        Yields:
            float32 pieces ``(source, channel, time)``, together as long as the song.

        Raises:
            ValueError: the song holds no sample.
        """
        config = replace(config or SeparationConfig(), softmask=False)
        sizes = {"n_fft": self.n_fft, "hop_length": self.hop_length}
        if not config.window and n_samples is None:
            n_samples = sum(piece.shape[-1] for piece in open_audio())
        n_frames = config.window or -(-stft.frame_count(n_samples, **sizes) // BLOCK_FRAMES) * BLOCK_FRAMES
        n_blocks = None if n_samples is None else blocks.count(n_samples, n_frames=n_frames, **sizes)
        song = blocks.cut((piece[None] for piece in open_audio()), n_frames=n_frames, **sizes)
        read = ((block, transform(block.samples, **sizes)) for block in song)
        estimates = (
            Estimate(
                block,
                spectrogram,
                (_magnitudes(_measure(window, real, spectrogram), spectrogram, self, config),),
            )
            for block, spectrogram, window, real in _in_context(read, n_frames)
        )
        pieces = render(estimates, config, n_blocks=n_blocks, report=progress, **sizes)
        yield from (piece[0] for piece in pieces)


def cues(
    window: Float[Array, "freq window"],
    real: Bool[Array, " window"],
    spectrogram: Complex[Array, "channel freq frame"],
) -> Cues:
    """Measure how the bins of a block relate to their surroundings.

    Args:
        window: common magnitude of the channels, the block's frames in the middle of :data:`CONTEXT` frames
            before and after them.
        real: which frames of the window belong to the song, rather than mirror it.
        spectrogram: the block itself.

    Returns:
        The cues of the block's frames. They do not depend on the song's loudness.
    """
    n_frames = spectrogram.shape[-1]
    # 80 dB below the mean all is equally silent; the tiny number is for songs that are.
    floor = 1e-4 * jnp.mean(window) + jnp.finfo(window.dtype).tiny
    near = window[:, CONTEXT - LONG : CONTEXT + n_frames + LONG]  # no more than the medians see

    def block(x: Array) -> Array:
        return x[:, LONG : LONG + n_frames]

    def log(x: Array) -> Array:
        return jnp.log(x + floor)

    long, middle, short = (block(median_filter(near, size)) for size in (LONG, MIDDLE, SHORT))
    v = block(near)
    across = median_filter(v, ACROSS, axis=-2)
    place = jnp.arange(window.shape[1])
    far = jnp.abs(place[CONTEXT : CONTEXT + n_frames, None] - place[None]) >= APART
    repeating = jnp.minimum(similar_median(v, window, far & real[None], N_SIMILAR), v)
    return Cues(
        steady=(log(long) + log(short)) / 2 - log(across),
        burst=log(v) - log(middle),
        peak=log(v) - log(across),
        drift=log(short) - log(long),
        novelty=log(v) - log(repeating),
        percussive=jnp.broadcast_to(log(sum_along(across, 0)) - log(sum_along(long, 0)), v.shape),
        centre=_centre(spectrogram, floor),
    )


def masks(cues: Cues, octave: Float[Array, "freq 1"]) -> Float[Array, "source freq frame"]:
    """Share each bin out: first the drums, of the rest the bass, of that rest the vocals; other is what remains.

    Each share is the logistic function of a weighted sum of cues. The weights were chosen for the best mean
    SDR on mixes of five songs in the public domain and of synthesised ones, and rounded.

    Args:
        cues: of :func:`cues`.
        octave: of each bin, 0 at 1 kHz.

    Returns:
        Masks in the order of :data:`STEMS` that sum to one.

    Example:
        >>> silent = Cues(*[jnp.zeros((5, 2))] * 7)
        >>> masks(silent, jnp.zeros((5, 1))).sum(axis=0)[0].round(5).tolist()
        [1.0, 1.0]
    """
    octave = jnp.broadcast_to(octave, cues.burst.shape)
    drums = jax.nn.sigmoid(
        -1.6
        + 1.3 * cues.burst
        + 0.35 * cues.percussive
        - 0.6 * cues.steady
        - 0.75 * cues.novelty
        + 0.12 * octave * (1 + octave)
    )
    bass = jax.nn.sigmoid(-8.8 - 0.9 * cues.burst + 1.75 * cues.centre - 1.8 * octave)
    vocals = jax.nn.sigmoid(
        -0.7 - 1.4 * cues.steady + 1.6 * cues.peak + 0.55 * cues.drift - 1.2 * octave - 0.8 * octave**2
    )
    pitched = 1 - drums
    upper = pitched * (1 - bass)
    return jnp.stack([upper * vocals, drums, pitched * bass, upper * (1 - vocals)])


# Compiled apart from the masks: in one program XLA computes the medians anew for each mask, six times slower.
@jax.jit
def _measure(window: Array, real: Array, spectrogram: Complex[Array, "group channel freq frame"]) -> Cues:
    return cues(window, real, spectrogram[0])


@partial(jax.jit, static_argnames=("method", "config"))
def _magnitudes(
    measured: Cues, spectrogram: Array, method: Classic, config: SeparationConfig
) -> Float[Array, "source group channel freq frame"]:
    hertz = np.maximum(np.arange(spectrogram.shape[-2]), 0.5) * method.sample_rate / method.n_fft
    octave = jnp.asarray(np.log2(hertz / 1000)[:, None], measured.burst.dtype)
    shares = masks(measured, octave)
    # The EM filter shares out by energy, the plain start by magnitude: either is to begin with these shares.
    amplitudes = jnp.sqrt(shares) if config.n_iters else shares
    return amplitudes[:, None, None] * jnp.abs(spectrogram)[None]


def _in_context(
    read: Iterable[tuple[blocks.Block, Array]], n_frames: int
) -> Iterator[tuple[blocks.Block, Array, np.ndarray, np.ndarray]]:
    """Each block and its spectrogram, with the magnitude around it and which frames of that are real.

    Where the song ends within the context, the window mirrors it.
    """
    reach = -(-CONTEXT // n_frames)
    held: deque = deque([None] * (2 * reach + 1), maxlen=2 * reach + 1)
    for item in chain(read, repeat(None, reach)):
        if item is not None:
            block, spectrogram = item
            magnitude = np.asarray(common_magnitude(spectrogram[0], block.n_valid))[:, : block.n_valid]
            item = block, spectrogram, magnitude
        held.append(item)
        if held[reach] is None:
            continue
        around = [None if other is None else other[2] for other in held]
        before = sum(v.shape[1] for v in around[:reach] if v is not None)
        known = np.concatenate([v for v in around if v is not None], axis=1)
        known = known[:, max(0, before - CONTEXT) : before + n_frames + CONTEXT]
        left = max(0, CONTEXT - before)
        missing = (left, n_frames + 2 * CONTEXT - left - known.shape[1])
        window = np.pad(known, [(0, 0), missing], mode="symmetric")
        yield *held[reach][:2], window, np.pad(np.ones(known.shape[1], bool), missing)


def _centre(spectrogram: Array, floor: Array) -> Float[Array, "freq frame"]:
    """Half the logarithm of the energy that is common to all channels over that which is not.

    Both are means over 5 bins and 15 frames; the result is within -2 and 4, and 4 for one channel.
    """
    n_channels = spectrogram.shape[0]
    total = sum_along(jnp.abs(spectrogram) ** 2, 0)
    common = jnp.abs(sum_along(spectrogram, 0)) ** 2 / n_channels
    sums = (
        jax.lax.reduce_window(x, 0.0, jax.lax.add, (5, 15), (1, 1), "SAME")
        for x in (common, jnp.maximum(total - common, 0))
    )
    common, apart = (jnp.log(x + floor**2 + jnp.finfo(x.dtype).tiny) for x in sums)
    return jnp.clip((common - apart) / 2, -2, 4)
