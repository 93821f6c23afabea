"""Where the excerpts come from: folders of stems, kept as 16-bit arrays on disk, mixed across songs.

A song is a folder with up to four files named after its stems. Batch number `step` is a pure function of
(seed, step), so that a run that was interrupted goes on with the very batches it would have seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from datasets.synthetic import STEMS, render

__all__ = ["Mixer", "Track", "load_group", "render_group", "song_excerpts"]

RATE = 44100
BLOCK = 22_000  # samples over which a stem's activity is measured, about half a second

# How often a stem comes from which kind of song. Real voices are worth most; few real drums and basses are at hand.
_SHARES = {
    "vocals": {"songs": 0.85, "synthetic": 0.15},
    "drums": {"songs": 0.35, "extra": 0.5, "synthetic": 0.15},
    "bass": {"songs": 0.25, "extra": 0.55, "synthetic": 0.2},
    "other": {"songs": 0.3, "extra": 0.45, "guitar": 0.15, "synthetic": 0.1},
}
_SILENCE = {"vocals": 0.12, "drums": 0.12, "bass": 0.12, "other": 0.08}
_COHERENT = 0.4  # share of excerpts whose stems come from one place of one song, where it has them


class Track(NamedTuple):
    """One stem of one song."""

    group: str  # a key of _SHARES
    song: str
    stem: str
    audio: np.ndarray  # (2, time) int16, on disk
    active: np.ndarray  # (block,) which half seconds sound
    level: float  # RMS of those, full scale 1
    holds_bass: bool  # `other` of a song whose bass was never separated


def load_group(folder: Path, cache: Path, *, group: str) -> list[Track]:
    """Decode every stem of every song below a folder, once; later runs map the arrays.

    Args:
        folder: holds one folder a song, with files such as ``drums.ogg`` or ``bass.flac``.
        cache: where the 16-bit arrays are kept.
        group: kind of song; in "songs", a missing bass means that `other` holds it.

    Returns:
        The tracks, sorted by song and stem.

    Raises:
        FileNotFoundError: no song has any stem.
    """
    tracks = []
    for song in sorted(path for path in folder.iterdir() if path.is_dir() and path.suffix != ".part"):
        files = {path.stem: path for path in sorted(song.iterdir()) if path.stem in STEMS}
        for stem, file in files.items():
            target = cache / f"{group}_{song.name}_{stem}.npy"
            if not target.exists():
                sound, rate = soundfile.read(file, dtype="float32", always_2d=True)
                sound = sound if rate == RATE else soxr.resample(sound, rate, RATE)
                _save(target, np.broadcast_to(sound.T[:2], (2, sound.shape[0])))
            holds_bass = group == "songs" and stem == "other" and "bass" not in files
            # A folder with nothing but `other` is a lone instrument, to be drawn for itself.
            kind = "guitar" if set(files) == {"other"} else group
            tracks.append(_track(kind, song.name, stem, target, holds_bass))
    if not tracks:
        raise FileNotFoundError(
            f"expected folders with {', '.join(STEMS)} as sound files in {folder}, found none"
        )
    return tracks


def render_group(count: int, seconds: float, cache: Path, *, seed: int = 1000) -> list[Track]:
    """Render synthetic songs into the cache, or find them there."""
    tracks = []
    for song in range(seed, seed + count):
        targets = {stem: cache / f"synthetic_{song}_{seconds:g}_{stem}.npy" for stem in STEMS}
        if not all(target.exists() for target in targets.values()):
            for stem, sound in render(song, seconds, RATE).items():
                _save(targets[stem], sound)
        tracks += [_track("synthetic", str(song), stem, target, False) for stem, target in targets.items()]
    return tracks


def _save(target: Path, sound: np.ndarray) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part.npy")
    np.save(part, np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16))
    part.rename(target)


def _track(group: str, song: str, stem: str, file: Path, holds_bass: bool) -> Track:
    audio = np.load(file, mmap_mode="r")
    blocks = audio[:, : audio.shape[1] // BLOCK * BLOCK : 4].reshape(2, -1, BLOCK // 4)
    power = (blocks.astype(np.float32) ** 2).mean(axis=(0, 2)) / 32768**2
    # Half seconds within 30 dB of the loud ones.
    active = power > max(1e-3 * float(np.quantile(power, 0.95)), 1e-8)
    level = float(np.sqrt(power[active].mean())) if active.any() else 0.0
    return Track(group, song, stem, audio, active, level, holds_bass)


class Mixer:
    """Draws batches of four stems and the weights of their losses."""

    def __init__(self, tracks: Sequence[Track], *, seed: int, batch_size: int, seconds: float):
        """Keep the tracks that sound at all; at least one track a stem is needed."""
        self.seed, self.batch_size, self.length = seed, batch_size, round(seconds * RATE)
        self.pool: dict[tuple[str, str], list[Track]] = {}
        self.songs: dict[tuple[str, str], dict[str, Track]] = {}
        for track in tracks:
            if track.level > 0 and track.audio.shape[1] > 1.3 * self.length:
                self.pool.setdefault((track.stem, track.group), []).append(track)
                if track.group != "guitar":
                    self.songs.setdefault((track.group, track.song), {})[track.stem] = track
        for stem in STEMS:
            if not any(key[0] == stem for key in self.pool):
                raise ValueError(
                    f"expected at least one track of {stem} longer than {1.3 * seconds:.1f} s, got none"
                )
        self.groups = sorted({group for group, _ in self.songs})

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Stems float32 (batch, source, 2, time) and weights float32 (batch, target) of one step."""
        rng = np.random.default_rng([self.seed, step])
        items = [self._item(rng) for _ in range(self.batch_size)]
        return np.stack([stems for stems, _ in items]), np.stack([weights for _, weights in items])

    def _item(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        anchor: dict[str, Track] = {}
        if rng.random() < _COHERENT:
            group = self.groups[rng.integers(len(self.groups))]
            songs = [tracks for (kind, _), tracks in self.songs.items() if kind == group]
            anchor = songs[rng.integers(len(songs))]
            lead = list(anchor.values())[rng.integers(len(anchor))]
            place, shared_speed = self._place(lead, rng), self._speed(rng)
        stems = np.zeros((len(STEMS), 2, self.length), np.float32)
        bass_known = True
        for index, stem in enumerate(STEMS):
            if rng.random() < _SILENCE[stem]:
                continue
            together = stem in anchor
            track = anchor[stem] if together else self._draw(stem, rng)
            speed = shared_speed if together else self._speed(rng)
            start = place if together else self._place(track, rng)
            gain = 0.1 / track.level * 10 ** (rng.uniform(-11, 6) / 20)
            stems[index] = np.float32(gain) * _widen(self._read(track, start, speed), rng)
            bass_known &= not track.holds_bass
        return self._level(stems, bass_known, rng)

    def _draw(self, stem: str, rng: np.random.Generator) -> Track:
        shares = {group: share for group, share in _SHARES[stem].items() if (stem, group) in self.pool}
        groups = list(shares) or [group for kind, group in self.pool if kind == stem]
        share = np.array([shares.get(group, 1.0) for group in groups])
        tracks = self.pool[stem, groups[rng.choice(len(groups), p=share / share.sum())]]
        return tracks[rng.integers(len(tracks))]

    def _place(self, track: Track, rng: np.random.Generator) -> int:
        """A start, mostly within a half second that sounds."""
        latest = track.audio.shape[1] - int(1.25 * self.length)
        if rng.random() < 0.9:
            block = int(rng.choice(np.flatnonzero(track.active)))
            return int(np.clip(block * BLOCK - rng.integers(self.length), 0, latest))
        return int(rng.integers(latest + 1))

    def _speed(self, rng: np.random.Generator) -> float:
        """Half of all stems are played up to three semitones too slow or too fast."""
        return float(2 ** (rng.uniform(-3, 3) / 12)) if rng.random() < 0.5 else 1.0

    def _read(self, track: Track, start: int, speed: float) -> np.ndarray:
        needed = int(np.ceil(self.length * speed)) + 64
        start = max(min(start, track.audio.shape[1] - needed), 0)
        sound = track.audio[:, start : start + needed].astype(np.float32) / 32768
        if speed != 1.0:
            sound = soxr.resample(sound.T, RATE * speed, RATE, quality="LQ").T
        return sound[:, : self.length]

    def _level(
        self, stems: np.ndarray, bass_known: bool, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Set the mixture's level, and weigh losses so that neither loud excerpts nor loud stems decide alone."""
        power = (stems**2).mean(axis=(1, 2), dtype=np.float64)
        mixture = float((stems.sum(axis=0) ** 2).mean(dtype=np.float64))
        if mixture < 1e-10:
            return np.zeros_like(stems), np.zeros(len(STEMS), np.float32)
        gain = 10 ** (rng.uniform(-30, -11) / 20) / np.sqrt(mixture)
        # Mean square of an STFT bin of a Hann window of 4096 samples is 1536 times that of a sample.
        weights = 1 / (1536 * gain**2 * np.sqrt(mixture * (power + 0.05 * mixture)))
        weights[STEMS.index("bass")] *= bass_known
        return stems * np.float32(gain), weights.astype(np.float32)


def _widen(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another place between the loudspeakers, another width, channels or polarity swapped."""
    if rng.random() < 0.5:
        sound = sound[::-1]
    mid, side = (sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2
    side = side * np.float32(rng.uniform(0.2, 1.3))
    left, right = rng.uniform(0.7, 1.0, 2) if rng.random() < 0.5 else (1.0, 1.0)
    sign = rng.choice([-1.0, 1.0])
    return np.stack([np.float32(sign * left) * (mid + side), np.float32(sign * right) * (mid - side)])


def song_excerpts(tracks: Sequence[Track], *, seconds: float) -> np.ndarray:
    """A whole song in excerpts, for validation: float32 (excerpt, source, 2, time); missing stems are silent."""
    length = round(seconds * RATE)
    count = min(track.audio.shape[1] for track in tracks) // length
    out = np.zeros((count, len(STEMS), 2, length), np.float32)
    for track in tracks:
        sound = track.audio[:, : count * length].reshape(2, count, length)
        out[:, STEMS.index(track.stem)] += sound.transpose(1, 0, 2).astype(np.float32) / 32768
    return out
