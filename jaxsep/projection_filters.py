"""The least-squares filters of BSSEval: correlations, normal equations, their factorisations."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, cholesky
from jaxtyping import Array, Complex, Float, Int

from jaxsep.one_core import one_core_jit
from jaxsep.sample_blocks import block_starts, cut, frame_blocks, map_groups, power_of_two

__all__ = ["projection_filters"]

# Blocks whose products are added up in registers, before the sum of all that went before is read and written.
_TOGETHER = 8
_GROUP = 128  # blocks on the device at a time: of 4096 samples of 8 references and 8 estimates they are 34 MB
# Added to the unit diagonal of the normal equations, first try to last. Refinement removes its effect in all
# directions that are much stronger than it.
_LOADINGS = (1e-14, 1e-12, 1e-10, 1e-8)
_N_REFINEMENTS = 2


def projection_filters(
    references: np.ndarray,
    estimates: np.ndarray,
    n_channels: int,
    pairs: Int[np.ndarray, "pair 2"],
    filters_len: int,
) -> tuple[Float[Array, "reference estimate lag"], Float[Array, "pair channel channel lag"]]:
    """Least-squares filters from all references to each estimate, and from a pair's reference to its own.

    Args:
        references: `(source x channel, time)`.
        estimates: likewise.
        n_channels: of a source.
        pairs: (reference, estimate) for the second kind of filters.
        filters_len: taps.
    """
    n_references, n_sources = len(references), len(references) // n_channels
    cross = _cross_correlations(references, estimates, filters_len)
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
    remainder = _remainder_correlations(references, estimates, everything)
    return everything + _solve(*equations, (remainder * scale)[None])[0] * scale, own


def _cross_correlations(
    references: np.ndarray, estimates: np.ndarray, filters_len: int
) -> Float[Array, "reference signal lag"]:
    """sum_t reference_i(t) signal_j(t + lag) at lags 0 to filters_len - 1.

    The signals are all references, then all estimates.
    """
    # Four filter lengths: a quarter is overlap, but the many sums of products stay in the cache.
    n_fft = max(64, 4 * power_of_two(filters_len))
    block_len, n_samples = n_fft - filters_len + 1, references.shape[-1]
    step = block_len * min(4 * _GROUP, max(_TOGETHER, power_of_two(-(-n_samples // block_len))))

    def stretches() -> Iterator[np.ndarray]:
        for start in range(0, n_samples, step):
            stop = start + step + filters_len - 1  # with the samples that the last block's lags reach
            yield np.concatenate([cut(x, start, stop) for x in (references, estimates)])

    spectra = functools.partial(_cross_spectra, n_references=len(references), filters_len=filters_len)
    return jnp.fft.irfft(sum(map_groups(spectra, stretches())), n_fft)[..., :filters_len]


@functools.partial(one_core_jit, static_argnames=("n_references", "filters_len"))
def _cross_spectra(
    stretch: Float[Array, "signal time"], *, n_references: int, filters_len: int
) -> Complex[Array, "reference signal freq"]:
    n_fft = max(64, 4 * power_of_two(filters_len))
    block_len, overlap = n_fft - filters_len + 1, filters_len - 1
    width = _TOGETHER * block_len

    # The first factor ends with its block and the second runs on, so that the circular correlation of the
    # wanted lags is the linear one.
    def add(total: Array, start: Array) -> tuple[Array, None]:
        piece = jax.lax.dynamic_slice_in_dim(stretch, start, width + overlap, axis=1).astype(float)
        blocks = jnp.stack([piece[:, k : k + n_fft] for k in range(0, width, block_len)])
        heads = jnp.pad(blocks[:, :n_references, :block_len], ((0, 0), (0, 0), (0, overlap)))
        return _add_products(total, jnp.fft.rfft(heads).conj(), jnp.fft.rfft(blocks)), None

    total = jnp.zeros((n_references, len(stretch), n_fft // 2 + 1), complex)
    return jax.lax.scan(add, total, jnp.arange(0, stretch.shape[1] - overlap, width))[0]


def _remainder_correlations(
    references: np.ndarray, estimates: np.ndarray, filters: Float[Array, "reference estimate lag"]
) -> Float[Array, "reference estimate lag"]:
    """Correlations, as `_cross_correlations`, of the references with the estimates less their projections."""
    filters_len = filters.shape[-1]
    n_fft = max(64, 8 * power_of_two(filters_len))
    frames, block_len = [(0, references.shape[-1])], n_fft - filters_len + 1
    starts, responses = block_starts(frames, filters_len, block_len), jnp.fft.rfft(filters, n_fft)
    groups = frame_blocks(
        references, estimates, frames, starts, filters_len=filters_len, block_len=block_len, group=_GROUP
    )
    spectra = map_groups(lambda signals: _remainder_spectra(*signals, responses), groups)
    return jnp.fft.irfft(sum(spectra), n_fft)[..., :filters_len]


@one_core_jit
def _remainder_spectra(
    references: Float[Array, "block reference time"],
    estimates: Float[Array, "block estimate time"],
    responses: Complex[Array, "reference estimate freq"],
) -> Complex[Array, "reference estimate freq"]:
    n_fft, block_len = references.shape[-1], estimates.shape[-1]

    def add(total: Array, signals: tuple[Array, Array]) -> tuple[Array, None]:
        reference, estimate = (x.astype(float) for x in signals)
        spectrum = jnp.fft.rfft(reference)
        projected = sum(spectrum[:, i, None] * responses[None, i] for i in range(len(responses)))
        remainder = estimate - jnp.fft.irfft(projected, n_fft)[..., -block_len:]
        padded = jnp.pad(remainder, ((0, 0), (0, 0), (n_fft - block_len, 0)))
        return _add_products(total, spectrum.conj(), jnp.fft.rfft(padded)), None

    together = [x.reshape(-1, _TOGETHER, *x.shape[1:]) for x in (references, estimates)]
    return jax.lax.scan(add, jnp.zeros_like(responses), together)[0]


def _add_products(
    total: Complex[Array, "reference signal freq"],
    first: Complex[Array, "block reference freq"],
    second: Complex[Array, "block signal freq"],
) -> Complex[Array, "reference signal freq"]:
    for one, other in zip(first, second, strict=True):
        total = total + one[:, None] * other[None]
    return total


def _normal_equations(
    auto: Float[Array, "system reference reference lag"],
) -> tuple[Float[Array, "system row row"], Float[Array, "system row row"]]:
    """Block-Toeplitz matrices and their factors, with as little on the diagonal as the factorisation needs."""
    matrix = jnp.asarray(np.stack([_block_toeplitz(system) for system in np.asarray(auto)]))
    for loading in _LOADINGS:
        factor = _factorised(matrix, loading)
        # A factorisation that breaks down leaves NaN up to the last row.
        if np.isfinite(np.asarray(factor[:, -1, -1])).all():
            return matrix, factor
    raise ValueError(
        f"expected references with positive definite correlations, got some that are not, even with "
        f"{_LOADINGS[-1]} added to their unit diagonal"
    )


def _block_toeplitz(auto: Float[np.ndarray, "reference reference lag"]) -> Float[np.ndarray, "row row"]:
    """Entry (i, a), (j, b): the correlation of i and j at lag a - b; at lag -k it is that of j and i at k.

    On the host, where it costs a copy: gathering sixteen million entries takes XLA longer than their sums.
    """
    n_references, _, n_lags = auto.shape
    lags = np.concatenate([auto.swapaxes(0, 1)[..., :0:-1], auto], axis=-1)
    delayed = np.lib.stride_tricks.sliding_window_view(lags, n_lags, axis=-1)[..., ::-1]
    return delayed.swapaxes(1, 2).reshape(n_references * n_lags, n_references * n_lags)


@jax.jit
def _factorised(matrix: Float[Array, "system row row"], loading: float) -> Float[Array, "system row row"]:
    return cholesky(matrix + loading * jnp.eye(matrix.shape[-1])[None], lower=True)


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
