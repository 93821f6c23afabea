r"""Nets hear a song more than once: those of voices again, with what they have found brought forward.

Beside a loud accompaniment a net hears little of a voice; with the accompaniment turned down it hears more. When a song
has been separated into stems y, the net of each voice j hears

.. math::
    x_j = \frac{x + y_j}{2}

the voice as loud as it is in the song x, and whatever else there is at half its amplitude, a voice that was missed
included. The magnitudes that it makes of that take the place of those that it made before; all else stays, and the
filter separates x once more.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsep import passes
from jaxsep.blocks import Block
from jaxsep.rendering import Estimate, Report

__all__ = ["Render", "Song", "Stems", "brought_forward", "separate"]

Song = Callable[[], Iterator[Block]]
"""Reads a song's blocks, of one shape, from its start each time that it is called."""

Stems = Iterator[Float[np.ndarray, "group source channel time"]]

Render = Callable[[Iterator[Estimate], int, Report, tuple[int, ...] | None], Stems]
"""Makes stems of estimates, of so many blocks; tells the part that is done. The numbers are of the stems wanted."""

# Of the passes in the work, for the progress: encoding and recurrence of all nets and of a voice alone, rendering.
ALL_SHARES, VOICE_SHARES, RENDER_SHARE = (20, 30), (5, 10), 50


class _Heard(NamedTuple):
    """A song as some nets have heard it."""

    stacks: list[passes.Stack]
    song: Song
    hidden: list[passes.Sequences]  # what the decoders need


def separate(
    stacks: list[passes.Stack],
    song: Song,
    cut: Callable[[list[np.ndarray]], Iterator[Block]],
    *,
    render: Render,
    voices: Mapping[int, str],
    n_hearings: int,
    n_blocks: int | None,
    report: Report,
) -> Stems:
    """Let nets hear a song, and those of voices again with what was found for them brought forward.

    Args:
        stacks: the nets.
        song: the song.
        cut: cuts pieces ``(group, channel, time)`` into blocks, as the song is cut.
        render: makes stems of what the nets have heard.
        voices: the targets that hear more than once, by their place among all.
        n_hearings: how often they do, 1 or more.
        n_blocks: of the song, if that is known.
        report: called with the part of all work that is done.

    Yields:
        The stems of the last hearing, piece by piece. Those of voices are kept from one hearing to the next, beside
        what the decoders need.
    """
    reports = _reports(report, len(voices), n_hearings)
    heard = _hear(stacks, song, n_blocks, reports)
    n_blocks = len(heard.hidden[0].blocks)
    again: dict[int, _Heard] = {}
    for _ in range(1, n_hearings):
        found = list(render(_decode(heard, again, keep=True), n_blocks, next(reports), tuple(voices)))
        for number, (place, target) in enumerate(voices.items()):
            voice = [piece[:, number] for piece in found]
            closer = brought_forward(song, lambda voice=voice: cut(voice))
            again[place] = _hear([passes.pick(stacks, target)], closer, n_blocks, reports)
    yield from render(_decode(heard, again, keep=False), n_blocks, next(reports), None)


def brought_forward(song: Song, found: Song) -> Song:
    """The mean of a song and of what was found in it, block by block.

    Example:
        >>> block = Block(np.full((1, 1, 4), 0.5), 1, 4, True)
        >>> silent = block._replace(samples=np.zeros((1, 1, 4)))
        >>> next(brought_forward(lambda: iter([block]), lambda: iter([silent]))()).samples
        array([[[0.25, 0.25, 0.25, 0.25]]])
    """

    def mean() -> Iterator[Block]:
        for block, part in zip(song(), found(), strict=True):
            yield block._replace(samples=(block.samples + part.samples) / 2)

    return mean


def _hear(stacks: list[passes.Stack], song: Song, n_blocks: int | None, reports: Iterator[Report]) -> _Heard:
    encoded = passes.encode(stacks, song(), n_blocks=n_blocks, report=next(reports))
    return _Heard(stacks, song, passes.recur(stacks, encoded, report=next(reports)))


def _decode(heard: _Heard, again: Mapping[int, _Heard], *, keep: bool) -> Iterator[Estimate]:
    """The sources' magnitudes; of what was heard again, those of the last time."""
    first = passes.decode(heard.stacks, heard.hidden, heard.song(), keep=keep)
    if not again:
        yield from first
        return
    later = {
        place: passes.decode(one.stacks, one.hidden, one.song(), keep=keep) for place, one in again.items()
    }
    for estimate in first:
        sources = [source for made in estimate.magnitudes for source in _apart(made)]
        for place, estimates in later.items():
            (sources[place],) = next(estimates).magnitudes
        yield estimate._replace(magnitudes=tuple(sources))


def _apart(made: Array) -> list[Array]:
    return [made] if len(made) == 1 else jnp.split(made, len(made))


def _reports(report: Report, n_voices: int, n_hearings: int) -> Iterator[Report]:
    """For each pass of each hearing, in order."""
    shares = [*ALL_SHARES, RENDER_SHARE, *(n_hearings - 1) * (*n_voices * VOICE_SHARES, RENDER_SHARE)]
    for index, share in enumerate(shares):
        yield partial(_report_part, report, sum(shares[:index]), share, sum(shares))


def _report_part(report: Report, start: int, share: int, whole: int, done: float) -> None:
    report((start + share * done) / whole)
