"""The local Gaussian model of a mixture, and the filters that follow from it.

Source ``j`` is modelled, per frequency ``f`` and frame ``t``, as a centred complex Gaussian vector over the
channels with covariance ``psd_j(f, t) cov_j(f)``: how loud it is at that moment, times where it comes from.
The mixture is then Gaussian as well, and the posterior mean of each source is a small matrix times it.

Per-bin algebra is written on planes: a matrix is rows of arrays over the bins, a vector a list of them. A
plane is long and contiguous, which CPUs and accelerators both like better than millions of tiny matrices.

References:
    N. Duong, E. Vincent and R. Gribonval, "Under-determined reverberant audio source separation using a
    full-rank spatial covariance model", IEEE TASLP 18(7), 2010: the model and its Wiener gain.
    A. Nugraha, A. Liutkus and E. Vincent, "Multichannel audio source separation with deep neural networks",
    IEEE/ACM TASLP 24(9), 2016: the weighted update of the spatial covariance.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

__all__ = ["apply_filter", "local_gaussian_model", "mix_covariance", "wiener_gain"]


def local_gaussian_model(
    y: Complex[Array, "*batch source channel freq frame"], *, eps: float = 1e-10
) -> tuple[Float[Array, "*batch source freq frame"], Complex[Array, "*batch source freq channel channel"]]:
    """Power spectral densities and spatial covariances of the sources.

    ``psd_j = mean_c |y_jc|^2`` and ``cov_j = sum_t y_j y_j^H / (eps + sum_t psd_j)``: frames count by their
    power, and the trace of ``cov_j`` is the number of channels wherever there is a signal.

    Args:
        y: estimates of the sources.
        eps: what is added to the weight, positive.

    Returns:
        ``(psd, cov)``; `cov` is Hermitian and positive semidefinite.

    Example:
        >>> psd, cov = local_gaussian_model(jnp.full((3, 2, 5, 4), 1.0 + 1.0j))
        >>> float(psd[0, 0, 0]), cov[0, 0].real
        (2.0, Array([[1., 1.],
               [1., 1.]], dtype=float32))
    """
    y = jnp.asarray(y)
    # XLA sums real rows over frames several times faster than complex ones: all three sums are real.
    power = squared_magnitude(y)
    psd = jnp.mean(power, axis=-3)
    per_weight = 1 / (eps + jnp.sum(psd, axis=-1))
    channels = _channels(y)
    rows = [[None] * len(channels) for _ in channels]
    for c, a in enumerate(channels):
        rows[c][c] = (jnp.sum(power[..., c, :, :], axis=-1) * per_weight).astype(y.dtype)
        for d, b in enumerate(channels[:c]):
            real = jnp.sum(a.real * b.real + a.imag * b.imag, axis=-1)
            imag = jnp.sum(a.imag * b.real - a.real * b.imag, axis=-1)
            rows[c][d] = lax.complex(real * per_weight, imag * per_weight)
            rows[d][c] = jnp.conj(rows[c][d])
    return psd, jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def mix_covariance(
    psd: Float[Array, "*batch source freq frame"], cov: Complex[Array, "*batch source freq channel channel"]
) -> Complex[Array, "*batch freq frame channel channel"]:
    """Covariance of the mixture under the model, ``sum_j psd_j cov_j``.

    Args:
        psd: power spectral densities, nonnegative.
        cov: spatial covariances, Hermitian.

    Returns:
        One Hermitian matrix a bin, not regularised.

    Example:
        >>> mix_covariance(jnp.array([1.0, 2.0]).reshape(2, 1, 1), jnp.ones((2, 1, 2, 2)) + 0j)[0, 0].real
        Array([[3., 3.],
               [3., 3.]], dtype=float32)
    """
    rows = _lower_rows(psd, cov)
    n_channels = len(rows)
    full = [
        [rows[c][d] if d <= c else jnp.conj(rows[d][c]) for d in range(n_channels)] for c in range(n_channels)
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in full], axis=-2)


def wiener_gain(
    psd: Float[Array, "*batch source freq frame"],
    cov: Complex[Array, "*batch source freq channel channel"],
    *,
    eps: float = 1e-10,
) -> Complex[Array, "*batch source freq frame channel channel"]:
    """The filters that give each source's posterior mean, ``W_j = psd_j cov_j C^-1``.

    ``C = sum_k psd_k cov_k + sqrt(eps) I`` is the model of the mixture. EM applies these filters without
    ever holding them; make them to change them, as :func:`jaxsep.refinement.compress_filter` does.

    Args:
        psd: power spectral densities, nonnegative.
        cov: spatial covariances, Hermitian and positive semidefinite.
        eps: its square root is the power of the white noise in ``C``. Positive.

    Returns:
        One matrix a source and bin; over sources they sum to almost the identity.

    Example:
        >>> psd = jnp.array([1.0, 3.0]).reshape(2, 1, 1)
        >>> cov = jnp.tile(jnp.eye(2, dtype=complex), (2, 1, 1, 1))
        >>> gain = wiener_gain(psd, cov, eps=1e-14)
        >>> jnp.diagonal(gain[1, 0, 0]).real
        Array([0.75, 0.75], dtype=float32)
    """
    psd, cov = jnp.asarray(psd), jnp.asarray(cov)
    lower = [[element[..., None, :, :] for element in row] for row in _lower_rows(psd, cov)]
    n_channels = len(lower)
    # cov and C are Hermitian: row c of cov C^-1 is the conjugate of the solution of C z = (column c of cov).
    rows = []
    for c in range(n_channels):
        column = [cov[..., d, c, None] for d in range(n_channels)]
        solution = _hermitian_solve(lower, column, _regularization(n_channels, eps))
        rows.append(jnp.stack([amplify(jnp.conj(z), psd) for z in solution], axis=-1))
    return jnp.stack(rows, axis=-2)


def apply_filter(
    x: Complex[Array, "*batch channel freq frame"],
    gain: Complex[Array, "*batch source freq frame channel channel"],
) -> Complex[Array, "*batch source channel freq frame"]:
    """Apply each source's filter to the mixture, ``y_j = W_j x``.

    Args:
        x: the mixture's STFT.
        gain: filters, as :func:`wiener_gain` makes them.

    Returns:
        The filtered mixture, once a source.

    Example:
        >>> x = jnp.ones((2, 1, 1)) * 1j
        >>> apply_filter(x, jnp.eye(2).reshape(1, 1, 1, 2, 2)).shape
        (1, 2, 1, 1)
    """
    x, gain = jnp.asarray(x), jnp.asarray(gain)
    channels = [plane[..., None, :, :] for plane in _channels(x)]
    rows = [sum(gain[..., c, d] * plane for d, plane in enumerate(channels)) for c in range(gain.shape[-2])]
    return jnp.stack(rows, axis=-3)


def em_step(y: Array, x: Array, *, eps: float) -> tuple[Array, Array, Array]:
    """Model the estimates `y`, filter the mixture `x` with the model; returns ``(y, psd, cov)``.

    The three pieces above in one, without the filters ever being held.
    """
    psd, cov = local_gaussian_model(y, eps=eps)
    n_channels = x.shape[-3]
    z = _hermitian_solve(_lower_rows(psd, cov), _channels(x), _regularization(n_channels, eps))
    # C^-1 x is shared by all sources and channels: without the barrier XLA computes it anew for each of them.
    z = lax.optimization_barrier(z)
    y = [
        amplify(sum(cov[..., c, d, None] * z[d][..., None, :, :] for d in range(n_channels)), psd)
        for c in range(n_channels)
    ]
    return jnp.stack(y, axis=-3), psd, cov


def _hermitian_solve(
    lower: Sequence[Sequence[Array]], x: Sequence[Array], regularization: float
) -> list[Array]:
    """Solve ``(A + regularization I) z = x`` in every bin, by the factors ``L D L^H``.

    `lower` holds the rows of the positive semidefinite ``A`` up to the diagonal. For one channel this is a
    division, for two the closed form by the Schur complement. It is backward stable, which the textbook's
    adjugate over determinant is not: a mono signal in stereo makes ``A`` singular, and the sources must still
    sum to the mixture in single precision.

    In exact arithmetic no pivot of ``A + r I`` is below ``r``. They are kept there, so that rounding never
    makes one zero or negative.
    """
    n = len(lower)
    factor = [[None] * n for _ in range(n)]
    scaled = [[None] * n for _ in range(n)]  # L D
    per_pivot = []
    for c in range(n):
        for d in range(c):
            scaled[c][d] = lower[c][d] - sum(scaled[c][k] * jnp.conj(factor[d][k]) for k in range(d))
            factor[c][d] = amplify(scaled[c][d], per_pivot[d])
        schur = lower[c][c] - sum(squared_magnitude(scaled[c][k]) * per_pivot[k] for k in range(c))
        per_pivot.append(1 / (jnp.maximum(schur, 0.0) + regularization))
    u = []
    for c in range(n):
        u.append(x[c] - sum(factor[c][k] * u[k] for k in range(c)))
    z = [amplify(plane, inverse) for plane, inverse in zip(u, per_pivot, strict=True)]
    for c in reversed(range(n)):
        z[c] = z[c] - sum(jnp.conj(factor[k][c]) * z[k] for k in range(c + 1, n))
    return z


def _lower_rows(psd, cov) -> list[list[Array]]:
    """Row c of ``sum_j psd_j cov_j`` up to its diagonal, which is real: planes over the bins."""
    psd, cov = jnp.asarray(psd), jnp.asarray(cov)
    sources = [(psd[..., j, :, :], cov[..., j, :, :, :, None]) for j in range(psd.shape[-3])]

    def element(c, d):
        if c == d:
            return sum(power * shape[..., c, c, :].real for power, shape in sources)
        return sum(amplify(shape[..., c, d, :], power) for power, shape in sources)

    return [[element(c, d) for d in range(c + 1)] for c in range(cov.shape[-1])]


def _regularization(n_channels: int, eps: float) -> float:
    """What is added to the mixture's diagonal; norbert adds `eps` once more for one channel, so do we."""
    return math.sqrt(eps) + (eps if n_channels == 1 else 0.0)


def squared_magnitude(z: Array) -> Array:
    """``|z|^2``, without the square root that `abs` would take."""
    return jnp.square(z.real) + jnp.square(z.imag)


def amplify(z: Array, gain: Array) -> Array:
    """``gain z`` for a real gain, without the products with its zero imaginary part."""
    return lax.complex(gain * z.real, gain * z.imag)


def _channels(z: Array) -> list[Array]:
    return [z[..., c, :, :] for c in range(z.shape[-3])]
