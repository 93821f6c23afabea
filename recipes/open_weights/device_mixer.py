"""Makes the same batches as `mixer` on an accelerator that has room for the whole corpus."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from jaxsep.batches import Batch
from recipes.open_weights.cache import Stem
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.draws import SPEED_STEP, Draw, Sound, most_beneath
from recipes.open_weights.mixer import Mixer, levels

__all__ = ["DeviceMixer"]

_PIECE = 2**17  # samples that are copied at a time
_MARGIN = 8  # samples of silence before each stem, for the interpolation
_TAPS = 8
_MOST = 2**31 - 1  # samples of a source, thirteen hours: int32 counts them


class _Slots(NamedTuple):
    """The sounds of one source, the first of each excerpt and then those beneath."""

    start: np.ndarray  # in the source's memory
    faster: np.ndarray  # speed less 1, in steps of SPEED_STEP
    level: np.ndarray  # what it is divided by is in it; 0 for an empty slot
    drive: np.ndarray
    matrix: np.ndarray
    excerpt: np.ndarray  # which it is heard in


class DeviceMixer(Mixer):
    """`Mixer` whose corpus and whose work are on JAX's first device.

    Places in a stem, levels, weights are those of `Mixer`; other speeds are interpolated by eight samples.

    Args:
        stems: see `Mixer`.
        room: samples of each source that may come later, 4 bytes each; more than that are refused.
        settings: of `Mixer`.
    """

    def __init__(self, stems: Sequence[Stem], *, room: int = 0, **settings: Any):
        lengths = [sum(_padded(stem) + _MARGIN for stem in stems if stem.name == name) for name in STEMS]
        if max(lengths) + room > _MOST:
            raise ValueError(f"expected at most {_MOST:,} samples of a source, got {max(lengths) + room:,}")
        self._memory = [jnp.zeros(length + room, jnp.int32) for length in lengths]
        self._used = [0] * len(STEMS)
        self._places: dict[tuple[str, str], int] = {}
        super().__init__(stems, **settings)

    def _take_in(self, stems: Sequence[Stem]) -> None:
        for stem in stems:
            source = STEMS.index(stem.name)
            begin = self._used[source] + _MARGIN
            length, padded = stem.audio.shape[1], _padded(stem)
            if begin + padded > len(self._memory[source]):
                raise ValueError(
                    f"{stem.name}: expected at most {len(self._memory[source]):,} samples in all, got "
                    f"{begin + padded:,} with {stem.song}"
                )
            # Both channels of a sample in one number: half as many places to look up.
            packed = np.zeros((padded - _MARGIN, 2), np.int16)
            packed[:length] = stem.audio.T
            flat = packed.view(np.int32)[:, 0]
            for first in (*range(0, len(flat) - _PIECE, _PIECE), len(flat) - _PIECE):
                piece = flat[first : first + _PIECE]
                self._memory[source] = _written(self._memory[source], piece, np.int32(begin + first))
            self._places[stem.song, stem.name] = begin
            self._used[source] = begin + padded

    def _made(self, draw: Draw) -> Batch:
        slots = [self._slots(draw, source) for source in range(len(STEMS))]
        stems, gain, weight = _mix(self._memory, slots, draw.level, draw.bass_known, self.length)
        return Batch(stems, gain, draw.swap, None, weight)

    def _slots(self, draw: Draw, source: int) -> _Slots:
        n = len(draw.level)
        size = n + max(most_beneath(n), 1)
        slots = _Slots(
            np.full(size, _MARGIN, np.int32), np.zeros(size, np.int32), *np.zeros((2, size), np.float32),
            np.zeros((size, 2, 2), np.float32), np.zeros(size, np.int32),
        )  # fmt: skip
        firsts = [(excerpt, s, excerpt) for (excerpt, of), s in draw.first.items() if of == source]
        seconds = [(excerpt, s) for (excerpt, of), s in draw.second.items() if of == source]
        for slot, sound, excerpt in firsts + [(n + i, s, excerpt) for i, (excerpt, s) in enumerate(seconds)]:
            self._fill(slots, slot, sound, excerpt)
        return slots

    def _fill(self, slots: _Slots, slot: int, sound: Sound, excerpt: int) -> None:
        slots.start[slot] = self._places[sound.stem.song, sound.stem.name] + sound.start
        slots.faster[slot] = round((sound.speed - 1.0) / SPEED_STEP)
        slots.level[slot] = 1 / (32768 * sound.stem.level)
        slots.drive[slot] = sound.drive
        slots.matrix[slot] = sound.matrix
        slots.excerpt[slot] = excerpt


def _padded(stem: Stem) -> int:
    """Samples that a stem takes up, with the silence behind it."""
    return max(stem.audio.shape[1], _PIECE) + _MARGIN


@partial(jax.jit, donate_argnums=0)
def _written(memory: Int32[Array, " sample"], piece: Int32[Array, " piece"], begin: Array) -> Array:
    return jax.lax.dynamic_update_slice(memory, piece, (begin,))


@partial(jax.jit, static_argnames="length")
def _mix(
    memory: list[Int32[Array, " sample"]], slots: list[_Slots], level: Array, bass_known: Array, length: int
) -> tuple[Float[Array, "excerpt source 2 time"], Array, Array]:
    n = level.shape[0]

    def source(memory: Array, slots: _Slots) -> Float[Array, "excerpt 2 time"]:
        heard = _read(memory, slots.start, slots.faster, length) * slots.level[:, None, None]
        bent = jnp.tanh(slots.drive[:, None, None] * heard)
        loud, after = (jnp.mean(sound**2, axis=(1, 2)) for sound in (heard, bent))
        bent = bent * jnp.sqrt(loud / jnp.maximum(after, 1e-12))[:, None, None]
        heard = jnp.where(slots.drive[:, None, None] > 0, bent, heard)
        left, right = heard[:, 0], heard[:, 1]
        turned = jnp.stack(
            [row[:, 0, None] * left + row[:, 1, None] * right for row in jnp.swapaxes(slots.matrix, 0, 1)], 1
        )
        return turned[:n].at[slots.excerpt[n:]].add(turned[n:])

    stems = jnp.stack([source(*one) for one in zip(memory, slots, strict=True)], axis=1)
    mixture = jnp.mean(stems.sum(axis=1) ** 2, axis=(1, 2))
    gain, weight = levels(jnp, jnp.mean(stems**2, axis=(2, 3)), mixture, level, bass_known)
    return stems, gain, weight


def _read(
    memory: Int32[Array, " sample"], start: Array, faster: Array, length: int
) -> Float[Array, "slot 2 time"]:
    """Sound from a start on at a speed, between samples by a windowed sinc."""
    time = jnp.arange(length, dtype=jnp.int32)
    ahead = time[None] * faster[:, None]  # in steps of SPEED_STEP: floats could not count them finely enough
    steps = round(1 / SPEED_STEP)
    place = start[:, None] + time[None] + ahead // steps
    part = (ahead % steps).astype(jnp.float32) * np.float32(SPEED_STEP)
    out = jnp.zeros((2, *place.shape), jnp.float32)
    for tap in range(1 - _TAPS // 2, _TAPS // 2 + 1):
        distance = part - tap
        weight = jnp.sinc(distance) * jnp.cos(np.pi / (_TAPS + 1) * distance) ** 2
        packed = memory[place + tap]
        # The lower half of the number is the left channel; shifts of signed numbers keep the sign.
        both = jnp.stack([(packed << 16) >> 16, packed >> 16])
        out = out + weight[None] * both.astype(jnp.float32)
    return jnp.swapaxes(out, 0, 1)
