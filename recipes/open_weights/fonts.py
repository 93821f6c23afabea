"""Plays notes on soundfonts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.score import Note
from recipes.open_weights.sources import RATE

__all__ = ["play_font"]

_SYNTHS: dict[Path, object] = {}  # one a process and font: a font takes seconds to load


def play_font(
    font: Path, notes: Sequence[Note], *, seconds: float, program: int, bank: int = 0
) -> np.ndarray:
    """Play notes on one preset.

    Args:
        font: SF2 or SF3 file.
        notes: in any order.
        seconds: length of the result; what rings on is cut.
        program: number of the preset, 0-127.
        bank: 128 for drum kits.

    Returns:
        float32 (2, time).
    """
    synth = _synth(font)
    synth.sounds_off()
    synth.generate(RATE // 10)  # in which what sounded before dies away
    drums = bank == 128
    channel = 9 if drums else 0
    synth.program_select(channel, 0, bank, program, drums)
    events = [(round(note.start * RATE), 1, note) for note in notes]
    events += [(round((note.start + max(note.duration, 0.05)) * RATE), 0, note) for note in notes]
    length, now = round(seconds * RATE), 0
    blocks = []
    for time, on, note in sorted(events, key=lambda event: event[:2]):
        if min(time, length) > now:
            blocks.append(_generate(synth, min(time, length) - now))
            now = min(time, length)
        pitch = int(np.clip(round(note.pitch), 0, 127))
        if on:
            synth.noteon(channel, pitch, int(np.clip(20 + 107 * note.velocity, 1, 127)))
        else:
            synth.noteoff(channel, pitch)
    blocks.append(_generate(synth, length - now))
    return np.concatenate(blocks, axis=1)


def _generate(synth, length: int) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(length)), np.float32).reshape(-1, 2).T.copy()


def _synth(font: Path):
    if font not in _SYNTHS:
        import tinysoundfont

        synth = tinysoundfont.Synth(gain=-6, samplerate=RATE)
        synth.sfload(str(font))
        _SYNTHS[font] = synth
    return _SYNTHS[font]
