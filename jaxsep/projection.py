"""Energies of what an estimate has in common with its own reference, with all references, and with none.

The projections of BSSEval on the space spanned by delayed references, frame by frame. All of it is double
precision, see `jaxsep.sample_blocks.double_precision`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from jaxsep.one_core import one_core_jit
from jaxsep.projection_filters import projection_filters
from jaxsep.sample_blocks import block_starts, frame_blocks, map_groups, power_of_two

__all__ = ["Energies", "projection_energies"]

_GROUP = 128  # blocks on the device at a time: of 4096 samples of 8 references and 8 estimates they are 34 MB


class Energies(NamedTuple):
    """Squared norms over channels and time of a pair's parts, each `(pair, frame)`."""

    true: Float[np.ndarray, "pair frame"]  # s
    filtered: Float[np.ndarray, "pair frame"]  # P_j e, the projection on the reference's own delays
    projected: Float[np.ndarray, "pair frame"]  # P e, the projection on all delays
    error: Float[np.ndarray, "pair frame"]  # e - s
    spatial: Float[np.ndarray, "pair frame"]  # P_j e - s
    interference: Float[np.ndarray, "pair frame"]  # P e - P_j e
    artifacts: Float[np.ndarray, "pair frame"]  # e - P e
    unfiltered: Float[np.ndarray, "pair frame"]  # e - P_j e


def projection_energies(
    references: np.ndarray,
    estimates: np.ndarray,
    pairs: Int[np.ndarray, "pair 2"],
    frames: list[tuple[int, int]],
    filters_len: int,
) -> Energies:
    """Filters from the whole of the signals, energies from each frame of them."""
    n_sources, n_channels, n_samples = references.shape
    references, estimates = (x.reshape(n_sources * n_channels, n_samples) for x in (references, estimates))
    # Eight filter lengths: an eighth of a block is overlap, and four blocks of eight channels stay in the cache.
    n_fft = max(64, 8 * power_of_two(filters_len))
    block_len = n_fft - filters_len + 1

    filters = projection_filters(references, estimates, n_channels, pairs, filters_len)
    responses = tuple(jnp.fft.rfft(f, n_fft) for f in filters)

    static_pairs = tuple((int(j), int(k)) for j, k in pairs)
    batch_size = 4 if responses[0].device.platform == "cpu" else 32  # on a CPU the cache decides
    starts = block_starts(frames, filters_len, block_len)
    groups = frame_blocks(
        references, estimates, frames, starts, filters_len=filters_len, block_len=block_len, group=_GROUP
    )
    parts = map_groups(
        lambda signals: _block_energies(*signals, *responses, pairs=static_pairs, batch_size=batch_size),
        groups,
    )
    by_block = np.concatenate(list(parts), axis=-1)[..., : len(starts)]
    energies = np.zeros((*by_block.shape[:2], len(frames)))
    np.add.at(energies, (slice(None), slice(None), [t for t, _ in starts]), by_block)
    return Energies(*energies)


@functools.partial(one_core_jit, static_argnames=("pairs", "batch_size"))
def _block_energies(
    references: Float[Array, "block reference time"],
    estimates: Float[Array, "block estimate time"],
    all_responses: Complex[Array, "reference estimate freq"],
    own_responses: Complex[Array, "pair channel channel freq"],
    *,
    pairs: tuple[tuple[int, int], ...],
    batch_size: int,
) -> Float[Array, "energy pair block"]:
    """Energies of the decomposition in each block, in the order of `Energies`."""
    n_fft, block_len = references.shape[-1], estimates.shape[-1]
    n_channels = own_responses.shape[1]
    of_reference, of_estimate = (_picker(index) for index in zip(*pairs, strict=True))

    def sources(x: Array) -> Array:
        return x.reshape(-1, n_channels, x.shape[-1])

    def filtered(spectra: Array) -> Array:
        # The first samples of the circular convolution are wrapped around; the block comes after them.
        return jnp.fft.irfft(spectra, n_fft)[..., -block_len:]

    def energies(signals: tuple[Array, Array]) -> Array:
        reference, estimate = (x.astype(float) for x in signals)
        spectrum = jnp.fft.rfft(reference)
        on_all = sources(filtered(jnp.sum(spectrum[:, None] * all_responses, axis=0)))
        own = of_reference(sources(spectrum))[:, :, None]
        on_own = filtered(jnp.sum(own * own_responses, axis=1))
        true = of_reference(sources(reference[:, -block_len:]))
        estimate, on_all = of_estimate(sources(estimate)), of_estimate(on_all)
        parts = Energies(
            true=true,
            filtered=on_own,
            projected=on_all,
            error=estimate - true,
            spatial=on_own - true,
            interference=on_all - on_own,
            artifacts=estimate - on_all,
            unfiltered=estimate - on_own,
        )
        return jnp.stack([jnp.sum(part**2, axis=(1, 2)) for part in parts])

    return jnp.moveaxis(jax.lax.map(energies, (references, estimates), batch_size=batch_size), 0, -1)


def _picker(index: tuple[int, ...]) -> Callable[[Array], Array]:
    """Rows by number, without a copy in the usual case, where every row is wanted once and in order."""

    def pick(x: Array) -> Array:
        return x if index == tuple(range(len(x))) else x[np.asarray(index)]

    return pick
