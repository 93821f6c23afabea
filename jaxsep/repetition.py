"""What repeats in a song: every frame beside the frames that are most similar to it (REPET-SIM).

An accompaniment plays the same again, a voice sings something else over it each time. The median of similar
frames keeps the one and forgets the other.

References:
    Z. Rafii, B. Pardo: Music/voice separation using the similarity matrix. ISMIR 2012.
    D. FitzGerald: Vocal separation using nearest neighbours and median filtering. Irish Signals and Systems
    Conference 2012.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsep.median_filter import median

__all__ = ["repeating", "similar_median"]


@partial(jax.jit, static_argnames=("n_similar", "apart"))
def repeating(
    magnitude: Float[Array, "*batch freq frame"], *, n_similar: int = 11, apart: int = 43
) -> Float[Array, "*batch freq frame"]:
    """The part of a spectrogram that is heard again elsewhere.

    ``min(v, median of the most similar frames)``; divided by ``v`` it is the mask of the accompaniment.

    Args:
        magnitude: magnitudes (..., freq, frame), ≥ 0. The similarity of all pairs of frames is kept: 1.2 GB for
            5 minutes at 58 frames a second.
        n_similar: frames in the median, odd.
        apart: how many frames a repetition must be away, 1 or more; 43 are a second at 44.1 kHz and a hop of
            1024 samples.

    Returns:
        Magnitudes (..., freq, frame), nowhere above `magnitude`.

    Raises:
        ValueError: fewer than two dimensions, too few frames for the repetitions of each, or options out of
            range.

    Example:
        >>> song = jnp.tile(jnp.eye(4), (1, 6)).at[3, 8].set(0.5)  # a figure that repeats, and an accident
        >>> bool(repeating(song, n_similar=3, apart=2)[3, 8] == 0)
        True
    """
    magnitude = jnp.asarray(magnitude)
    if magnitude.ndim < 2:
        raise ValueError(f"magnitude must be (..., freq, frame), got shape {magnitude.shape}")
    if n_similar < 1 or n_similar % 2 == 0 or apart < 1:
        raise ValueError(f"n_similar must be odd and apart 1 or more, got {n_similar} and {apart}")
    n_frames = magnitude.shape[-1]
    if n_frames - (2 * apart - 1) < n_similar:
        raise ValueError(
            f"magnitude must have {n_similar + 2 * apart - 1} frames or more, for {n_similar} that are {apart} "
            f"away from each, got {n_frames}"
        )
    frame = jnp.arange(n_frames)
    allowed = jnp.abs(frame[:, None] - frame[None]) >= apart

    def one(v: Float[Array, "freq frame"]) -> Float[Array, "freq frame"]:
        return jnp.minimum(v, similar_median(v, v, allowed, n_similar))

    return jnp.vectorize(one, signature="(f,n)->(f,n)")(magnitude)


def similar_median(
    frames: Float[Array, "freq frame"],
    others: Float[Array, "freq other"],
    allowed: Bool[Array, "frame other"],
    n_similar: int,
) -> Float[Array, "freq frame"]:
    """For each frame the median, bin by bin, of the frames of `others` that it is most similar to.

    Similar is what has the same shape, however loud: the cosine of the angle between two frames.

    Args:
        frames: magnitudes, ≥ 0.
        others: magnitudes, ≥ 0, as loud as `frames`.
        allowed: which of the others may serve as a repetition of which frame.
        n_similar: frames in the median, odd; where fewer are allowed, others fill up.

    Returns:
        The medians.

    Example:
        >>> similar_median(jnp.ones((2, 1)), jnp.array([[5.0, 0], [5, 1]]), jnp.ones((1, 2), bool), 1).tolist()
        [[5.0], [5.0]]
    """

    def directions(x: Array) -> Array:
        size = jnp.linalg.norm(x, axis=0, keepdims=True)
        return x / jnp.where(size > 0, size, 1)

    similarity = directions(frames).T @ directions(others)
    _, similar = jax.lax.top_k(jnp.where(allowed, similarity, -1), n_similar)
    # Whole frames are fetched, and selection by comparisons is 30 times faster than sorting.
    columns = others.T
    return median([columns[similar[:, rank]] for rank in range(n_similar)]).T
