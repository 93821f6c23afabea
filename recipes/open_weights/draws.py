"""Draws what the excerpts of a batch are made of; the mixers make them.

Stems of one place of one song, or each from its own; silent ones; levels over a wide range; other tempos and pitches;
other places between the loudspeakers.
"""

import random
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from recipes.open_weights.cache import BLOCK, Stem
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.sources import RATE

__all__ = ["SPEED_STEP", "Draw", "Drawer", "Sound", "most_beneath"]

SPEED_STEP = 2.0**-14  # speeds are multiples of it, so that places in a sound can be counted in integers

# How often a stem comes from which kind of song.
_SHARES = {
    "vocals": {"recorded": 0.3, "rendered": 0.4, "singers": 0.3},
    "drums": {"recorded": 0.2, "rendered": 0.8},
    "bass": {"recorded": 0.1, "rendered": 0.45, "patches": 0.45},
    "other": {"recorded": 0.1, "rendered": 0.42, "guitar": 0.16, "patches": 0.32},
}
_HOLDS_BASS = "holds bass"  # a kind of its own, of which nothing is drawn as long as there are others
_NO_SONGS = ("guitar", "patches", "singers")  # kinds whose stems are those of no band
_COHERENT = 0.3  # share of excerpts whose stems come from one place of one song
_SILENT = {"vocals": 0.14, "drums": 0.1, "bass": 0.12, "other": 0.08}
_SECOND = {"vocals": 0.15, "drums": 0.08, "bass": 0.0, "other": 0.35}  # another of its kind beneath it
_DRIVEN = {"vocals": 0.05, "drums": 0.08, "bass": 0.35, "other": 0.12}  # bent, so that it has other overtones
_GAINS = (-10.0, 6.0)  # dB, of a stem against the others
_LEVELS = (-32.0, -11.0)  # dB, RMS of a mixture


def most_beneath(batch_size: int) -> int:
    """In how many excerpts of a batch a source may have a second sound: an accelerator keeps room for all of them."""
    return batch_size // 2


class Sound(NamedTuple):
    """A place of a stem, and what becomes of it."""

    stem: Stem
    start: int  # samples
    speed: float  # 1 is as it was, 2 an octave up
    drive: float  # into the stage that bends it; 0 for none
    matrix: np.ndarray  # (2, 2), from its channels, at a level of 1, to those of the stem


class Draw(NamedTuple):
    """A batch. Sounds are named by excerpt and source."""

    first: dict[tuple[int, int], Sound]
    second: dict[tuple[int, int], Sound]  # beneath the first
    level: np.ndarray  # (excerpt,) RMS of the mixture, full scale 1
    bass_known: np.ndarray  # (excerpt,) False where a bass may be in `other`
    swap: np.ndarray  # (excerpt, source) channels exchanged


class Drawer:
    """Draws batches from stems, more of which may be added as time goes on.

    Args:
        batch_size: excerpts.
        length: samples of one.
    """

    def __init__(self, *, batch_size: int, length: int):
        self.batch_size, self.length = batch_size, length
        self._pool: dict[tuple[str, str], list[Stem]] = {}
        self._songs: dict[str, list[dict[str, Stem]]] = {}

    def add(self, stems: Iterable[Stem]) -> list[Stem]:
        """Draw from these stems, of whole songs, too; what is returned lacks those too short for that."""
        added = [stem for stem in stems if stem.audio.shape[1] > 1.3 * self.length]
        songs: dict[str, dict[str, Stem]] = {}
        for stem in added:
            # A bass that was never separated is heard where its song is, and added to no other song.
            kind = _HOLDS_BASS if stem.holds_bass else stem.kind
            self._pool.setdefault((stem.name, kind), []).append(stem)
            songs.setdefault(stem.song, {})[stem.name] = stem
        for song in songs.values():
            kind = next(iter(song.values())).kind
            if kind not in _NO_SONGS:
                self._songs.setdefault(kind, []).append(song)
        return added

    def check(self) -> None:
        """Refuse a corpus that lacks a source.

        Raises:
            ValueError: one of the four targets has no stem that is long enough.
        """
        for name in STEMS:
            if not any(key[0] == name for key in self._pool):
                seconds = 1.3 * self.length / RATE
                raise ValueError(
                    f"expected at least one stem of {name} longer than {seconds:.1f} s, got none"
                )

    def __call__(self, seed: int, step: int) -> Draw:
        """The draw of a step, a function of the seed, the step and the stems."""
        rng = random.Random(f"{seed} {step}")  # thousands of single numbers: five times as fast as NumPy's
        n = self.batch_size
        swap = np.array([rng.random() < 0.5 for _ in range(n * len(STEMS))]).reshape(n, len(STEMS))
        draw = Draw({}, {}, np.zeros(n, np.float32), np.ones(n, bool), swap)
        for excerpt in range(n):
            self._excerpt(excerpt, draw, rng)
        return draw

    def _excerpt(self, excerpt: int, draw: Draw, rng: random.Random) -> None:
        together = self._one_song(rng) if rng.random() < _COHERENT else {}
        solo = rng.randrange(len(STEMS)) if rng.random() < 0.03 else None
        for source, name in enumerate(STEMS):
            if (solo is not None and solo != source) or rng.random() < _SILENT[name]:
                continue
            gain = 10 ** (rng.uniform(*_GAINS) / 20)
            first = together.get(name) or self._alone(name, rng)
            draw.first[excerpt, source] = _sound(*first, gain, rng)
            draw.bass_known[excerpt] &= not first[0].holds_bass
            room = sum(s == source for _, s in draw.second) < most_beneath(self.batch_size)
            if name not in together and room and rng.random() < _SECOND[name]:
                beneath = self._alone(name, rng)
                gain *= 10 ** (rng.uniform(-12, 0) / 20)
                draw.second[excerpt, source] = _sound(*beneath, gain, rng)._replace(drive=0.0)
                draw.bass_known[excerpt] &= not beneath[0].holds_bass
        draw.level[excerpt] = 10 ** (rng.uniform(*_LEVELS) / 20)

    def _one_song(self, rng: random.Random) -> dict[str, tuple[Stem, int, float]]:
        song = rng.choice(self._songs[rng.choice(sorted(self._songs))])
        start, speed = self._place(rng.choice(list(song.values())), rng), _speed(rng)
        return {name: (stem, self._within(stem, start), speed) for name, stem in song.items()}

    def _alone(self, name: str, rng: random.Random) -> tuple[Stem, int, float]:
        shares = {kind: share for kind, share in _SHARES[name].items() if (name, kind) in self._pool}
        shares = shares or {_HOLDS_BASS: 1.0}
        kind = rng.choices(list(shares), list(shares.values()))[0]
        stem = rng.choice(self._pool[name, kind])
        return stem, self._place(stem, rng), _speed(rng)

    def _place(self, stem: Stem, rng: random.Random) -> int:
        """A start, mostly such that half a second that sounds is heard."""
        if rng.random() < 0.9:
            block = int(rng.choice(stem.active))
            return self._within(stem, block * BLOCK - rng.randrange(self.length))
        return self._within(stem, rng.randrange(stem.audio.shape[1]))

    def _within(self, stem: Stem, start: int) -> int:
        """So that there is enough after it at the highest speed."""
        return max(min(start, stem.audio.shape[1] - int(1.3 * self.length)), 0)


def _sound(stem: Stem, start: int, speed: float, gain: float, rng: random.Random) -> Sound:
    drive = float(10 ** rng.uniform(-0.3, 1.0)) if rng.random() < _DRIVEN[stem.name] else 0.0
    return Sound(stem, start, speed, drive, np.float32(gain) * _wide(rng))


def _speed(rng: random.Random) -> float:
    """Half of all stems are played up to four semitones too slow or too fast."""
    if rng.random() < 0.5:
        return 1.0
    return 1.0 + SPEED_STEP * round((2 ** (rng.uniform(-4, 4) / 12) - 1.0) / SPEED_STEP)


def _wide(rng: random.Random) -> np.ndarray:
    """Another place between the loudspeakers, another width, another polarity."""
    width = rng.uniform(0.0, 1.3)
    sign, beside = rng.choice((-1.0, 1.0)), rng.random() < 0.5
    left, right = (sign * (rng.uniform(0.6, 1.0) if beside else 1.0) for _ in range(2))
    near, far = (1 + width) / 2, (1 - width) / 2
    return np.array([[left * near, left * far], [right * far, right * near]], np.float32)
