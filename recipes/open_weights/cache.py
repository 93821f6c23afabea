"""The corpus decoded once: 16-bit arrays on disk that are mapped, not read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from recipes.open_weights.corpus import STEMS, is_held_back
from recipes.open_weights.sources import RATE, read

__all__ = ["BLOCK", "Stem", "held_back", "open_corpus", "whole_song"]

BLOCK = 22_050  # samples over which a stem's activity is measured, half a second


class Stem(NamedTuple):
    """One stem of one song."""

    kind: str  # "recorded", "rendered", "guitar"
    song: str
    name: str  # one of STEMS
    audio: np.ndarray  # (2, time) int16, on disk
    active: np.ndarray  # (block,) which half seconds sound
    level: float  # RMS of those, full scale 1
    holds_bass: bool  # `other` of a song whose bass was never separated


def open_corpus(corpus: Path, cache: Path) -> list[Stem]:
    """Decode what is not in the cache yet, and map all of it.

    Args:
        corpus: folder that `build` wrote; songs may have been added since the last time.
        cache: folder for the arrays, 6 MB a stem of 35 s.

    Returns:
        The stems that sound at all, sorted by song.

    Raises:
        FileNotFoundError: the corpus holds no song.
    """
    notes = sorted(corpus.glob("*/song.json"))
    if not notes:
        raise FileNotFoundError(f"{corpus}: expected songs that recipes.open_weights.build wrote, found none")
    cache.mkdir(parents=True, exist_ok=True)
    found = [stem for note in tqdm(notes, desc="decoding", leave=False) for stem in _stems(note, cache)]
    return [stem for stem in found if stem.level > 0]


def _stems(note: Path, cache: Path) -> Iterator[Stem]:
    song = note.parent.name
    facts = json.loads(note.read_text())
    for name in facts["stems"]:
        array = cache / f"{song}_{name}.npy"
        if not array.exists():
            part = array.with_suffix(".part.npy")
            sound = read(note.parent / f"{name}.ogg")
            np.save(part, np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16))
            part.rename(array)
        audio = np.load(array, mmap_mode="r")
        blocks = audio[:, : audio.shape[1] // BLOCK * BLOCK : 5].reshape(2, -1, BLOCK // 5)
        power = (blocks.astype(np.float32) ** 2).mean(axis=(0, 2)) / 32768**2
        # Half seconds within 30 dB of the loud ones.
        active = (
            power > max(1e-3 * float(np.quantile(power, 0.95)), 1e-8) if power.size else np.zeros(0, bool)
        )
        level = float(np.sqrt(power[active].mean())) if active.any() else 0.0
        holds_bass = name == "other" and facts.get("bass_in_other", False)
        yield Stem(facts["kind"], song, name, audio, active, level, holds_bass)


def held_back(stems: list[Stem]) -> dict[str, list[Stem]]:
    """The songs that are for validation alone."""
    songs: dict[str, list[Stem]] = {}
    for stem in stems:
        if is_held_back(stem.song):
            songs.setdefault(stem.song, []).append(stem)
    return songs


def whole_song(stems: list[Stem], *, seconds: float) -> np.ndarray:
    """A song cut into excerpts: float32 (excerpt, source, 2, time); a stem that it lacks is silent."""
    length = round(seconds * RATE)
    count = min(stem.audio.shape[1] for stem in stems) // length
    out = np.zeros((count, len(STEMS), 2, length), np.float32)
    for stem in stems:
        sound = stem.audio[:, : count * length].reshape(2, count, length)
        out[:, STEMS.index(stem.name)] = sound.transpose(1, 0, 2).astype(np.float32) / 32768
    return out
