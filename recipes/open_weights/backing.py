"""What is heard beside a sung lead, or instead of it: doubles, choirs, and words that are only spoken."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.score import Note
from recipes.open_weights.singing import Singer, draw_singer, drift, sound_of, take
from recipes.open_weights.sources import RATE, choose
from recipes.open_weights.syllables import Syllable, cut, spoken
from recipes.open_weights.world import PERIOD, Voice, resynthesise

__all__ = ["choir", "doubles", "moved", "rapped"]


def doubles(
    singer: Singer,
    syllables: list[Syllable],
    phrases: Sequence[Sequence[Note]],
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """The same words again, or a harmony, to both sides."""
    words = rng.integers(2**31)
    interval = float(rng.choice([0, 0, 3, 4, -5, 7, 12, -12]))
    level = np.float32(10 ** (rng.uniform(-12, -2) / 20))
    sides = []
    for _ in range(2):
        above = [
            [n._replace(pitch=n.pitch + interval, start=n.start + abs(rng.normal(0, 0.015))) for n in p]
            for p in phrases
        ]
        sides.append(level * take(singer, syllables, above, seconds, words))
    return np.stack(sides)


def moved(
    voice: Voice, semitones: float, formants: float, seconds: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """A voice at another pitch and with other formants: one take, or a second a little later and out of tune."""
    takes = []
    for double in range(2 if rng.random() < 0.3 else 1):
        wander = drift(len(voice.f0), 0.15, rng) * double
        sung = resynthesise(voice, voice.f0 * 2 ** ((semitones + wander) / 12), formants=formants)
        takes.append(np.roll(sound_of(sung, seconds), int(double * rng.uniform(0.005, 0.03) * RATE)))
    return takes


def choir(
    talkers: dict[str, list[Path]],
    phrases: Sequence[Sequence[Note]],
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Three to five singers hold one vowel each through some of the phrases, spread between the sides."""
    out = np.zeros((2, round(seconds * RATE)), np.float32)
    dark = rng.random() < 0.5  # "ooh", else "aah"
    some = [phrase for phrase in phrases if rng.random() < 0.6] or phrases[:1]
    names = list(talkers)
    count = int(rng.integers(3, 6))
    level = 10 ** (rng.uniform(-14, -5) / 20) / np.sqrt(count)
    for n, interval in enumerate(rng.permutation([0, 3, 7, 12, -5])[:count]):
        name = choose(rng, names)
        vowel = _vowel(talkers[name], rng)
        if vowel is None:
            continue
        singer = draw_singer("_m_" in name, rng)._replace(rough=0.0, whisper=0.0, gasp=-60.0, edge=0.0)
        singer = singer._replace(tilt=float(rng.uniform(-7, -4))) if dark else singer
        chords = [_held(phrase, float(interval), abs(float(rng.normal(0, 0.03))), seconds) for phrase in some]
        sound = take(singer, [vowel], chords, seconds, rng.integers(2**31))
        angle = np.pi / 2 * (n + rng.uniform(0.2, 0.8)) / count
        out += np.float32(level) * np.stack([np.cos(angle) * sound, np.sin(angle) * sound]).astype(np.float32)
    return out


def _held(phrase: Sequence[Note], interval: float, late: float, seconds: float) -> list[Note]:
    """A phrase as one long note, or two where it goes on for long."""
    begin, end = phrase[0].start + late, min(phrase[-1].start + phrase[-1].duration, seconds)
    middle = phrase[len(phrase) // 2]
    if end - begin < 2.5 or not begin < middle.start < end:
        return [phrase[0]._replace(start=begin, duration=end - begin, pitch=phrase[0].pitch + interval)]
    return [
        phrase[0]._replace(start=begin, duration=middle.start - begin, pitch=phrase[0].pitch + interval),
        middle._replace(duration=end - middle.start, pitch=middle.pitch + interval),
    ]


def _vowel(clips: list[Path], rng: np.random.Generator) -> Syllable | None:
    """The longest vowel of a clip, without its consonant."""
    for n in rng.permutation(len(clips))[:3]:
        voice = spoken(clips[n])
        found = cut(voice) if voice else []
        if found:
            best = max(found, key=lambda s: len(s.voice.f0) - s.consonant)
            frames = np.arange(best.consonant, len(best.voice.f0))
            return Syllable(best.voice.take(frames), 0, best.level)
    return None


def rapped(
    talker: tuple[str, list[Path]],
    phrases: Sequence[Sequence[Note]],
    seconds: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Speech as it is, its pitch and formants moved, phrase by phrase with short gaps; float32 (time,)."""
    name, clips = talker
    singer = draw_singer("_m_" in name, rng)
    voices = [v for v in (spoken(clips[n]) for n in rng.permutation(len(clips))[:7]) if v]
    if not voices:
        return np.zeros(round(seconds * RATE), np.float32)
    n_frames = int(seconds / PERIOD)
    bins = voices[0].envelope.shape[1]
    whole = Voice(
        np.zeros(n_frames),
        np.full((n_frames, bins), -30, np.float32),
        np.ones((n_frames, bins), np.float32),
        8000.0,
    )
    for index, phrase in enumerate(phrases):
        at = round(phrase[0].start / PERIOD)
        stop = phrase[-1].start + phrase[-1].duration
        if index + 1 < len(phrases):  # words go on nearly to the next phrase
            stop = max(stop, phrases[index + 1][0].start - rng.uniform(0.1, 0.6))
        _speak(whole, voices, at, min(round(stop / PERIOD), n_frames), rng)
    shift = 12 * np.log2(singer.formants) + rng.normal(0, 2)
    lively = rng.uniform(0.6, 1.6)
    mean = np.median(whole.f0[whole.f0 > 0]) if (whole.f0 > 0).any() else 1.0
    with np.errstate(divide="ignore"):
        f0 = np.where(whole.f0 > 0, mean * (whole.f0 / mean) ** lively * 2 ** (shift / 12), 0.0)
    f0 = np.clip(f0, 0, 700) * 2 ** (drift(n_frames, 0.2, rng) / 12)
    return sound_of(resynthesise(whole, f0, formants=singer.formants, fall=singer.fall), seconds)


def _speak(whole: Voice, voices: list[Voice], at: int, stop: int, rng: np.random.Generator) -> None:
    """Clips one after another from `at` to `stop`, a little faster than they were spoken."""
    while stop - at > 20:
        voice = choose(rng, voices)
        power = voice.envelope[:, 5:250].mean(axis=1)
        sounding = np.flatnonzero(power > np.quantile(power, 0.95) - 9.0)
        speed = rng.uniform(0.9, 1.35)
        frames = np.arange(sounding[0], sounding[-1] + 1, speed).astype(int)[: stop - at]
        words = voice.take(frames)
        level = np.log(np.exp(words.envelope).sum(axis=1).mean())
        fade = np.minimum(np.arange(len(frames))[::-1] / 8.0, 1.0)
        place = slice(at, at + len(frames))
        whole.envelope[place] = words.envelope + (4 * np.log(fade + 1e-3) - level - 0.5)[:, None]
        whole.breath[place], whole.f0[place] = words.breath, words.f0
        at += len(frames) + int(rng.integers(6, 30))
