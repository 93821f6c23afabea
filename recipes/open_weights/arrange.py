"""Notes of whole bands: from grooves of MMA where it is installed, else from `datasets.score`."""

import re
import subprocess
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.score import Hit, Note, compose
from recipes.open_weights.sources import choose

__all__ = ["Band", "Layer", "arrange"]

# General MIDI keys of drums. Those not named are percussion.
_KEYS = {
    35: "kick", 36: "kick", 37: "clap", 38: "snare", 39: "clap", 40: "snare", 41: "tom_low", 42: "hat", 43: "tom_low",
    44: "hat", 45: "tom_low", 46: "open_hat", 47: "tom_high", 48: "tom_high", 49: "crash", 50: "tom_high", 51: "ride",
    52: "crash", 53: "ride", 55: "crash", 57: "crash", 59: "ride",
}  # fmt: skip
_DRUM_KEYS = {
    "kick": (35, 36), "snare": (38, 40), "hat": (42, 44), "open_hat": (46,), "ride": (51, 59, 53),
    "crash": (49, 57, 55), "tom_low": (41, 43, 45), "tom_high": (47, 48, 50), "clap": (39, 37), "perc": (54, 56, 70),
}  # fmt: skip
# Chord roots in semitones with their kinds, one a bar; "m" minor.
_CHANGES = (
    "0 7 9m 5", "0 9m 5 7", "9m 5 0 7", "0 5 7 5", "0m 10 8 7", "0m 3 10 5", "2m7 7 0M7 0M7", "0m 8 3 10", "0 0 5 0",
    "0m 0m 5m 0m", "5 7 4m 9m", "0 4m 5 5m", "0m7 5 0m7 5", "0 10 5 0", "9m 7 5 4", "0m 5m 8 7",
)  # fmt: skip
_NAMES = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"]
_LIBRARY = Path("/usr/share/mma/lib")


class Layer(NamedTuple):
    """What one player of the band plays, and the General MIDI program that was meant for it."""

    notes: list[Note]
    program: int | None


class Band(NamedTuple):
    """A song as notes."""

    drums: list[tuple[Hit, int]]  # with the General MIDI key
    bass: Layer
    other: list[Layer]
    vocals: list[list[Note]]  # phrases


def arrange(rng: np.random.Generator, seconds: float) -> Band:
    """Draw a song of some seconds; two of three by MMA where it is installed."""
    grooves = _grooves()
    if grooves and rng.random() < 0.65:
        band = _by_mma(rng, seconds, str(choose(rng, grooves)))
        if band is not None:
            return band
    return _by_score(rng, seconds)


def _by_score(rng: np.random.Generator, seconds: float) -> Band:
    score = compose(rng, seconds)
    keys = {drum: int(rng.choice(options)) for drum, options in _DRUM_KEYS.items()}
    layers = [Layer(score.chords, None), Layer(score.melody, None)]
    if rng.random() < 0.5:
        layers.append(Layer(score.chords, None))
    drums = [(hit, keys[hit.drum]) for hit in score.drums]
    return Band(drums, Layer(score.bass, None), [layer for layer in layers if layer.notes], score.vocals)


@cache
def _grooves() -> tuple[str, ...]:
    if not _LIBRARY.exists():
        return ()
    names = []
    for file in sorted(_LIBRARY.rglob("*.mma")):
        if file.stem.startswith(("metronome", "none")):
            continue
        text = file.read_text(errors="replace")
        names += re.findall(r"^\s*DefGroove\s+(\S+)", text, flags=re.MULTILINE | re.IGNORECASE)
    return tuple(names)


def _by_mma(rng: np.random.Generator, seconds: float, groove: str) -> Band | None:
    """Chords of our own in one of MMA's grooves; None where it refuses (grooves of other lengths, tunings)."""
    tempo = float(np.clip(rng.lognormal(np.log(112), 0.2), 70, 175))
    key = int(rng.integers(12))
    changes = str(choose(rng, _CHANGES)).split()
    bars = int(np.ceil(seconds * tempo / 240)) + 2
    chords = [re.sub(r"^\d+", lambda m: _NAMES[(int(m[0]) + key) % 12], changes[n % 4]) for n in range(bars)]
    text = f"Tempo {tempo:.0f}\nGroove {groove}\n" + "".join(f"{n + 1} {c}\n" for n, c in enumerate(chords))
    text = f"RndSeed {zlib.crc32(text.encode())}\n{text}"  # or its drummers play as they like each time
    with tempfile.TemporaryDirectory() as folder:
        chart, midi = Path(folder) / "song.mma", Path(folder) / "song.mid"
        chart.write_text(text)
        made = subprocess.run(["mma", "-w", "-f", str(midi), str(chart)], capture_output=True, cwd=folder)
        if made.returncode or not midi.exists():
            return None
        tracks = _read_midi(midi, seconds)
    drums, bass, bass_program, other = [], [], None, []
    for name, channel, program, notes in tracks:
        if channel == 9:
            named = [(Hit(n.start, _KEYS.get(int(n.pitch), "perc"), n.velocity), int(n.pitch)) for n in notes]
            drums += named
        elif name.startswith(("bass", "walk")):
            bass, bass_program = bass + notes, program
        elif notes:
            other.append(Layer(notes, program))
    if not drums or not bass:
        return None
    sung = compose(rng, seconds).vocals
    return Band(sorted(drums), Layer(sorted(bass), bass_program), other, sung)


def _read_midi(file: Path, seconds: float) -> list[tuple[str, int, int, list[Note]]]:
    """Tracks as (name, channel, program, notes)."""
    import mido

    song = mido.MidiFile(file, clip=True)
    tempo = next((m.tempo for m in song.tracks[0] if m.type == "set_tempo"), 500_000)
    tick = tempo * 1e-6 / song.ticks_per_beat
    found = []
    for track in song.tracks[1:]:
        now, channel, program = 0, 0, 0
        sounding: dict[int, list[tuple[float, int]]] = {}
        notes: list[Note] = []
        for message in track:
            now += message.time
            if message.type == "program_change":
                program = message.program
            if message.type not in ("note_on", "note_off"):
                continue
            channel, time = message.channel, now * tick
            if message.type == "note_on" and message.velocity:
                sounding.setdefault(message.note, []).append((time, message.velocity))
            elif sounding.get(message.note):
                start, velocity = sounding[message.note].pop(0)
                if start < seconds:
                    notes.append(Note(start, time - start, float(message.note), velocity / 127))
        found.append((track.name.lower(), channel, program, sorted(notes)))
    return found
