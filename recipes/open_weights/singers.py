"""Singers, another one every few seconds and drawn far wider than any record: of numbers, or out of speech.

What a net takes for a voice is how it moves, not whose it is, if it has heard it move in every throat, through every
effect and down every hall.
"""

from collections.abc import Callable

import numpy as np

from datasets import voice
from datasets.score import Note
from datasets.sound import add_at, band_pass, reverberate, shape_spectrum
from recipes.open_weights.bass_synths import bend
from recipes.open_weights.produce import draw_medium, normalise, produce
from recipes.open_weights.singing import Singer, draw_singer, take
from recipes.open_weights.sources import RATE, choose, log_uniform, speakers
from recipes.open_weights.syllables import draw_syllables

__all__ = ["draw_phrases", "render_singers"]

_SCALES = ((0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11), (0, 3, 5, 7, 10), (0, 2, 4, 7, 9))
_CLIPS = 4  # spoken clips that a singer takes syllables from


def render_singers(seed: int, index: int, seconds: float) -> tuple[dict[str, np.ndarray], float]:
    """Singers one after the other, as the vocals of a song that has no more.

    Args:
        seed: of the corpus.
        index: of the song.
        seconds: its length.

    Returns:
        The stem float32 (2, time), and how strongly to compress it on disk.
    """
    rng = np.random.default_rng([seed, index, 2])
    medium, parts = draw_medium(rng), []
    while sum(part.shape[1] for part in parts) < round(seconds * RATE):
        length = float(rng.uniform(5, 11))
        dry = _processed(_sung(draw_phrases(rng, length), length, rng), rng)
        parts.append(produce("vocals", dry, medium, rng))
    return {"vocals": np.concatenate(parts, axis=1)[:, : round(seconds * RATE)]}, medium.compression


def draw_phrases(rng: np.random.Generator, seconds: float) -> list[list[Note]]:
    """A melody about MIDI number 60, a breath a phrase: words in a hurry, tones held for seconds, or both."""
    scale = _SCALES[int(rng.integers(len(_SCALES)))]
    root, shortest = float(rng.uniform(-6, 6)), log_uniform(rng, 0.1, 0.8)
    spread, place = float(rng.uniform(0.2, 1.3)), int(rng.integers(-2, 3))
    phrases, start = [], float(rng.uniform(0.2, 0.8))
    while start < seconds - 0.5:
        phrase = []
        for _ in range(int(rng.integers(1, 9))):
            length = min(shortest * float(np.exp(abs(rng.normal(0, spread)))), 4.0)
            octave, degree = divmod(place, len(scale))
            if start + length > seconds:
                break
            phrase.append(
                Note(start, length, 60 + root + 12 * octave + scale[degree], float(rng.uniform(0.5, 1)))
            )
            start += length
            place = int(np.clip(place + round(rng.normal(0, 1.6)), -6, 6))
        if phrase:
            phrases.append(phrase)
        start += float(rng.choice([0.15, 0.4, 1.0])) * float(rng.uniform(0.7, 1.5))
    return phrases


def _sung(phrases: list[list[Note]], seconds: float, rng: np.random.Generator) -> np.ndarray:
    """By one singer, or by two or three with the same throat, float32 (2, time)."""
    out = np.zeros((2, round(seconds * RATE)), np.float32)
    if not phrases:
        return out
    sing = _draw_singer(seconds, rng)
    for n in range(int(rng.choice([1, 2, 3], p=[0.65, 0.2, 0.15]))):
        apart = 0.0 if n == 0 else float(rng.choice([0, 0, 3, 4, 7, 12, -12])) + float(rng.normal(0, 0.1))
        late = abs(float(rng.normal(0, 0.02))) * (n > 0)
        line = [
            [note._replace(pitch=note.pitch + apart, start=note.start + late) for note in p] for p in phrases
        ]
        angle = np.pi / 4 if n == 0 else np.pi / 2 * float(rng.random())
        level = 1.0 if n == 0 else 10 ** float(rng.uniform(-0.6, 0))
        out += np.float32(level) * np.outer([np.cos(angle), np.sin(angle)], sing(line, n)).astype(np.float32)
    return out


def _draw_singer(seconds: float, rng: np.random.Generator) -> Callable[[list[list[Note]], int], np.ndarray]:
    """Somebody who sings phrases, take by take: float32 (time,)."""
    syllables, speaker = [], None
    if speakers() and rng.random() < 0.5:
        name, clips = choose(rng, list(speakers().items()))
        syllables = draw_syllables(clips, _CLIPS, rng)
        speaker = _widened(draw_singer("_m_" in name, rng), rng)
    throat, words = _draw_throat(rng), int(rng.integers(2**31))
    if speaker and syllables:
        return lambda phrases, number: take(speaker, syllables, phrases, seconds, words)

    def sing(phrases: list[list[Note]], number: int) -> np.ndarray:
        sound = np.zeros(round(seconds * RATE), np.float32)
        for phrase in phrases:
            sung = voice.sing(throat, phrase, sample_rate=RATE, rng=np.random.default_rng([words, number]))
            add_at(sound, sung, phrase[0].start - 0.15, RATE)
        return sound

    return sing


def _widened(singer: Singer, rng: np.random.Generator) -> Singer:
    """The same speaker with another throat, who glides further, shakes more, or does neither, as a corrected voice."""
    formants = singer.formants * 2 ** float(rng.uniform(-0.3, 0.3))
    corrected = rng.random() < 0.2
    return singer._replace(
        formants=formants,
        mean_pitch=singer.mean_pitch + float(rng.normal(0, 4)),
        vibrato=0.05 if corrected else float(rng.choice([0.05, rng.uniform(0.1, 1.2)])),
        portamento=0.01 if corrected else log_uniform(rng, 0.02, 0.35),
        drift=0.06 if corrected else float(rng.uniform(0.05, 0.6)),
        tilt=float(rng.uniform(-5, 4)),
        edge=float(rng.uniform(0, 14)),
        melisma=float(rng.uniform(0, 1)),
    )


def _draw_throat(rng: np.random.Generator) -> voice.Singer:
    tract = float(rng.uniform(0.75, 1.4))
    return voice.Singer(
        tract=tract,
        transpose=24 * np.log2(tract) - 2 + float(rng.normal(0, 5)),
        breath=float(10 ** rng.uniform(-2, -0.5)),
        effort=float(rng.uniform(-2, 7)),
        vibrato=float(rng.choice([0.05, rng.uniform(0.1, 1.2)])),
        vibrato_rate=float(rng.uniform(4, 7)),
        portamento=log_uniform(rng, 0.02, 0.35),
        clarity=float(rng.uniform(0.2, 1.6)),
    )


def _processed(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Effects that a voice may have: an amplifier, a telephone, a chorus, an echo, a hall."""
    sound = normalise(sound)
    if rng.random() < 0.25:
        sound = bend(3 * sound, 10 ** float(rng.uniform(0, 1.3)), rng)
    if rng.random() < 0.12:
        sound = shape_spectrum(sound, band_pass(rng.uniform(150, 600), rng.uniform(2200, 5000)), RATE)
    if rng.random() < 0.3:
        time = np.arange(sound.shape[1])
        for side in sound:
            swing = np.sin(2 * np.pi * (rng.uniform(0.1, 1.5) * time / RATE + rng.random()))
            at = time - RATE * (rng.uniform(0.008, 0.03) + rng.uniform(0.0005, 0.004) * swing)
            side += np.float32(rng.uniform(0.3, 1)) * np.interp(at, time, side, left=0).astype(np.float32)
    if rng.random() < 0.3:
        delay, kept = round(rng.uniform(0.12, 0.6) * RATE), float(rng.uniform(0.15, 0.6))
        echo = shape_spectrum(sound, band_pass(150, rng.uniform(1500, 8000)), RATE)
        for n in range(1, 5):
            sound[:, n * delay :] += np.float32(kept**n) * echo[:, : max(echo.shape[1] - n * delay, 0)]
    if rng.random() < 0.5:
        sound = reverberate(sound, rng, float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.6, 4.5)), RATE)
    return sound
