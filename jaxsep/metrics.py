"""Scores for separated sources: BSSEval, the SDR of the MDX challenges, the scale-invariant SDR."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsep.bsseval import BSSEvalScores, SilentPolicy, bss_eval

__all__ = ["BSSEvalScores", "SilentPolicy", "bss_eval", "sdr", "si_sdr"]


def sdr(
    reference: Float[Array, "*batch channel time"],
    estimate: Float[Array, "*batch channel time"],
    *,
    eps: float = 1e-7,
) -> Float[Array, "*batch"]:
    r"""Signal-to-distortion ratio as the MDX challenges rank by it: one number a source, no filters.

    .. math:: 10 \log_{10} \frac{\sum s^2 + \epsilon}{\sum (s - \hat s)^2 + \epsilon}

    over all channels and samples. A silent reference scores 0 dB at most, and only with a silent estimate.

    Args:
        reference: true audio, `(..., channel, time)`, real, full scale 1.
        estimate: estimated audio of the same shape.
        eps: energy added to both sums, >= 0, in squared full scale.

    Returns:
        The ratio in dB, `(...)`, in the precision of the input.

    Raises:
        TypeError: for complex or integer input.
        ValueError: for shapes that differ or have no channel and time axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsep import metrics
        >>> reference = jnp.ones((4, 2, 100))  # source, channel, time
        >>> metrics.sdr(reference, 0.9 * reference).round(3).tolist()
        [20.0, 20.0, 20.0, 20.0]

    Source:
        Y. Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 1, 2022.
    """
    reference, estimate = _checked_pair(reference, estimate)
    return _decibels(_energy(reference), _energy(reference - estimate), eps)


def si_sdr(
    reference: Float[Array, "*batch channel time"],
    estimate: Float[Array, "*batch channel time"],
    *,
    zero_mean: bool = False,
    eps: float = 1e-7,
) -> Float[Array, "*batch"]:
    r"""Scale-invariant signal-to-distortion ratio: the loudness of the estimate does not count.

    .. math::
        10 \log_{10} \frac{\sum (\alpha s)^2 + \epsilon}{\sum (\alpha s - \hat s)^2 + \epsilon},
        \quad \alpha = \frac{\sum \hat s s}{\sum s^2}

    with one gain for all channels, so that the balance between them does count. It is invariant as long as
    the energies are far above eps; with a silent reference or estimate it is 0 dB or less, and never NaN.

    Args:
        reference: true audio, `(..., channel, time)`, real, full scale 1.
        estimate: estimated audio of the same shape.
        zero_mean: take each channel's mean off both first.
        eps: energy added to both sums, >= 0, in squared full scale.

    Returns:
        The ratio in dB, `(...)`, in the precision of the input.

    Raises:
        TypeError: for complex or integer input.
        ValueError: for shapes that differ or have no channel and time axis.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxsep import metrics
        >>> reference = jnp.array([[1.0, 0.0, 1.0, 0.0]])
        >>> estimate = jnp.array([[5.0, 0.5, 5.0, -0.5]])
        >>> float(metrics.si_sdr(reference, estimate).round(2))
        20.0

    Source:
        J. Le Roux, S. Wisdom, H. Erdogan and J. R. Hershey, "SDR - half-baked or well done?", ICASSP 2019.
    """
    reference, estimate = _checked_pair(reference, estimate)
    if zero_mean:
        reference, estimate = (x - jnp.mean(x, axis=-1, keepdims=True) for x in (reference, estimate))
    gain = (
        jnp.sum(reference * estimate, axis=(-2, -1), keepdims=True)
        / (_energy(reference) + eps)[..., None, None]
    )
    target = gain * reference
    return _decibels(_energy(target), _energy(target - estimate), eps)


def _checked_pair(reference: Array, estimate: Array) -> tuple[Array, Array]:
    reference, estimate = jnp.asarray(reference), jnp.asarray(estimate)
    for name, x in (("reference", reference), ("estimate", estimate)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"expected a real floating-point {name}, got dtype {x.dtype}")
    if reference.shape != estimate.shape or reference.ndim < 2:
        raise ValueError(
            f"expected reference and estimate of the same shape (..., channel, time), "
            f"got {reference.shape} and {estimate.shape}"
        )
    return reference, estimate


def _energy(x: Float[Array, "*batch channel time"]) -> Float[Array, "*batch"]:
    return jnp.sum(x**2, axis=(-2, -1))


def _decibels(
    wanted: Float[Array, "*batch"], unwanted: Float[Array, "*batch"], eps: float
) -> Float[Array, "*batch"]:
    # The difference of logarithms, for the ratio of two single-precision energies can overflow.
    return 10 * (jnp.log10(wanted + eps) - jnp.log10(unwanted + eps))
