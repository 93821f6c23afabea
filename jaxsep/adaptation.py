r"""Nets know instruments, a song repeats itself: magnitudes that do both.

What drums, a bass and chords play in a few seconds is made of few spectra, which come again and again. A factorisation
of what the nets have found learns them, the same factorisation of the mixture then finds where else they sound, and
shifts the nets' magnitudes towards that. A voice repeats no spectrum: it takes part in the mixture's model as the net
has it, and what the model then leaves unexplained is voice where the net has heard one near by.

References:
    D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization. NIPS 2000 (the updates).
    A. A. Nugraha, A. Liutkus, E. Vincent: Multichannel audio source separation with deep neural networks. IEEE/ACM
    TASLP 24(9), 2016 (models of a net as the start of the mixture's own).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import filtering, masking
from jaxsep.descent import over_batch
from jaxsep.planes import sum_along
from jaxsep.rendering import Estimate

__all__ = ["VOICES", "adapt", "adapted"]

VOICES = ("vocals", "speech")
"""Targets that repeat no spectrum."""

WINDOW = 300  # frames, 7 s
N_COMPONENTS = 8  # spectra a source and window
N_START = 30  # steps on what the nets have found, before those on the mixture
ELSEWHERE = 0.3  # how loud a spectrum begins outside of its stretch
WEIGHT, VOICE_WEIGHT = 0.35, 0.6  # of the model against the nets, in the exponent
LARGEST = 10.0  # factor by which a magnitude may change
LOUDEST = 10.0  # magnitude of the mixture in the filter
NEAR_BINS, NEAR_FRAMES = 11, 9  # about a bin, 118 Hz and 0.2 s, whose sources share what no spectrum explains
FLOOR = 1e-9  # what lies so far below the largest magnitude is silence


def adapt(
    v_sources: Float[Array, "*batch source #channel freq frame"],
    x: Complex[Array, "*batch channel freq frame"],
    *,
    repeats: Sequence[bool],
    n_steps: int = 20,
    n_iters: int = 1,
) -> Float[Array, "*batch source #channel freq frame"]:
    r"""Shift magnitudes towards what few spectra a source explain of the mixture.

    .. math::
        |x| \approx \sum_{j\ \text{repeats}} W_j H_j + \sum_{j\ \text{does not}} |y_j|, \qquad
        v'_j = v_j \left( \frac{s_j}{r_j} \right)^{g_j / 2}

    under the Kullback-Leibler divergence, where y are the sources that the Wiener filter makes with v, |y| and |x| the
    roots of their mean powers over channels, r_j is source j's part of the energy of all y, and s_j its part of the
    model's; g_j is 0.35, and 0.6 for a source that does not repeat. Such a source has in the model, beside its
    |y_j|, of what |x| exceeds the model by the root of its part of the energy of all y near by. Nothing is random: the
    spectra begin as means over stretches of time.

    Args:
        v_sources: magnitudes, real and nonnegative, in the unit of ``|x|``. One channel stands for all.
        x: the mixture's STFT. Frames of zeros change nothing.
        repeats: for each source, whether few spectra can explain it.
        n_steps: multiplicative updates on the mixture, 1 or more.
        n_iters: EM iterations of the filter that the model starts from.

    Returns:
        The magnitudes, in as many channels as came in. Silent bins stay silent.

    Raises:
        ValueError: ``repeats`` is not as long as there are sources, or ``n_steps`` below 1.

    Example:
        >>> x = jnp.ones((2, 5, 4), complex)
        >>> adapt(jnp.ones((3, 2, 5, 4)), x, repeats=(False, True, True)).shape
        (3, 2, 5, 4)
    """
    v_sources, x = jnp.asarray(v_sources), jnp.asarray(x)
    n_sources = v_sources.shape[-4] if v_sources.ndim >= 4 else 0
    if len(repeats) != n_sources:
        raise ValueError(
            f"repeats: expected as many as sources, {n_sources} (shape {v_sources.shape}), got {len(repeats)}"
        )
    if n_steps < 1:
        raise ValueError(f"expected n_steps of at least 1, got {n_steps}")
    return _adapt(v_sources, x, tuple(map(bool, repeats)), n_steps, n_iters)


def adapted(
    estimates: Iterable[Estimate], *, repeats: Sequence[bool], n_steps: int, n_iters: int
) -> Iterator[Estimate]:
    """:func:`adapt` for the blocks of a song, 300 frames at a time, each of which is a song of its own to it.

    Args:
        estimates: the song's blocks.
        repeats: see :func:`adapt`.
        n_steps: see :func:`adapt`.
        n_iters: see :func:`adapt`.

    Yields:
        The same blocks with other magnitudes.
    """
    for estimate in estimates:
        made = _adapt_block(
            estimate.magnitudes,
            estimate.spectrogram,
            estimate.block.n_valid,
            repeats=tuple(repeats),
            n_steps=n_steps,
            n_iters=n_iters,
        )
        yield estimate._replace(magnitudes=(jax.block_until_ready(made),))


@partial(jax.jit, static_argnames=("repeats", "n_steps", "n_iters"))
def _adapt_block(magnitudes, spectrogram, n_valid, *, repeats, n_steps, n_iters) -> Array:
    """Window by window, which fill the block up with zeros; the song's end does so too."""
    n_frames = spectrogram.shape[-1]
    size = min(WINDOW, n_frames)
    padding = -n_frames % size

    def windows(z: Array) -> Array:
        z = jnp.where(jnp.arange(n_frames) < n_valid, z, 0)
        z = jnp.pad(z, [(0, 0)] * (z.ndim - 1) + [(0, padding)])
        return jnp.moveaxis(z.reshape(*z.shape[:-1], -1, size), -2, 0)

    v = windows(jnp.moveaxis(jnp.concatenate(magnitudes), 0, 1))
    made = jnp.moveaxis(_adapt(v, windows(spectrogram), repeats, n_steps, n_iters), 0, -2)
    return jnp.moveaxis(made.reshape(*made.shape[:-2], -1)[..., :n_frames], 1, 0)


@partial(jax.jit, static_argnames=("repeats", "n_steps", "n_iters"))
def _adapt(v_sources: Array, x: Array, repeats: tuple[bool, ...], n_steps: int, n_iters: int) -> Array:
    # As loud as the filter, whose regularisation is absolute, lets the mixture be.
    loudest = jnp.max(jnp.abs(x), axis=(-3, -2, -1), keepdims=True, initial=0.0)
    gain = jnp.where(loudest > 0, LOUDEST / jnp.where(loudest > 0, loudest, 1), 1)
    found = filtering.wiener(
        v_sources * gain[..., None, :, :, :], x * gain, n_iters=n_iters, scale_factor=LOUDEST
    )
    # One magnitude for all channels: (*batch, source, freq, frame).
    v, mixture = (jnp.sqrt(jnp.mean(jnp.abs(z) ** 2, axis=-3)) for z in (found, x * gain))
    with jax.default_matmul_precision("float32"):  # or an accelerator's stems would not be a CPU's
        made = over_batch(partial(_model, repeats=repeats, n_steps=n_steps), (v, mixture), (3, 2))
    wanted, had = (masking.alpha_wiener(z, alpha=2.0, axis=-3) for z in (made, v))
    change = jnp.where(had > 0, wanted / jnp.where(had > 0, had, 1), 1)
    weights = jnp.asarray([WEIGHT if again else VOICE_WEIGHT for again in repeats], v.dtype)
    change = change ** jnp.expand_dims(weights / 2, (*range(change.ndim - 3), -2, -1))
    return v_sources * jnp.clip(change, 1 / LARGEST, LARGEST)[..., None, :, :]


def _model(
    v: Float[Array, "source freq frame"],
    mixture: Float[Array, "freq frame"],
    *,
    repeats: tuple[bool, ...],
    n_steps: int,
) -> Float[Array, "source freq frame"]:
    """The sources in a model of the mixture."""
    again, voices = np.flatnonzero(repeats), np.flatnonzero(~np.array(repeats))
    if not again.size:
        return v
    n_freq, n_frames = mixture.shape
    w, h = _start(v[again], mixture)
    apart = partial(_factorise, offset=jnp.zeros((), v.dtype), n_steps=N_START)
    w, h = over_batch(apart, (v[again], w, h), (2, 2, 2))
    # Side by side they are one factorisation of the mixture.
    w, h = jnp.moveaxis(w, 0, 1).reshape(n_freq, -1), h.reshape(-1, n_frames)
    w, h = _factorise(mixture, w, h, offset=v[voices].sum(axis=0), n_steps=n_steps)
    w, h = w.reshape(n_freq, len(again), N_COMPONENTS), h.reshape(len(again), N_COMPONENTS, n_frames)
    model = v.at[again].set(jnp.einsum("fsk,skt->sft", w, h))
    # Few spectra cannot follow what glides: a voice that its net was too shy of is among what they leave.
    unexplained = jnp.maximum(mixture - sum_along(model, 0), 0)
    power = v**2
    near, all_near = _near(power[voices]), _near(sum_along(power, 0)[None])
    part = jnp.sqrt(near / jnp.maximum(all_near, jnp.finfo(v.dtype).tiny))
    return model.at[voices].add(unexplained[None] * part)


def _near(power: Float[Array, "source freq frame"]) -> Float[Array, "source freq frame"]:
    """Sums over the neighbourhood of each bin."""
    for axis, size in ((1, NEAR_BINS), (2, NEAR_FRAMES)):
        window = np.ones(3, int)
        window[axis] = size
        power = jax.lax.reduce_window(power, 0.0, jax.lax.add, tuple(window), (1, 1, 1), "SAME")
    return power


def _start(
    v: Float[Array, "source freq frame"], mixture: Float[Array, "freq frame"]
) -> tuple[Float[Array, "source freq k"], Float[Array, "source k frame"]]:
    """Each spectrum begins as the mean over a stretch of the block, and sounds there most."""
    sounds = jnp.any(mixture > 0, axis=0)
    n_frames = jnp.maximum(jnp.sum(sounds), 1)
    stretch = jnp.where(sounds, (jnp.cumsum(sounds) - 1) * N_COMPONENTS // n_frames, -1)
    within = (stretch[None] == jnp.arange(N_COMPONENTS)[:, None]).astype(v.dtype)
    share = within / jnp.maximum(within.sum(axis=1, keepdims=True), 1)
    w = v @ share.T + ELSEWHERE * jnp.sum(v, axis=-1, keepdims=True) / n_frames.astype(v.dtype)
    h = jnp.where(within > 0, 1, ELSEWHERE).astype(v.dtype)
    return w, jnp.broadcast_to(h, (v.shape[0], *h.shape))


def _factorise(v: Array, w: Array, h: Array, *, offset: Array, n_steps: int) -> tuple[Array, Array]:
    """Multiplicative updates of ``v = w h + offset`` under the Kullback-Leibler divergence, which falls with each.

    `nmf.fit` has no offset, and its blocks of rows do not pay for so few components.
    """
    unit = jnp.max(v)  # so that nothing depends on the song's level
    unit = jnp.where(unit > 0, unit, 1)
    v, w, offset = v / unit + FLOOR, w / unit, offset / unit + FLOOR

    def update(_: int, factors: tuple[Array, Array]) -> tuple[Array, Array]:
        w, h = factors
        h = h * (w.T @ (v / (w @ h + offset))) / (w.sum(axis=0)[:, None] + FLOOR)
        w = w * ((v / (w @ h + offset)) @ h.T) / (h.sum(axis=1)[None] + FLOOR)
        return w, h

    w, h = jax.lax.fori_loop(0, n_steps, update, (w, h))
    return w * unit, h
