"""Separation by factorising the magnitude spectrogram: components instead of instruments, nothing trained.

The channels' common magnitude ``sqrt(mean_c |X_c|²)`` is factorised under the Kullback-Leibler divergence by
:mod:`jaxsep.nmf` or :mod:`jaxsep.nmfd`. The components' shares of the model are masks, which divide every
channel alike, so that a component keeps its place between the channels and the stems sum to the song.

References:
    P. Smaragdis, J. C. Brown: Non-negative matrix factorization for polyphonic music transcription. WASPAA
    2003.
    P. López-Serrano, C. Dittmar, Y. Özer, M. Müller: NMF toolbox: music processing applications of
    nonnegative matrix factorization. DAFx 2019 (the convolutive experiment).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import blocks, masking, nmf, nmfd
from jaxsep.config import SeparationConfig
from jaxsep.planes import sum_along
from jaxsep.rendering import Estimate, OpenAudio, Report, render, transform

__all__ = ["Factorisation", "component_masks", "factorise"]

BLOCK_FRAMES = 300

# Shares of reading, factorising and rendering in the whole work, for the progress.
READ_SHARE, FIT_SHARE, RENDER_SHARE = 0.1, 0.4, 0.5

State = nmf.NMFState | nmfd.NMFDState


@dataclass(frozen=True)
class Factorisation:
    """A separator whose stems are the components of a factorisation, from the lowest to the highest.

    Memory grows with the song's length, unlike with nets: the whole magnitude is factorised at once, which
    takes about 1.3 MB for each second of it.

    Attributes:
        convolutive: templates of `n_lags` frames (NMFD) instead of single spectra (NMF).
        n_components: stems to make.
        n_steps: iterations of the factorisation.
        n_lags: frames in a template of NMFD.
        n_fft: window length in samples.
        hop_length: samples between frames.
        sample_rate: Hz, at which songs are factorised.
        seed: of the random start; the same seed and song give the same stems.

    Example:
        >>> Factorisation(n_components=2).stem_names(SeparationConfig())
        ['component_1', 'component_2']
    """

    convolutive: bool = False
    n_components: int = 4
    n_steps: int = 30
    n_lags: int = 8
    n_fft: int = 4096
    hop_length: int = 1024
    sample_rate: float = 44100.0
    seed: int = 0

    licence = "no weights"

    def __post_init__(self) -> None:
        for field in ("n_components", "n_steps", "n_lags"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: expected 1 or more, got {getattr(self, field)}")

    @property
    def name(self) -> str:
        """What the method is called."""
        return "nmfd" if self.convolutive else "nmf"

    def stem_names(self, config: SeparationConfig) -> list[str]:
        """The stems in the order in which :meth:`stream` makes them.

        Raises:
            ValueError: a residual is asked for: the components leave nothing.
        """
        if config.residual:
            raise ValueError(f"residual: expected none with {self.name}, whose stems sum to the song")
        return [f"component_{number}" for number in range(1, self.n_components + 1)]

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
            open_audio: reads the song, twice: float32 ``(channel, time)`` at :attr:`sample_rate`.
            n_channels: the song's channels.
            config: of it only ``consistency`` applies, to what rounding leaves: the masks divide the mixture as
                they are.
            n_samples: the song's length; not needed.
            progress: called with the part of the work that is done.

        Yields:
            float32 pieces ``(source, channel, time)``, together as long as the song.

        Raises:
            ValueError: the song holds no sample.
        """
        report = progress or (lambda done: None)
        sizes = {"n_fft": self.n_fft, "hop_length": self.hop_length}

        def song() -> Iterator[blocks.Block]:
            return blocks.cut((piece[None] for piece in open_audio()), n_frames=BLOCK_FRAMES, **sizes)

        read = [common_magnitude(transform(b.samples, **sizes)[0], b.n_valid) for b in song()]
        n_blocks = len(read)
        report(READ_SHARE)
        v = jnp.concatenate(read, axis=-1)
        del read
        state = factorise(v, self, key=jax.random.key(self.seed))
        report(READ_SHARE + FIT_SHARE)

        def estimates() -> Iterator[Estimate]:
            for index, block in enumerate(song()):
                spectrogram = transform(block.samples, **sizes)
                masks = _block_masks(state, index * BLOCK_FRAMES, n_frames=BLOCK_FRAMES)
                yield Estimate(block, spectrogram, (_masked(masks, spectrogram),))

        pieces = render(
            estimates(),
            # Masks times magnitudes with the mixture's phase: the masks alone.
            SeparationConfig(n_iters=0, consistency=config is not None and config.consistency),
            n_blocks=n_blocks,
            report=lambda done: report(READ_SHARE + FIT_SHARE + RENDER_SHARE * done),
            **sizes,
        )
        yield from (piece[0] for piece in pieces)


def factorise(v: Float[Array, "freq frame"], method: Factorisation, *, key: Array) -> State:
    """Factors of a spectrogram, in the order of their spectral centroids, the lowest first.

    Args:
        v: magnitudes, finite, ≥ 0.
        method: which factorisation, of how many components and iterations.
        key: PRNG key of the start.

    Returns:
        The state of :func:`jaxsep.nmf.fit` or :func:`jaxsep.nmfd.fit`.

    Example:
        >>> v = jnp.zeros((4, 6)).at[3, :3].set(1.0).at[0, 3:].set(1.0)
        >>> state = factorise(v, Factorisation(n_components=2), key=jax.random.key(0))
        >>> jnp.argmax(state.w, axis=0).tolist()
        [0, 3]
    """
    if method.convolutive:
        state: State = nmfd.init(v, method.n_components, key=key, n_lags=method.n_lags)
        state, _ = nmfd.fit(v, state, n_steps=method.n_steps, divergence_every=method.n_steps)
    else:
        state = nmf.init(v, method.n_components, key=key)
        state, _ = nmf.fit(v, state, n_steps=method.n_steps, divergence_every=method.n_steps)
    spectra = state.w.sum(axis=-1) if method.convolutive else state.w
    total = spectra.sum(axis=0)
    centroid = jnp.arange(len(spectra), dtype=v.dtype) @ spectra / jnp.where(total > 0, total, 1)
    order = jnp.argsort(centroid)
    return state._replace(w=state.w[:, order], h=state.h[order])


def component_masks(state: State) -> Float[Array, "component freq frame"]:
    """Each component's share of the model, by Wiener filtering of amplitudes.

    ``w_k h_k / sum_i w_i h_i``, with the templates' lags where they have them.

    Args:
        state: factors w (freq, component) or (freq, component, lag) and h (component, frame).

    Returns:
        Masks that sum to one over the components; equal shares where the model is silent.

    Example:
        >>> state = nmf.NMFState(jnp.array([[3.0, 1.0]]), jnp.ones((2, 1)))
        >>> component_masks(state).ravel().tolist()
        [0.75, 0.25]
    """
    alone = jnp.moveaxis(state.w, 1, 0)[:, :, None], state.h[:, None]  # a batch of one-component models
    models = (
        nmf.reconstruct(nmf.NMFState(*alone))
        if state.w.ndim == 2
        else nmfd.reconstruct(nmfd.NMFDState(*alone))
    )
    return masking.alpha_wiener(models, alpha=1.0, axis=0)


@jax.jit
def common_magnitude(
    spectrogram: Complex[Array, "channel freq frame"], n_valid: Array | int
) -> Float[Array, "freq frame"]:
    """``sqrt(mean_c |X_c|²)`` of all channels, and 0 in frames from `n_valid` on."""
    power = sum_along(jnp.abs(spectrogram) ** 2, 0) / len(spectrogram)
    return jnp.where(jnp.arange(power.shape[-1]) < n_valid, jnp.sqrt(power), 0)


@partial(jax.jit, static_argnames="n_frames")
def _block_masks(state: State, start: Array | int, *, n_frames: int) -> Float[Array, "component freq frame"]:
    """The masks of some frames, with what templates that began before them add."""
    n_before = state.w.shape[2] - 1 if state.w.ndim == 3 else 0
    h = jnp.pad(state.h, [(0, 0), (n_before, 0)])
    h = jax.lax.dynamic_slice_in_dim(h, start, n_before + n_frames, axis=1)
    return component_masks(state._replace(h=h))[..., n_before:]


@jax.jit
def _masked(
    masks: Float[Array, "source freq frame"], spectrogram: Complex[Array, "group channel freq frame"]
) -> Float[Array, "source group channel freq frame"]:
    return masks[:, None, None] * jnp.abs(spectrogram)[None]
