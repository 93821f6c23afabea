"""Endless four-stem music from a seed: nothing to download, nothing but NumPy.

Each seed is another song: its own tempo, key, chords, groove, drum kit, bass, keyboards or guitars, singer, room and
balance. The stems are sources that a net can learn to tell apart; they are no substitute for recordings.
"""

import numpy as np

from datasets.instruments import draw_timbre, play
from datasets.percussion import draw_kit
from datasets.score import Hit, Note, Score, compose
from datasets.sound import reverberate
from datasets.voice import draw_singer, sing

__all__ = ["STEMS", "render"]

STEMS = ("vocals", "drums", "bass", "other")
# Loudness of each stem in a mix, dB of full scale (RMS while it plays): mean and spread.
_LEVELS = {"vocals": (-20.0, 2.5), "drums": (-20.0, 2.5), "bass": (-22.0, 2.5), "other": (-22.0, 3.0)}
# How loud each drum is within its kit.
_DRUM_LEVELS = {
    "kick": 1.0, "snare": 0.8, "clap": 0.6, "tom_low": 0.8, "tom_high": 0.7, "hat": 0.22, "open_hat": 0.17,
    "ride": 0.12, "crash": 0.3,
}  # fmt: skip


def render(seed: int, duration: float, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """Render a song that nobody has heard.

    Args:
        seed: names the song; the same seed, duration and rate give the same samples.
        duration: seconds, > 0.
        sample_rate: Hz, 8000 or more.

    Returns:
        For each of "vocals", "drums", "bass", "other" a float32 array (2, time), time = round(duration * sample_rate).
        The sum of all stays below full scale. A stem may rest for a while, or throughout.

    Raises:
        ValueError: a duration of no samples, or a sample rate below 8000 Hz.

    Example:
        >>> stems = render(7, 0.5)
        >>> sorted(stems), stems["drums"].shape
        (['bass', 'drums', 'other', 'vocals'], (2, 22050))
    """
    length = round(duration * sample_rate)
    if length < 1:
        raise ValueError(f"duration: expected at least one sample, got {duration} s")
    if sample_rate < 8000:
        raise ValueError(f"sample_rate: expected 8000 Hz or more, got {sample_rate}")
    # One generator a player: what one of them draws does not change the others.
    rngs = dict(zip(("score", "mix", *STEMS), np.random.default_rng(seed).spawn(6), strict=True))
    score = compose(rngs["score"], duration)
    stems = {
        "vocals": _vocals(score, length, sample_rate, rngs["vocals"]),
        "drums": _drums(score.drums, length, sample_rate, rngs["drums"]),
        "bass": _bass(score.bass, length, sample_rate, rngs["bass"]),
        "other": _other(score, length, sample_rate, rngs["other"]),
    }
    return _mix(stems, sample_rate, rngs["mix"])


def _vocals(score: Score, length: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    singer = draw_singer(rng)
    out = np.zeros((2, length), np.float32)
    choir = rng.random() < 0.25
    for phrase in score.vocals:
        _place(
            out,
            sing(singer, phrase, sample_rate=sample_rate, rng=rng),
            phrase[0].start - 0.15,
            sample_rate,
            0.0,
        )
        if choir and rng.random() < 0.6:
            third = [note._replace(pitch=note.pitch + 4) for note in phrase]
            for pan in (-0.7, 0.7):
                voice = 0.4 * sing(singer._replace(clarity=0.2), third, sample_rate=sample_rate, rng=rng)
                _place(out, voice, phrase[0].start - 0.15, sample_rate, pan)
    return reverberate(out, rng, rng.uniform(0.02, 0.25), rng.uniform(0.3, 1.6), sample_rate)


def _drums(hits: list[Hit], length: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    kit = draw_kit(rng, sample_rate)
    pans = {name: float(rng.uniform(-0.6, 0.6)) for name in kit} | {
        "kick": 0.0,
        "snare": float(rng.uniform(-0.15, 0.15)),
    }
    levels = {name: level * float(rng.uniform(0.7, 1.3)) for name, level in _DRUM_LEVELS.items()}
    out = np.zeros((2, length), np.float32)
    for hit in hits:
        stroke = levels[hit.drum] * hit.velocity**1.5 * kit[hit.drum]
        _place(out, stroke, hit.start, sample_rate, pans[hit.drum])
    glue = rng.uniform(0, 1.5)
    out = np.tanh(glue * out) / glue if glue > 0.2 else out
    return reverberate(out, rng, rng.uniform(0.0, 0.15), rng.uniform(0.15, 0.8), sample_rate)


def _bass(notes: list[Note], length: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    sound = play(draw_timbre(rng, "bass"), notes, length=length, sample_rate=sample_rate, rng=rng)
    return np.stack([sound, sound])


def _other(score: Score, length: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, length), np.float32)
    layers = [score.chords, score.melody] + ([score.chords] if rng.random() < 0.5 else [])
    for notes in layers:
        sound = play(draw_timbre(rng, "other"), notes, length=length, sample_rate=sample_rate, rng=rng)
        sound *= np.float32(rng.uniform(0.5, 1.0) / (np.abs(sound).max() + 1e-9))
        pan, width = float(rng.uniform(-0.7, 0.7)), int(rng.uniform(0, 0.02) * sample_rate)
        _place(out, sound, 0.0, sample_rate, pan)
        _place(out, 0.7 * sound, width / sample_rate, sample_rate, -pan)
    return reverberate(out, rng, rng.uniform(0.0, 0.3), rng.uniform(0.3, 2.0), sample_rate)


def _place(out: np.ndarray, sound: np.ndarray, start: float, sample_rate: int, pan: float) -> None:
    """Add a mono sound into stereo at a time (s; what lies before 0 is cut) and place (-1 left to 1 right)."""
    begin = round(start * sample_rate)
    sound = sound[max(-begin, 0) :]
    begin = max(begin, 0)
    end = min(begin + sound.size, out.shape[1])
    if begin < end:
        angle = (pan + 1) * np.pi / 4
        out[:, begin:end] += np.array([[np.cos(angle)], [np.sin(angle)]], np.float32) * sound[: end - begin]


def _mix(stems: dict[str, np.ndarray], sample_rate: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Set the balance and keep the sum below full scale; both ends are faded over 5 ms."""
    length = stems["vocals"].shape[1]
    fade = np.minimum(np.arange(length) / (0.005 * sample_rate), 1.0).astype(np.float32)
    balanced = {}
    for name, (mean, spread) in _LEVELS.items():
        level = 10 ** (rng.normal(mean, spread) / 20)
        balanced[name] = stems[name] * (
            np.float32(level / _loudness(stems[name], sample_rate)) * fade * fade[::-1]
        )
    peak = np.abs(sum(balanced.values())).max()
    ceiling = rng.uniform(0.6, 0.95)
    gain = np.float32(min(1.0, ceiling / max(peak, 1e-9)))
    return {name: balanced[name] * gain for name in STEMS}


def _loudness(sound: np.ndarray, sample_rate: int) -> float:
    """RMS over the tenths of a second in which something sounds; 1 for silence."""
    block = max(sample_rate // 10, 1)
    blocks = sound[:, : sound.shape[1] // block * block].reshape(2, -1, block)
    power = (
        (blocks.astype(np.float64) ** 2).mean(axis=(0, 2))
        if blocks.size
        else (sound.astype(np.float64) ** 2).mean(keepdims=True)
    )
    active = power[power > 1e-3 * power.max()] if power.max() > 0 else np.ones(1)
    return float(np.sqrt(active.mean()))
