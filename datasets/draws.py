"""What chance decides about a batch: which song, which place, which change; all of it out of (seed, step).

Each step has a generator of its own, and every kind of draw has its place in it, used or not: the same seed and step
give the same batch on every machine, on every host, after every restart, and a change that is switched on leaves
the other draws as they were.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from datasets.tracks import Track

__all__ = ["AUGMENTATIONS", "Plan", "check_augmentations", "draw_plan"]

AUGMENTATIONS = ("gain", "channelswap", "signflip", "silence", "remix")
"""Changes of sources: a gain of 0.25 to 1.25; left and right exchanged half of the time; the sign turned half of the
time; one time in ten nothing of a source; sources exchanged among the excerpts of a batch."""

_GAIN = (0.25, 1.25)
_SILENCE = 0.1  # probability that a source rests


class Plan(NamedTuple):
    """A batch before it is read.

    A source may be the sum of several recordings, its parts.
    """

    tracks: Sequence[Track]  # that the numbers below point into
    track: Int64[np.ndarray, "batch source"]
    start: Int64[np.ndarray, "batch source"]  # samples; below 0: silence comes first
    gain: Float32[np.ndarray, "batch source part"]
    swap: Bool[np.ndarray, "batch source part"]


def check_augmentations(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if all of them are known.

    Raises:
        ValueError: one is not.
    """
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        raise ValueError(
            f"augmentations: expected names among {', '.join(AUGMENTATIONS)}; got {unknown[0]!r}"
        )
    return tuple(name for name in AUGMENTATIONS if name in names)


def draw_plan(
    seed: int,
    step: int,
    *,
    tracks: Sequence[Track],
    sources: Sequence[str],
    batch_size: int,
    count: int,
    mix: bool,
    augmentations: Sequence[str] = (),
    rest_without: bool = False,
) -> Plan:
    """Draw the batch of a step.

    Args:
        seed: 0 or more.
        step: 0 or more.
        tracks: to draw from; at least one for each source.
        sources: names, in the order of the batch.
        batch_size: excerpts.
        count: samples an excerpt. In a shorter track it gets a place in silence.
        mix: whether each source comes from a track and a place of its own; else all come from the same.
        augmentations: names among `AUGMENTATIONS`.
        rest_without: whether a source of its own place may come from a track that does not have it, as silence.

    Raises:
        ValueError: no track has one of the sources.
    """
    rng = np.random.default_rng([seed, step])
    shape = (batch_size, len(sources))
    parts = max((len(recordings) for track in tracks for recordings in track.stems.values()), default=1)
    # Nothing but uniform numbers: their stream stays what it is from one NumPy to the next.
    which, place, rest, order = (rng.random(shape) for _ in range(4))
    level, swap, flip = (rng.random((*shape, parts)) for _ in range(3))

    if not mix:
        which, place = (np.broadcast_to(chance[:, :1], shape) for chance in (which, place))
    track = np.stack(
        [
            _pick(_pool(tracks, source, everything=not mix or rest_without), which[:, index])
            for index, source in enumerate(sources)
        ],
        axis=1,
    )
    frames = np.array([one.frames for one in tracks])[track]
    room = frames - count
    start = np.where(room >= 0, _floor(place, room + 1), -_floor(place, 1 - room))

    gain = np.ones(level.shape)
    if "gain" in augmentations:
        gain = _GAIN[0] + (_GAIN[1] - _GAIN[0]) * level
    if "signflip" in augmentations:
        gain = np.where(flip < 0.5, -gain, gain)
    if "silence" in augmentations:
        gain = np.where(rest[..., None] < _SILENCE, 0.0, gain)
    swapped = swap < 0.5 if "channelswap" in augmentations else np.zeros(swap.shape, bool)
    if "remix" in augmentations:
        # Done by reading from other places: the samples would have to cross from host to host otherwise.
        origin = order.argsort(axis=0, kind="stable")
        track, start = (np.take_along_axis(drawn, origin, axis=0) for drawn in (track, start))
    return Plan(tracks, track, start, gain.astype(np.float32), swapped)


def _pool(tracks: Sequence[Track], source: str, *, everything: bool) -> Int64[np.ndarray, " track"]:
    """The tracks to draw a source from."""
    pool = np.array(
        [index for index, one in enumerate(tracks) if everything or source in one.stems], np.int64
    )
    if not pool.size:
        raise ValueError(f"{source}: expected at least one track that has it, got none")
    return pool


def _pick(pool: np.ndarray, chance: np.ndarray) -> np.ndarray:
    return pool[_floor(chance, pool.size)]


def _floor(chance: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Whole numbers from 0 to below ``size`` out of uniform ones from 0 to below 1."""
    return np.minimum((chance * size).astype(np.int64), np.asarray(size) - 1)
