"""Draws batches of excerpts from the corpus: a `jaxsep.batches.BatchFunction`.

Stems of one place of one song, or each from its own; silent ones; levels over a wide range; other tempos and pitches;
other places between the loudspeakers. Batch number ``step`` is a function of the seed, the step and the corpus.
"""

from collections.abc import Sequence

import numpy as np
import soxr

from jaxsep.batches import Batch
from recipes.open_weights.cache import BLOCK, Stem
from recipes.open_weights.corpus import STEMS
from recipes.open_weights.sources import RATE, choose

__all__ = ["Mixer"]

# How often a stem comes from which kind of song.
_SHARES = {
    "vocals": {"recorded": 0.5, "rendered": 0.5},
    "drums": {"recorded": 0.2, "rendered": 0.8},
    "bass": {"recorded": 0.15, "rendered": 0.85},
    "other": {"recorded": 0.1, "rendered": 0.7, "guitar": 0.2},
}
_HOLDS_BASS = "holds bass"  # a kind of its own, of which nothing is drawn as long as there are others
_COHERENT = 0.4  # share of excerpts whose stems come from one place of one song
_SILENT = {"vocals": 0.14, "drums": 0.1, "bass": 0.12, "other": 0.08}
_SECOND = {"vocals": 0.15, "drums": 0.08, "bass": 0.0, "other": 0.25}  # another of its kind beneath it
_DRIVEN = {"vocals": 0.05, "drums": 0.08, "bass": 0.35, "other": 0.12}  # bent, so that it has other overtones
_GAINS = (-10.0, 6.0)  # dB, of a stem against the others
_LEVELS = (-32.0, -11.0)  # dB, RMS of a mixture


class Mixer:
    """Draws batches; call it with ``(seed, step)``.

    Args:
        stems: of the corpus, none of them held back.
        batch_size: excerpts.
        seconds: length of one.

    Raises:
        ValueError: one of the four targets has no stem that is long enough.
    """

    def __init__(self, stems: Sequence[Stem], *, batch_size: int, seconds: float):
        self.batch_size, self.length = batch_size, round(seconds * RATE)
        self.pool: dict[tuple[str, str], list[Stem]] = {}
        self.songs: dict[str, dict[str, dict[str, Stem]]] = {}
        for stem in stems:
            if stem.audio.shape[1] > 1.3 * self.length:
                # A bass that was never separated is heard where its song is, and added to no other song.
                kind = _HOLDS_BASS if stem.holds_bass else stem.kind
                self.pool.setdefault((stem.name, kind), []).append(stem)
                if stem.kind != "guitar":
                    self.songs.setdefault(stem.kind, {}).setdefault(stem.song, {})[stem.name] = stem
        for name in STEMS:
            if not any(key[0] == name for key in self.pool):
                raise ValueError(
                    f"expected at least one stem of {name} longer than {1.3 * seconds:.1f} s, got none"
                )

    def __call__(self, seed: int, step: int) -> Batch:
        """The batch of a step; its sources are in the order of `corpus.STEMS`."""
        rng = np.random.default_rng([seed, step])
        items = [self._item(rng) for _ in range(self.batch_size)]
        stems, gain, weight = (np.stack(part) for part in zip(*items, strict=True))
        swap = rng.random((self.batch_size, len(STEMS))) < 0.5
        origin = np.broadcast_to(np.arange(self.batch_size, dtype=np.int32)[:, None], swap.shape)
        return Batch(stems, gain, swap, origin.copy(), weight)

    def _item(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stems int16 (source, 2, time), their gains and the weights of their losses."""
        sounds = np.zeros((len(STEMS), 2, self.length), np.float32)
        bass_known = True
        together = self._one_song(rng) if rng.random() < _COHERENT else {}
        solo = int(rng.integers(len(STEMS))) if rng.random() < 0.03 else None
        for index, name in enumerate(STEMS):
            if (solo is not None and solo != index) or rng.random() < _SILENT[name]:
                continue
            stem, start, speed = together.get(name) or self._alone(name, rng)
            sound = self._read(stem, start, speed) / np.float32(stem.level)
            if rng.random() < _DRIVEN[name]:
                sound = _drive(sound, rng)
            bass_known &= not stem.holds_bass
            if name not in together and rng.random() < _SECOND[name]:
                below, start, speed = self._alone(name, rng)
                level = np.float32(10 ** (rng.uniform(-12, 0) / 20) / below.level)
                sound = sound + level * _widen(self._read(below, start, speed), rng)
                bass_known &= not below.holds_bass
            sounds[index] = np.float32(10 ** (rng.uniform(*_GAINS) / 20)) * _widen(sound, rng)
        return self._level(sounds, bass_known, rng)

    def _one_song(self, rng: np.random.Generator) -> dict[str, tuple[Stem, int, float]]:
        kind = choose(rng, sorted(self.songs))
        song = choose(rng, list(self.songs[kind].values()))
        start, speed = self._place(choose(rng, list(song.values())), rng), _speed(rng)
        return {name: (stem, start, speed) for name, stem in song.items()}

    def _alone(self, name: str, rng: np.random.Generator) -> tuple[Stem, int, float]:
        shares = {kind: share for kind, share in _SHARES[name].items() if (name, kind) in self.pool}
        shares = shares or {_HOLDS_BASS: 1.0}
        share = np.array(list(shares.values()))
        kind = list(shares)[rng.choice(len(shares), p=share / share.sum())]
        stem = choose(rng, self.pool[name, kind])
        return stem, self._place(stem, rng), _speed(rng)

    def _place(self, stem: Stem, rng: np.random.Generator) -> int:
        """A start, mostly such that half a second that sounds is heard."""
        latest = stem.audio.shape[1] - int(1.25 * self.length)
        if rng.random() < 0.9:
            block = int(rng.choice(np.flatnonzero(stem.active)))
            return int(np.clip(block * BLOCK - rng.integers(self.length), 0, latest))
        return int(rng.integers(latest + 1))

    def _read(self, stem: Stem, start: int, speed: float) -> np.ndarray:
        needed = int(np.ceil(self.length * speed)) + 64
        start = max(min(start, stem.audio.shape[1] - needed), 0)
        sound = stem.audio[:, start : start + needed].astype(np.float32) / 32768
        if speed != 1.0:
            sound = soxr.resample(sound.T, RATE * speed, RATE, quality="LQ").T
        return sound[:, : self.length]

    def _level(
        self, sounds: np.ndarray, bass_known: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Set the mixture's level, and weigh losses so that neither loud excerpts nor loud stems decide alone."""
        power = np.einsum("sct,sct->s", sounds, sounds, dtype=np.float64) / (2 * self.length)
        mixture = float((sounds.sum(axis=0) ** 2).mean(dtype=np.float64))
        if mixture < 1e-10:
            zeros = np.zeros(len(STEMS), np.float32)
            return sounds.astype(np.int16), zeros, zeros
        gain = 10 ** (rng.uniform(*_LEVELS) / 20) / np.sqrt(mixture)
        # The mean square of an STFT bin of a Hann window of 4096 samples is 1536 times that of a sample.
        weight = 1 / (1536 * gain**2 * np.sqrt(mixture * (power + 0.05 * mixture)))
        weight[[STEMS.index("bass"), STEMS.index("other")]] *= bass_known
        peak = np.maximum(np.abs(sounds).max(axis=(1, 2)), 1e-9)
        stored = np.round(sounds * (32767 / peak)[:, None, None]).astype(np.int16)
        return stored, (gain * peak * 32768 / 32767).astype(np.float32), weight.astype(np.float32)


def _speed(rng: np.random.Generator) -> float:
    """Half of all stems are played up to four semitones too slow or too fast."""
    return float(2 ** (rng.uniform(-4, 4) / 12)) if rng.random() < 0.5 else 1.0


def _drive(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a stage that bends, from warm to fuzzy, as loud as before."""
    power = float((sound**2).mean())
    driven = np.tanh(np.float32(10 ** rng.uniform(-0.3, 1.0)) * sound)
    return driven * np.float32(np.sqrt(power / max(float((driven**2).mean()), 1e-12)))


def _widen(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another place between the loudspeakers, another width, another polarity."""
    mid, side = (sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2
    side = side * np.float32(rng.uniform(0.0, 1.3))
    left, right = rng.uniform(0.6, 1.0, 2) if rng.random() < 0.5 else (1.0, 1.0)
    sign = rng.choice([-1.0, 1.0])
    return np.stack([np.float32(sign * left) * (mid + side), np.float32(sign * right) * (mid - side)])
