"""Estimates that know the truth: what masks and filters can reach at best, and what no work reaches.

An oracle makes its mask from the true sources and applies it to the mixture. A separator that estimates the
same kind of mask cannot be expected to score higher; one that does no work gives everyone an equal share of
the mixture.

References:
    D. Wang, "On ideal binary mask as the computational goal of auditory scene analysis", 2005.
    A. Liutkus, F.-R. Stöter and N. Ito, "The 2018 signal separation evaluation campaign", LVA/ICA 2018: the
    three oracles, side by side with real systems.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsep import filtering, masking
from jaxsep.stft import istft, stft

__all__ = ["ORACLES", "Oracle", "estimate"]

Oracle = Literal["ibm", "irm", "mwf", "mixture"]
ORACLES: tuple[str, ...] = get_args(Oracle)

_BLOCK_HOPS = 256  # of new samples at a time: 12 s at the defaults and 44.1 kHz
_LOUDEST = 1e3  # magnitude of the loudest bin in the filter, whose own noise floor is far below 1
_DIFFUSE = 1e-4  # of a source's power, equally in all channels: 40 dB down, and single precision suffices


def estimate(
    references: Float[np.ndarray, "source channel time"],
    mixture: Float[np.ndarray, "channel time"],
    *,
    oracle: Oracle = "irm",
    n_fft: int = 4096,
    hop_length: int = 2048,
    progress: Callable[[float], None] | None = None,
) -> Float[np.ndarray, "source channel time"]:
    r"""Estimate the sources of a mixture by a mask or filter made from the truth.

    ibm
        every bin and channel to the source that is loudest there;
    irm
        shares by magnitude, :math:`|S_j| / \sum_k |S_k|`;
    mwf
        the multichannel Wiener filter with each source's true power :math:`v_j` in every bin, and its true
        spatial covariance :math:`R_j` in every block of about 12 s: :math:`v_j R_j (\sum_k v_k R_k)^{-1} x`;
    mixture
        the mixture divided by the number of sources: the lower bound.

    The song goes through in blocks, so that memory does not grow with its length beyond input and output.

    Args:
        references: true sources, `(source, channel, time)`, real, full scale 1.
        mixture: `(channel, time)`; it need not be their sum.
        oracle: one of the four.
        n_fft: samples in a frame of the STFT; a multiple of `hop_length`.
        hop_length: samples between frames, at most half of `n_fft`.
        progress: called with the part of the work that is done.

    Returns:
        float32 estimates in the shape of the references; silence stays silent.

    Raises:
        ValueError: shapes that do not match, an unknown oracle, or sizes that do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> references = rng.standard_normal((2, 1, 5000)).astype(np.float32)
        >>> estimates = estimate(references, references.sum(axis=0), oracle="irm")
        >>> estimates.shape, bool(np.allclose(estimates.sum(axis=0), references.sum(axis=0), atol=1e-4))
        ((2, 1, 5000), True)
    """
    references, mixture = np.asarray(references, np.float32), np.asarray(mixture, np.float32)
    if references.ndim != 3 or references.shape[1:] != mixture.shape or not references.size:
        raise ValueError(
            f"expected references (source, channel, time) and a mixture (channel, time), "
            f"got {references.shape} and {mixture.shape}"
        )
    if oracle not in ORACLES:
        raise ValueError(f"oracle: expected one of {', '.join(ORACLES)}; got {oracle!r}")
    if hop_length < 1 or n_fft % hop_length or n_fft < 2 * hop_length:
        raise ValueError(f"expected n_fft to be 2 or more times hop_length, got {n_fft} and {hop_length}")
    if oracle == "mixture":
        return np.broadcast_to(mixture / len(references), references.shape).copy()

    # Blocks overlap by a frame on either side: what is kept is what the whole song's STFT would give.
    size, n_samples = _BLOCK_HOPS * hop_length, mixture.shape[-1]
    n_blocks = -(-n_samples // size)
    padding = [(0, 0), (0, 0), (n_fft, n_blocks * size - n_samples + n_fft)]
    padded = np.pad(np.concatenate([references, mixture[None]]), padding)
    blocks = []
    for begin in range(0, n_blocks * size, size):
        block = padded[..., begin : begin + size + 2 * n_fft]
        blocks.append(np.asarray(_filtered(block, oracle, n_fft, hop_length))[..., n_fft:-n_fft])
        if progress is not None:
            progress((begin + size) / (n_blocks * size))
    return np.concatenate(blocks, axis=-1)[..., :n_samples]


@partial(jax.jit, static_argnames=("oracle", "n_fft", "hop_length"))
def _filtered(block: Float[Array, "sound channel time"], oracle: str, n_fft: int, hop_length: int) -> Array:
    """The estimates for one block; the last sound is the mixture."""
    spectra = stft(block, n_fft=n_fft, hop_length=hop_length)
    sources, x = spectra[:-1], spectra[-1]
    y = _FILTERS[oracle](sources, x)
    return istft(y, n_fft=n_fft, hop_length=hop_length, length=block.shape[-1])


def _binary(sources: Complex[Array, "source channel freq frame"], x: Array) -> Array:
    return masking.binary(jnp.abs(sources)) * x[None]


def _ratio(sources: Complex[Array, "source channel freq frame"], x: Array) -> Array:
    return masking.alpha_wiener(jnp.abs(sources), alpha=1.0) * x[None]


def _wiener(sources: Complex[Array, "source channel freq frame"], x: Array) -> Array:
    loudest = jnp.max(jnp.abs(sources))
    psd, cov = filtering.local_gaussian_model(sources * (_LOUDEST / jnp.where(loudest > 0, loudest, 1)))
    # Sources that sit in one place make the mixture's covariance singular: each becomes a little diffuse.
    cov = cov + _DIFFUSE * jnp.eye(cov.shape[-1], dtype=cov.dtype).reshape(1, 1, *cov.shape[-2:])
    return filtering.apply_filter(x, filtering.wiener_gain(psd, cov))


_FILTERS = {"ibm": _binary, "irm": _ratio, "mwf": _wiener}
