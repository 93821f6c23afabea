"""A voice that learnt from singing: phrases written down as MusicXML, and sung by Sinsy."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from xml.etree import ElementTree as ET

import numpy as np
import soxr

from datasets.score import Note
from recipes.open_weights.backing import moved
from recipes.open_weights.singing import sound_of
from recipes.open_weights.sources import RATE, choose
from recipes.open_weights.world import analyse

__all__ = ["music_xml", "sing_score", "sinsy_is_here"]

_UNITS = 64  # a second; a beat is a sixteenth at tempo 240, so that any length is a whole number of them
_SHORTEST = 8  # units of a note: the consonant and vowel of a faster one are swallowed
_BREATH = 4  # units between two notes that a singer ties together
_RANGE = (55, 76)  # MIDI numbers that the voice sings well
_MEAN = 65.0  # of a melody, in the middle of them
_TRIES = 3  # at words that the voice can sing
_STEPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_SYLLABLES = (
    *"あいうえおかきくけこがぎぐげごさしすせそざじずぜぞたちつてとだでどなにぬねのはひふへほばびぶべぼぱぴぷぺぽまみむめもやゆよらりるれろわん",
    *("きゃ", "きゅ", "きょ", "しゃ", "しゅ", "しょ", "ちゃ", "ちゅ", "ちょ"),
    *("にゃ", "ひょ", "みゃ", "りゃ", "りゅ", "りょ", "ふぁ", "ふぃ", "てぃ"),
)


def sinsy_is_here() -> bool:
    """Whether the synthesiser, with the voice in its package, and the vocoder are installed."""
    return find_spec("pysinsy") is not None and find_spec("pyworld") is not None


def sing_score(phrases: Sequence[Sequence[Note]], *, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Sing a melody; formants and register are drawn, so that one voice stands for many.

    Args:
        phrases: the melody, any register.
        seconds: length of the song.
        rng: draws the singer and the syllables.

    Returns:
        float32 (2, time): the voice in the middle, or doubled to both sides.
    """
    if rng.random() < 0.2:
        dry = _sung(_in_range(phrases), seconds, rng)
        return np.stack([dry, dry])
    formants = float(2 ** rng.uniform(-0.35, 0.3))
    shift = round(24 * np.log2(formants) + rng.normal(0, 2.0))  # semitones
    # Written that much the other way, so that in the end it is in the key of the song, if not in its octave.
    voice = analyse(_sung(_in_range(phrases, -shift), seconds, rng), RATE)
    takes = moved(voice, shift, formants, seconds, rng)
    level = np.float32(rng.uniform(0.3, 0.9)) if len(takes) > 1 else np.float32(0)
    return np.stack([takes[0] + level * takes[-1], level * takes[0] + takes[-1]])


def _in_range(phrases: Sequence[Sequence[Note]], up: int = 0) -> list[list[Note]]:
    """The melody, so many semitones up, where the voice has sung: beyond its range vowels lose their tone."""
    mean = up + float(np.mean([note.pitch for phrase in phrases for note in phrase]))
    up += 12 * round((_MEAN - mean) / 12)
    return [[note._replace(pitch=_folded(round(note.pitch) + up)) for note in phrase] for phrase in phrases]


def _folded(pitch: int) -> int:
    low, high = _RANGE
    return pitch + 12 * max(0, -((pitch - low) // 12)) - 12 * max(0, -((high - pitch) // 12))


def _sung(phrases: Sequence[Sequence[Note]], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The voice itself, float32 (time,), silent outside the phrases."""
    for _ in range(_TRIES):
        words = [[str(choose(rng, _SYLLABLES)) for _ in phrase] for phrase in phrases]
        sound = sound_of(_synthesised(music_xml(phrases, words)), seconds)
        if np.abs(sound).max() < 1.5:  # now and then its filter is unstable for a moment
            break
    return np.clip(sound, -1, 1) * _sung_places(phrases, sound.size)


def _synthesised(score: bytes) -> np.ndarray:
    """What Sinsy makes of a score, at `RATE`."""
    sinsy = _sinsy()
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        file.write(score)
        file.flush()
        try:
            sinsy.loadScoreFromMusicXML(file.name)
            sound, rate = sinsy.synthesize()
        finally:
            sinsy.clearScore()
    return soxr.resample(sound.astype(np.float32) / 32768, rate, RATE)


def _sung_places(phrases: Sequence[Sequence[Note]], length: int) -> np.ndarray:
    """1 where a phrase is sung, 0 in pauses, where the synthesiser hums."""
    gate = np.zeros(length, np.float32)
    for phrase in phrases:
        begin = max(0, int((phrase[0].start - 0.3) * RATE))
        gate[begin : int((phrase[-1].start + phrase[-1].duration + 0.15) * RATE)] = 1
    ramp = RATE // 50
    return np.convolve(gate, np.full(ramp, 1 / ramp, np.float32), "same") if length > ramp else gate


@cache
def _sinsy():
    import pysinsy

    sinsy = pysinsy.sinsy.Sinsy()
    if not (
        sinsy.setLanguages("j", pysinsy.get_default_dic_dir())
        and sinsy.loadVoices(pysinsy.get_default_htsvoice())
    ):
        raise RuntimeError("pysinsy: its dictionary or its voice cannot be read")
    return sinsy


# -- the score --


def music_xml(phrases: Sequence[Sequence[Note]], words: Sequence[Sequence[str]]) -> bytes:
    """A melody as MusicXML, each note and each pause a measure of its own length.

    Args:
        phrases: notes in order; what overlaps the next note is cut.
        words: a syllable in Japanese kana for each note.

    Returns:
        The document, in UTF-8. Times are rounded to 1/64 s.

    Example:
        >>> b"<octave>4</octave>" in music_xml([[Note(1.0, 0.5, 60, 0.8)]], [["ら"]])
        True
    """
    root = ET.Element("score-partwise", version="2.0")
    voice = ET.SubElement(ET.SubElement(root, "part-list"), "score-part", id="P1")
    ET.SubElement(voice, "part-name").text = "voice"
    part = ET.SubElement(root, "part", id="P1")
    for length, pitch, word in _timeline(phrases, words):
        measure = _measure(part, length)
        note = ET.SubElement(measure, "note")
        if pitch is None:
            ET.SubElement(note, "rest")
        else:
            _pitch(note, pitch)
        ET.SubElement(note, "duration").text = str(length)
        ET.SubElement(note, "voice").text = "1"
        if word:
            lyric = ET.SubElement(note, "lyric")
            ET.SubElement(lyric, "syllabic").text = "single"
            ET.SubElement(lyric, "text").text = word
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True)


def _timeline(
    phrases: Sequence[Sequence[Note]], words: Sequence[Sequence[str]]
) -> Iterator[tuple[int, int | None, str]]:
    """Lengths in units, with a pitch and a word or with none, without gaps from 0 to a second after the end."""
    notes = [pair for phrase in zip(phrases, words, strict=True) for pair in zip(*phrase, strict=True)]
    starts = [round(note.start * _UNITS) for note, _ in notes]
    now = 0
    for index, (note, word) in enumerate(notes):
        stop = round((note.start + note.duration) * _UNITS)
        if index + 1 < len(notes) and stop > starts[index + 1] - _BREATH:
            stop = starts[index + 1]
        begin = max(starts[index], now)
        if stop - begin < _SHORTEST:
            continue
        if begin > now or now == 0:  # a score begins with a rest
            yield max(begin - now, 1), None, ""
            begin = max(begin, now + 1)
        yield stop - begin, round(note.pitch), word
        now = stop
    yield _UNITS, None, ""


def _measure(part: ET.Element, length: int) -> ET.Element:
    measure = ET.SubElement(part, "measure", number=str(len(part) + 1))
    attributes = ET.SubElement(measure, "attributes")
    first = len(part) == 1
    if first:
        ET.SubElement(attributes, "divisions").text = "16"
        ET.SubElement(ET.SubElement(attributes, "key"), "fifths").text = "0"
    time = ET.SubElement(attributes, "time")
    ET.SubElement(time, "beats").text = str(length)
    ET.SubElement(time, "beat-type").text = "64"
    if first:
        clef = ET.SubElement(attributes, "clef")
        ET.SubElement(clef, "sign").text = "G"
        ET.SubElement(clef, "line").text = "2"
        ET.SubElement(ET.SubElement(measure, "direction"), "sound", tempo="240")
    return measure


def _pitch(note: ET.Element, number: int) -> None:
    pitch, step = ET.SubElement(note, "pitch"), _STEPS[number % 12]
    ET.SubElement(pitch, "step").text = step[0]
    if len(step) > 1:
        ET.SubElement(pitch, "alter").text = "1"
    ET.SubElement(pitch, "octave").text = str(number // 12 - 1)
