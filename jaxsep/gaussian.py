"""The local Gaussian model of a mixture, and the filters that follow from it.

Source ``j`` is modelled, per frequency ``f`` and frame ``t``, as a centred complex Gaussian vector over the
channels with covariance ``psd_j(f, t) cov_j(f)``: how loud it is at that moment, times where it comes from.
The mixture is then Gaussian as well, and the posterior mean of each source is a small matrix times it.

Per-bin algebra is written on planes: a matrix is rows of arrays over the bins, a vector a list of them. A
plane is long and contiguous, which CPUs and accelerators both like better than millions of tiny matrices, and
:class:`jaxsep.planes.Planes` keep the real and the imaginary part of one apart.

References:
    N. Duong, E. Vincent and R. Gribonval, "Under-determined reverberant audio source separation using a
    full-rank spatial covariance model", IEEE TASLP 18(7), 2010: the model and its Wiener gain.
    A. Nugraha, A. Liutkus and E. Vincent, "Multichannel audio source separation with deep neural networks",
    IEEE/ACM TASLP 24(9), 2016: the weighted update of the spatial covariance.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from jaxsep.planes import Planes, total

__all__ = ["apply_filter", "local_gaussian_model", "mix_covariance", "wiener_gain"]

# Units in the last place of its diagonal below which a pivot is noise: with fewer near-mono signals of six channels
# overflow in single precision. In double precision it is far below the regularisation.
_ROUNDING = 16


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
    psd, cov = _model(channels(Planes.of(jnp.asarray(y))), eps)
    return psd, matrices(cov)


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
    return matrices(_mix(jnp.asarray(psd), _lower(jnp.asarray(cov))))


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
    lower = [[element[..., None, :, :] for element in row] for row in _mix(psd, _lower(cov))]
    n_channels = len(lower)
    # cov and C are Hermitian: row c of cov C^-1 is the conjugate of the solution of C z = (column c of cov).
    rows = []
    for c in range(n_channels):
        column = [Planes.of(cov[..., d, c, None]) for d in range(n_channels)]
        solution = _hermitian_solve(lower, column, _regularization(n_channels, eps))
        rows.append(jnp.stack([(z.conj() * psd).join() for z in solution], axis=-1))
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
    planes = [plane[..., None, :, :] for plane in channels(x)]
    rows = [sum(gain[..., c, d] * plane for d, plane in enumerate(planes)) for c in range(gain.shape[-2])]
    return jnp.stack(rows, axis=-3)


def em_step(
    y: Sequence[Planes], x: Sequence[Planes], *, eps: float
) -> tuple[list[Planes], Array, list[list[Any]]]:
    """Model the estimates `y`, filter the mixture `x` with the model.

    The three pieces above in one, without the filters ever being held.

    Args:
        y: of each channel, planes (..., source, freq, frame).
        x: of each channel, planes (..., freq, frame).
        eps: as in :func:`wiener_gain`.

    Returns:
        The filtered mixture as `y`, the power spectral densities, and the spatial covariances as `matrices` takes them.
    """
    psd, cov = _model(y, eps)
    z = _hermitian_solve(_mix(psd, cov), x, _regularization(len(x), eps))
    # C^-1 x is shared by all sources and channels: without the barrier XLA computes it anew for each of them.
    z = [plane[..., None, :, :] for plane in lax.optimization_barrier(z)]

    def product(c: int, d: int) -> Planes:
        if c < d:
            return z[d] * cov[d][c].conj()[..., None]
        return z[d] * cov[c][d][..., None]

    return [total(product(c, d) for d in range(len(z))) * psd for c in range(len(z))], psd, cov


def _model(y: Sequence[Planes], eps: float) -> tuple[Array, list[list[Any]]]:
    """:func:`local_gaussian_model` on the channels' planes; of the covariances the rows up to the diagonal."""
    powers = [plane.power() for plane in y]
    psd = total(powers) / len(y)
    per_weight = 1 / (eps + jnp.sum(psd, axis=-1))

    def moment(c: int, d: int) -> Planes | Array:
        if c == d:
            return jnp.sum(powers[c], axis=-1) * per_weight
        product = y[c] * y[d].conj()
        return Planes(jnp.sum(product.real, axis=-1), jnp.sum(product.imag, axis=-1)) * per_weight

    return psd, [[moment(c, d) for d in range(c + 1)] for c in range(len(y))]


def _mix(psd: Array, cov: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows of ``sum_j psd_j cov_j`` up to the diagonal, planes over the bins."""

    def element(moments: Any) -> Any:
        return total(moments[..., j, :, None] * psd[..., j, :, :] for j in range(psd.shape[-3]))

    return [[element(moments) for moments in row] for row in cov]


def _hermitian_solve(
    lower: Sequence[Sequence[Any]], x: Sequence[Planes], regularization: float
) -> list[Planes]:
    """Solve ``(A + regularization I) z = x`` in every bin, by the factors ``L D L^H``.

    `lower` holds the rows of the positive semidefinite ``A`` up to the diagonal, which is real. For one channel this
    is a division, for two the closed form by the Schur complement. It is backward stable, which the textbook's
    adjugate over determinant is not: a mono signal in stereo makes ``A`` singular, and the sources must still
    sum to the mixture in single precision.

    In exact arithmetic no pivot of ``A + r I`` is below ``r``. They are kept there, and above what rounding leaves of
    the diagonal that they come from, so that where all channels are but one none is zero, negative or mere noise.
    """
    n = len(lower)
    factor: list[list[Planes]] = [[] for _ in range(n)]
    per_pivot: list[Array] = []
    for c in range(n):
        scaled: list[Planes] = []  # L D
        for d in range(c):
            products = [scaled[k] * factor[d][k].conj() for k in range(d)]
            scaled.append(_less(lower[c][d], products))
            factor[c].append(scaled[d] * per_pivot[d])
        schur = _less(lower[c][c], [scaled[k].power() * per_pivot[k] for k in range(c)])
        least = _ROUNDING * jnp.finfo(schur.dtype).eps * lower[c][c]
        per_pivot.append(1 / (jnp.maximum(schur, least) + regularization))
    u: list[Planes] = []
    for c in range(n):
        u.append(_less(x[c], [factor[c][k] * u[k] for k in range(c)]))
    z = [plane * inverse for plane, inverse in zip(u, per_pivot, strict=True)]
    for c in reversed(range(n)):
        z[c] = _less(z[c], [factor[k][c].conj() * z[k] for k in range(c + 1, n)])
    return z


def _less(start: Any, terms: Sequence[Any]) -> Any:
    """``start`` less the sum of the terms, if there are any."""
    return start - total(terms) if terms else start


def _lower(cov: Complex[Array, "*batch source freq channel channel"]) -> list[list[Any]]:
    """Rows of Hermitian matrices up to the diagonal, which is real."""
    n = cov.shape[-1]
    return [
        [cov[..., c, d].real if c == d else Planes.of(cov[..., c, d]) for d in range(c + 1)] for c in range(n)
    ]


def matrices(lower: Sequence[Sequence[Any]]) -> Complex[Array, "... channel channel"]:
    """Hermitian matrices, given their rows up to the diagonal: :class:`Planes`, and on the diagonal real arrays."""

    def element(c: int, d: int) -> Array:
        if c == d:
            return lax.complex(lower[c][c], jnp.zeros_like(lower[c][c]))
        return lower[c][d].join() if d < c else lower[d][c].conj().join()

    n = len(lower)
    return jnp.stack([jnp.stack([element(c, d) for d in range(n)], axis=-1) for c in range(n)], axis=-2)


def channels(z: Any) -> list[Any]:
    """The channels of an array, or of :class:`Planes`, with axes (..., channel, freq, frame)."""
    return [z[..., c, :, :] for c in range(z.real.shape[-3])]


def amplify(z: Array, gain: Array) -> Array:
    """``gain z`` for a real gain, without the products with its zero imaginary part."""
    return (Planes.of(z) * gain).join()


def _regularization(n_channels: int, eps: float) -> float:
    """What is added to the mixture's diagonal; norbert adds `eps` once more for one channel, so do we."""
    return math.sqrt(eps) + (eps if n_channels == 1 else 0.0)
