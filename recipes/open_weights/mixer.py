"""Makes batches of excerpts from the corpus on the host: a `jaxsep.batches.BatchFunction`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soxr

from jaxsep.batches import Batch
from recipes.open_weights.cache import Stem
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.draws import Draw, Drawer, Sound
from recipes.open_weights.sources import RATE

__all__ = ["Mixer", "levels"]


class Mixer:
    """Makes batches; call it with ``(seed, step)``.

    Args:
        stems: of the corpus, none of them held back.
        batch_size: excerpts.
        seconds: length of one.
        follow: asked before each batch for stems that have come since.

    Raises:
        ValueError: one of the four targets has no stem that is long enough.
    """

    def __init__(
        self,
        stems: Sequence[Stem],
        *,
        batch_size: int,
        seconds: float,
        follow: Callable[[int], Sequence[Stem]] | None = None,
    ):
        self.length = round(seconds * RATE)
        self._drawer = Drawer(batch_size=batch_size, length=self.length)
        self._follow = follow
        self._take_in(self._drawer.add(stems))
        self._drawer.check()

    def __call__(self, seed: int, step: int) -> Batch:
        """The batch of a step; its sources are in the order of `corpus.STEMS`, its stems are float32."""
        if self._follow is not None:
            self._take_in(self._drawer.add(self._follow(step)))
        return self._made(self._drawer(seed, step))

    def _take_in(self, stems: Sequence[Stem]) -> None:
        """Stems that may be drawn from now on."""

    def _made(self, draw: Draw) -> Batch:
        stems = np.zeros((*draw.swap.shape, 2, self.length), np.float32)
        for sounds in (draw.first, draw.second):
            for place, sound in sounds.items():
                stems[place] += sound.matrix @ self._heard(sound)
        power = np.einsum("bsct,bsct->bs", stems, stems) / (2 * self.length)
        mixture = (stems.sum(axis=1) ** 2).mean(axis=(1, 2))
        gain, weight = levels(np, power, mixture, draw.level, draw.bass_known)
        origin = np.broadcast_to(np.arange(len(stems), dtype=np.int32)[:, None], draw.swap.shape)
        return Batch(stems, gain, draw.swap, origin.copy(), weight)

    def _heard(self, sound: Sound) -> np.ndarray:
        """The place of a stem at its speed, at a level of 1, bent or not: (2, time)."""
        needed = int(np.ceil(self.length * sound.speed)) + 64
        heard = sound.stem.audio[:, sound.start : sound.start + needed].astype(np.float32)
        heard *= np.float32(1 / (32768 * sound.stem.level))
        if sound.speed != 1.0:
            heard = soxr.resample(heard.T, RATE * sound.speed, RATE, quality="LQ").T
        heard = heard[:, : self.length]
        if not sound.drive:
            return heard
        bent = np.tanh(np.float32(sound.drive) * heard)  # from warm to fuzzy, and as loud as before
        return bent * np.float32(np.sqrt((heard**2).mean() / max(float((bent**2).mean()), 1e-12)))


def levels(xp: Any, power: Any, mixture: Any, level: Any, bass_known: Any) -> tuple[Any, Any]:
    """Gains that set the mixtures' levels, and weights: neither loud excerpts nor loud stems decide alone.

    Args:
        xp: `numpy` or `jax.numpy`, of the other arguments.
        power: mean squares of the stems, (excerpt, source).
        mixture: of the mixtures, (excerpt,).
        level: RMS that they are to have.
        bass_known: where bass and other may be learned from.

    Returns:
        Gains and weights, float32 (excerpt, source); zeros where there is no mixture.
    """
    sounds = mixture > 1e-10
    mixture = xp.where(sounds, mixture, 1.0)[:, None]
    gain = xp.where(sounds, level, 0.0)[:, None] / xp.sqrt(mixture)
    # The mean square of an STFT bin of a Hann window of 4096 samples is 1536 times that of a sample.
    scaled = 1536 * xp.where(gain > 0, gain, 1.0) ** 2 * xp.sqrt(mixture * (power + 0.05 * mixture))
    learned = bass_known[:, None] | ~xp.asarray([[name in ("bass", "other") for name in STEMS]])
    weight = xp.where(learned & sounds[:, None], 1 / scaled, 0.0)
    return xp.broadcast_to(gain, power.shape).astype(np.float32), weight.astype(np.float32)
