"""Composes songs as notes: tempo, key, chords, groove and melody, all drawn from one generator.

A song is a list of four-bar sections without an end; `compose` writes down as many bars as a duration needs.
Times are in seconds, pitches are MIDI numbers (60 = middle C, fractions allowed), velocities lie in 0-1.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["DRUM_NAMES", "Hit", "Note", "Score", "compose"]

DRUM_NAMES = ("kick", "snare", "hat", "open_hat", "ride", "crash", "tom_low", "tom_high", "clap")

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "dorian": (0, 2, 3, 5, 7, 9, 10)}
# Chord roots as scale degrees, one a bar.
_PROGRESSIONS = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 6, 5, 4), (1, 4, 0, 0), (0, 2, 3, 4), (0, 0, 3, 3),
)  # fmt: skip
# Sixteenth-note grids of one bar: probabilities in tenths that a drum is struck.
_GROOVES = {
    "rock": {"kick": "9000001090200010", "snare": "0000900100009001", "hat": "9090909090909090"},
    "disco": {
        "kick": "9000900090009000", "clap": "0000900000009000", "hat": "9292929292929292",
        "open_hat": "0080008000800080",
    },
    "funk": {
        "kick": "9020002019200010", "snare": "0000901301309012", "hat": "9393939393939393",
        "open_hat": "0000000000200030",
    },
    "half": {"kick": "9000000100300200", "snare": "0000000090000001", "hat": "9391939193919395"},
    "break": {"kick": "9090000000990000", "snare": "0000900901009009", "ride": "9090909090909090"},
    "ballad": {"kick": "9000000080000000", "snare": "0000900000009000", "ride": "9000900090009000"},
    "tribal": {
        "kick": "9000900090009000", "tom_low": "0030600300206020", "tom_high": "2003003022003033",
        "hat": "0090009000900090",
    },
}  # fmt: skip
_BASS_GRIDS = (
    "9090909090909090", "9000900090009000", "9002009002009020", "9009009009009000", "9900990099009900",
    "9000000090000030",
)  # fmt: skip
_CHORD_GRIDS = (
    "9000000000000000", "9000000090000000", "9009009000900090", "0090009000900090", "9090909090909090",
)  # fmt: skip


class Note(NamedTuple):
    """One pitched note."""

    start: float  # s
    duration: float  # s
    pitch: float  # MIDI number
    velocity: float  # 0-1


class Hit(NamedTuple):
    """One stroke on a drum."""

    start: float  # s
    drum: str  # one of DRUM_NAMES
    velocity: float  # 0-1


class Score(NamedTuple):
    """What every player of the band plays, in order of time."""

    tempo: float  # beats a minute
    drums: list[Hit]
    bass: list[Note]
    chords: list[Note]
    melody: list[Note]  # of an instrument, beside the chords
    vocals: list[list[Note]]  # phrases, each sung in one breath


def compose(rng: np.random.Generator, duration: float) -> Score:
    """Write a song down from the middle of it, `duration` seconds long.

    Args:
        rng: the source of every choice.
        duration: seconds, > 0.

    Returns:
        The notes of all players; none starts at or after `duration`.

    Example:
        >>> score = compose(np.random.default_rng(0), 8.0)
        >>> 60 < score.tempo < 180 and max(note.start for note in score.chords) < 8.0
        True
    """
    tempo = float(np.clip(rng.lognormal(np.log(108), 0.2), 66, 172))
    scale = _SCALES[str(rng.choice(list(_SCALES), p=(0.45, 0.4, 0.15)))]
    writer = _Writer(rng, tempo, scale, key=int(rng.integers(12)))
    bar = 240.0 / tempo
    # The song is joined at any sixteenth of a bar, so that training chunks don't all begin on a downbeat.
    start = -float(rng.integers(16)) * bar / 16
    score = Score(tempo, [], [], [], [], [])
    n_bars = int(np.ceil((duration - start) / bar))
    for index in range(n_bars):
        if index % 4 == 0:
            writer.new_section()
        writer.write_bar(score, start + index * bar, index % 4)

    def heard(notes: list) -> list:
        return sorted(note for note in notes if 0 <= note.start < duration)

    phrases = [heard(phrase) for phrase in score.vocals]
    return Score(tempo, *(heard(part) for part in score[1:5]), [phrase for phrase in phrases if phrase])


class _Writer:
    """The choices that hold for a song, those that hold for a section, and the pen."""

    def __init__(self, rng: np.random.Generator, tempo: float, scale: tuple[int, ...], key: int):
        self.rng = rng
        self.step = 15.0 / tempo  # s, a sixteenth
        self.scale = scale
        self.key = key
        self.swing = float(rng.choice([0.0, rng.uniform(0.1, 0.33)], p=(0.7, 0.3)))
        self.looseness = float(rng.uniform(0.0, 0.008))  # s
        self.tessitura = int(rng.integers(2, 9))  # where the voice feels well, in scale degrees above C3
        self.new_section()

    def new_section(self) -> None:
        """Draw what changes every four bars: who plays, over which chords, in which pattern."""
        rng = self.rng
        odds = {"drums": 0.9, "bass": 0.9, "chords": 0.95, "melody": 0.3, "vocals": 0.78}
        self.plays = {player: bool(rng.random() < chance) for player, chance in odds.items()}
        self.progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
        self.groove = _GROOVES[str(rng.choice(list(_GROOVES)))]
        self.bass_grid = _BASS_GRIDS[rng.integers(len(_BASS_GRIDS))]
        self.chord_grid = _CHORD_GRIDS[rng.integers(len(_CHORD_GRIDS))]
        self.walk = rng.random() < 0.4
        self.strum = float(
            rng.choice([0.0, rng.uniform(0.005, 0.03), self.step])
        )  # s between a chord's notes
        self.seventh = rng.random() < 0.35
        self.degree = self.tessitura

    def write_bar(self, score: Score, start: float, bar: int) -> None:
        """Add one bar of every player who is on."""
        root = self.progression[bar]
        if self.plays["drums"]:
            score.drums.extend(self._drums(start, bar))
        if self.plays["bass"]:
            score.bass.extend(self._bass(start, root))
        if self.plays["chords"]:
            score.chords.extend(self._chords(start, root))
        if self.plays["melody"]:
            score.melody.extend(self._line(start, root, density=0.45, low=7))
        if self.plays["vocals"]:
            score.vocals.append(self._line(start, root, density=0.38, low=0))

    def _time(self, start: float, step: float) -> float:
        swung = self.swing * self.step if int(step) % 2 else 0.0
        return float(start + step * self.step + swung + self.looseness * self.rng.normal())

    def _steps(self, grid: str) -> np.ndarray:
        chance = np.array([int(character) for character in grid]) / 9.0
        return np.flatnonzero(self.rng.random(16) < chance)

    def _pitch(self, degree: int, octave: int) -> float:
        octaves, step = divmod(degree, len(self.scale))
        return float(12 * (octave + octaves + 1) + self.key + self.scale[step])

    def _drums(self, start: float, bar: int) -> list[Hit]:
        rng = self.rng
        hits = []
        fill = bar == 3 and rng.random() < 0.6
        for drum, grid in self.groove.items():
            for step in self._steps(grid):
                if fill and step >= 8 and drum != "kick":
                    continue
                accent = (1.0, 0.55, 0.75, 0.55)[step % 4] if grid[step] > "4" else 0.35
                hits.append(Hit(self._time(start, step), drum, accent * float(rng.uniform(0.75, 1.0))))
        if fill:
            for step in 8 + np.flatnonzero(rng.random(8) < 0.75):
                drum = str(rng.choice(["snare", "tom_high", "tom_low"]))
                hits.append(Hit(self._time(start, step), drum, float(rng.uniform(0.5, 1.0))))
        if bar == 0 and rng.random() < 0.6:
            hits.append(Hit(self._time(start, 0), "crash", float(rng.uniform(0.6, 1.0))))
        return hits

    def _bass(self, start: float, root: int) -> list[Note]:
        rng = self.rng
        steps = self._steps(self.bass_grid)
        ends = np.append(steps, 16)[1:]
        gate = float(rng.uniform(0.55, 1.0))
        notes = []
        for step, end in zip(steps, ends, strict=True):
            degree = root + (int(rng.choice([0, 0, 4, 7, 2, -1])) if self.walk and step else 0)
            pitch = self._pitch(degree, 1)
            pitch += 12 if pitch < 28 else 0  # the lowest string of a bass is E1
            velocity = float(rng.uniform(0.65, 1.0))
            notes.append(Note(self._time(start, step), (end - step) * self.step * gate, pitch, velocity))
        return notes

    def _chords(self, start: float, root: int) -> list[Note]:
        rng = self.rng
        degrees = [root, root + 2, root + 4] + ([root + 6] if self.seventh else [])
        pitches = sorted(
            self._pitch(degree, 3) - (12 if self._pitch(degree, 3) > 67 else 0) for degree in degrees
        )
        steps = self._steps(self.chord_grid)
        ends = np.append(steps, 16)[1:]
        notes = []
        for step, end in zip(steps, ends, strict=True):
            time, length = self._time(start, step), (end - step) * self.step * 0.95
            velocity = float(rng.uniform(0.6, 1.0))
            for index, pitch in enumerate(pitches):
                delay = index * self.strum
                if delay < 0.8 * length:
                    notes.append(Note(time + delay, length - delay, pitch, velocity))
        return notes

    def _line(self, start: float, root: int, *, density: float, low: int) -> list[Note]:
        """A melody of mostly small steps that comes home to the chord on the long notes."""
        rng = self.rng
        steps = np.flatnonzero(rng.random(15) < np.where(np.arange(15) % 2, 0.4 * density, 1.3 * density))
        ends = np.append(steps, 16)[1:]
        notes = []
        for step, end in zip(steps, ends, strict=True):
            self.degree += int(rng.choice([-2, -1, -1, 0, 1, 1, 2, 3]))
            if end - step >= 4:
                self.degree = root + 7 * round((self.degree - root) / 7) + int(rng.choice([0, 2, 4]))
            self.degree = int(np.clip(self.degree, self.tessitura - 5, self.tessitura + 6))
            length = min((end - step) * self.step, float(rng.uniform(0.9, 2.4)))
            notes.append(
                Note(
                    self._time(start, step),
                    length,
                    self._pitch(self.degree + low, 3),
                    float(rng.uniform(0.6, 1.0)),
                )
            )
        return notes
