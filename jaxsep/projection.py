"""Energies of what an estimate has in common with its own reference, with all references, and with none.

The projections of BSSEval on the space spanned by delayed references: correlations, one factorisation of the
normal equations for all references together and one for each, and the energies of filtered frames.

All of it is double precision and runs inside `jax.enable_x64`. Signals stay on the host and go to the device
in groups of blocks of one fixed shape, so that memory does not grow with a song's length and the second song
compiles nothing.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, cholesky
from jaxtyping import Array, Complex, Float, Int

__all__ = ["Energies", "projection_energies"]

# Blocks on the device at a time: 64 blocks of 8192 samples of 8 references and 8 estimates are 84 MB.
_GROUP = 64
# Added to the unit diagonal of the normal equations, first try to last. Refinement removes its effect in all
# directions that are much stronger than it.
_LOADINGS = (1e-14, 1e-12, 1e-10, 1e-8)
_N_REFINEMENTS = 2


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
    # 16 filter lengths: 6 % of a block are overlap, and a block of eight channels stays in the cache.
    n_fft = max(64, 16 << math.ceil(math.log2(filters_len)))
    block_len = n_fft - filters_len + 1

    filters = _projection_filters(references, estimates, n_channels, pairs, n_fft, filters_len)
    responses = tuple(jnp.fft.rfft(f, n_fft) for f in filters)

    static_pairs = tuple((int(j), int(k)) for j, k in pairs)
    batch_size = 1 if responses[0].device.platform == "cpu" else 32  # on a CPU the cache decides
    starts = _block_starts(frames, filters_len, block_len)
    parts = []
    for before, within in _frame_blocks(references, estimates, frames, starts, filters_len, block_len):
        if parts:  # the host cuts one group while the device works on the last, but groups must not pile up
            parts[-1].block_until_ready()
        parts.append(_block_energies(before, within, *responses, pairs=static_pairs, batch_size=batch_size))
    by_block = np.concatenate(parts, axis=-1)[..., : len(starts)]
    energies = np.zeros((*by_block.shape[:2], len(frames)))
    np.add.at(energies, (slice(None), slice(None), [t for t, _ in starts]), by_block)
    return Energies(*energies)


def _cross_correlations(
    references: np.ndarray, estimates: np.ndarray, n_fft: int, filters_len: int
) -> Float[Array, "reference signal lag"]:
    """sum_t reference_i(t) signal_j(t + lag) at lags 0 to filters_len - 1.

    The signals are all references, then all estimates.
    """
    block_len = n_fft - filters_len + 1
    n_samples = references.shape[-1]
    group = min(_GROUP, _power_of_two(math.ceil(n_samples / block_len)))
    total = jnp.zeros((len(references), 2 * len(references), n_fft // 2 + 1), complex)
    for start in range(0, n_samples, group * block_len):
        # One more block than is used, for the samples that the last one's lags reach.
        stop = start + (group + 1) * block_len
        stretch = np.concatenate([_cut(x, start, stop) for x in (references, estimates)])
        total.block_until_ready()  # stretches must not pile up before a slow device
        total = _add_cross_spectra(total, stretch, n_fft=n_fft, filters_len=filters_len)
    return jnp.fft.irfft(total, n_fft)[..., :filters_len]


@functools.partial(jax.jit, static_argnames=("n_fft", "filters_len"), donate_argnums=0)
def _add_cross_spectra(
    total: Complex[Array, "reference signal freq"],
    stretch: Float[Array, "signal time"],
    *,
    n_fft: int,
    filters_len: int,
) -> Complex[Array, "reference signal freq"]:
    block_len = n_fft - filters_len + 1
    stretch = stretch.astype(float)
    block, following = (
        jnp.reshape(x, (len(stretch), -1, block_len))
        for x in (stretch[:, :-block_len], stretch[:, block_len:])
    )
    blocks = jnp.concatenate([block, following[..., : filters_len - 1]], axis=-1)
    n_references = total.shape[0]

    # Block by block, so that spectra and sums stay in the cache. The first factor ends with its block and
    # the second runs on, so that the circular correlation of the wanted lags is the linear one.
    def add(total: Array, block: Array) -> tuple[Array, None]:
        head = jnp.pad(block[:n_references, :block_len], ((0, 0), (0, filters_len - 1)))
        return total + jnp.fft.rfft(head).conj()[:, None] * jnp.fft.rfft(block)[None], None

    # Summed from zero and then added: two short sums round less than one long one.
    part, _ = jax.lax.scan(add, jnp.zeros_like(total), jnp.moveaxis(blocks, 1, 0))
    return total + part


def _projection_filters(
    references: np.ndarray,
    estimates: np.ndarray,
    n_channels: int,
    pairs: Int[np.ndarray, "pair 2"],
    n_fft: int,
    filters_len: int,
) -> tuple[Float[Array, "reference estimate lag"], Float[Array, "pair channel channel lag"]]:
    """Least-squares filters from all references to each estimate, and from a pair's reference to its own."""
    n_references, n_sources = len(references), len(references) // n_channels
    cross = _cross_correlations(references, estimates, n_fft, filters_len)
    # References of unit energy: a soft source is resolved as well as a loud one. A silent one gets filters
    # of zeros, for its right-hand side is zero.
    energy = jnp.diagonal(cross[:, :n_references, 0])
    scale = jnp.where(energy > 0, energy, 1.0)[:, None, None] ** -0.5
    auto, right = cross[:, :n_references] * scale * jnp.swapaxes(scale, 0, 1), cross[:, n_references:] * scale

    by_source = (n_sources, n_channels, n_sources, n_channels, filters_len)
    own_auto = jnp.moveaxis(jnp.diagonal(auto.reshape(by_source), axis1=0, axis2=2), -1, 0)
    # All estimates are right-hand sides of every reference's equations; the pairs are picked afterwards.
    own = _solve(*_normal_equations(own_auto), right.reshape(n_sources, n_channels, -1, filters_len))
    own = (own.reshape(n_references, -1, filters_len) * scale).reshape(by_source)[pairs[:, 0], :, pairs[:, 1]]

    # Music short of full bandwidth makes nearly dependent references: then merely rounding the correlations
    # to double precision moves the SIR by a hundredth of a dB. What these filters leave of the estimates
    # correlates with the references only as far as they are wrong, and without loss of digits; so it corrects them.
    equations = _normal_equations(auto[None])
    everything = _solve(*equations, right[None])[0] * scale
    remainder = _remainder_correlations(references, estimates, jnp.fft.rfft(everything, n_fft), filters_len)
    return everything + _solve(*equations, (remainder * scale)[None])[0] * scale, own


def _remainder_correlations(
    references: np.ndarray,
    estimates: np.ndarray,
    responses: Complex[Array, "reference estimate freq"],
    filters_len: int,
) -> Float[Array, "reference estimate lag"]:
    """Correlations, as `_cross_correlations`, of the references with the estimates less their projections."""
    n_fft = 2 * (responses.shape[-1] - 1)
    frames, block_len = [(0, references.shape[-1])], n_fft - filters_len + 1
    starts = _block_starts(frames, filters_len, block_len)
    total = jnp.zeros_like(responses)
    for signals in _frame_blocks(references, estimates, frames, starts, filters_len, block_len):
        total.block_until_ready()
        total = _add_remainder_spectra(total, *signals, responses)
    return jnp.fft.irfft(total, n_fft)[..., :filters_len]


@functools.partial(jax.jit, donate_argnums=0)
def _add_remainder_spectra(
    total: Complex[Array, "reference estimate freq"],
    references: Float[Array, "block reference time"],
    estimates: Float[Array, "block estimate time"],
    responses: Complex[Array, "reference estimate freq"],
) -> Complex[Array, "reference estimate freq"]:
    n_fft, block_len = references.shape[-1], estimates.shape[-1]

    def add(total: Array, signals: tuple[Array, Array]) -> tuple[Array, None]:
        reference, estimate = (x.astype(float) for x in signals)
        spectrum = jnp.fft.rfft(reference)
        projected = jnp.fft.irfft(jnp.sum(spectrum[:, None] * responses, axis=0), n_fft)[:, -block_len:]
        remainder = jnp.pad(estimate - projected, ((0, 0), (n_fft - block_len, 0)))
        return total + spectrum.conj()[:, None] * jnp.fft.rfft(remainder)[None], None

    part, _ = jax.lax.scan(add, jnp.zeros_like(total), (references, estimates))
    return total + part


def _normal_equations(
    auto: Float[Array, "system reference reference lag"],
) -> tuple[Float[Array, "system row row"], Float[Array, "system row row"]]:
    """Block-Toeplitz matrices and their factors, with as little on the diagonal as the factorisation needs."""
    for loading in _LOADINGS:
        matrix, factor = _factorised(auto, loading)
        # A factorisation that breaks down leaves NaN up to the last row.
        if np.isfinite(np.asarray(factor[:, -1, -1])).all():
            return matrix, factor
    raise ValueError(
        f"expected references with positive definite correlations, got some that are not, even with "
        f"{_LOADINGS[-1]} added to their unit diagonal"
    )


@jax.jit
def _factorised(
    auto: Float[Array, "system reference reference lag"], loading: float
) -> tuple[Float[Array, "system row row"], Float[Array, "system row row"]]:
    n_systems, n_references, _, n_lags = auto.shape
    size = n_references * n_lags
    # Entry (i, a), (j, b) is the correlation of i and j at lag a - b; at lag -k it is that of j and i at k.
    negative = jnp.flip(jnp.swapaxes(auto, 1, 2)[..., 1:], axis=-1)
    lag = np.arange(n_lags)[:, None] - np.arange(n_lags)[None] + n_lags - 1
    blocks = jnp.concatenate([negative, auto], axis=-1)[..., lag]
    matrix = jnp.moveaxis(blocks, 3, 2).reshape(n_systems, size, size)
    return matrix, cholesky(matrix + loading * jnp.eye(size)[None], lower=True)


@jax.jit
def _solve(
    matrix: Float[Array, "system row row"],
    factor: Float[Array, "system row row"],
    right: Float[Array, "system reference column lag"],
) -> Float[Array, "system reference column lag"]:
    n_systems, n_references, n_columns, n_lags = right.shape
    columns = jnp.swapaxes(right, 2, 3).reshape(n_systems, -1, n_columns)
    solution = cho_solve((factor, True), columns)
    for _ in range(_N_REFINEMENTS):  # they take back what the loading of the diagonal did
        solution = solution + cho_solve((factor, True), columns - matrix @ solution)
    return jnp.swapaxes(solution.reshape(n_systems, n_references, n_lags, n_columns), 2, 3)


def _block_starts(frames: list[tuple[int, int]], filters_len: int, block_len: int) -> list[tuple[int, int]]:
    """Number of its frame and first sample of every block; filtered frames ring on for filters_len - 1 samples."""
    return [
        (t, start) for t, (a, b) in enumerate(frames) for start in range(a, b + filters_len - 1, block_len)
    ]


def _frame_blocks(
    references: np.ndarray,
    estimates: np.ndarray,
    frames: list[tuple[int, int]],
    starts: list[tuple[int, int]],
    filters_len: int,
    block_len: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of blocks, each given by its frame and its start.

    References come with the samples before the block that the filters reach back to. A frame is a signal of
    its own: silence before it and after it, where its filtered references ring on.
    """
    size = min(_GROUP, _power_of_two(len(starts)))
    for first in range(0, len(starts), size):
        before = np.zeros((size, len(references), filters_len - 1 + block_len), _buffer_dtype(references))
        within = np.zeros((size, len(estimates), block_len), _buffer_dtype(estimates))
        for k, (t, start) in enumerate(starts[first : first + size]):
            (a, b), stop = frames[t], start + block_len
            lead = max(a, start - filters_len + 1)
            offset = lead - (start - filters_len + 1)
            length = max(0, min(b, stop) - lead)
            before[k, :, offset : offset + length] = references[:, lead : lead + length]
            length = max(0, min(b, stop) - start)
            within[k, :, :length] = estimates[:, start : start + length]
        yield before, within


@functools.partial(jax.jit, static_argnames=("pairs", "batch_size"))
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


def _cut(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples from start to stop, zeros beyond the end."""
    piece = np.zeros((len(audio), stop - start), _buffer_dtype(audio))
    available = audio[:, start:stop]
    piece[:, : available.shape[-1]] = available
    return piece


def _buffer_dtype(audio: np.ndarray) -> type:
    """What travels to the device: single precision where the samples are no finer, else double."""
    return np.float32 if audio.dtype in (np.float32, np.float16, np.int16, np.int8, np.uint8) else np.float64


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
