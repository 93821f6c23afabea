"""Drums: recorded strokes, synthesised ones, both, or a soundfont's kit; played by hands that are never quite equal."""

from collections.abc import Sequence

import numpy as np
import soxr

from datasets.percussion import draw_kit
from datasets.score import Hit, Note
from datasets.sound import shape_spectrum
from recipes.open_weights.fonts import play_font
from recipes.open_weights.sources import DRUMS, RATE, choose, fonts, read, sampled_kits

__all__ = ["play_drums"]

_FONT_KITS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 24, 25, 26, 32, 40)
_LEVELS = {
    "kick": 1.0, "snare": 0.8, "clap": 0.5, "tom_low": 0.7, "tom_high": 0.7, "hat": 0.22, "open_hat": 0.22,
    "ride": 0.18, "crash": 0.35, "perc": 0.35,
}  # fmt: skip


def play_drums(hits: Sequence[tuple[Hit, int]], *, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Play strokes on a kit that is drawn.

    Args:
        hits: with their General MIDI keys.
        seconds: length of the result.
        rng: draws the kit and the hands.

    Returns:
        float32 (2, time).
    """
    if fonts() and rng.random() < 0.35:
        kit = int(rng.choice(_FONT_KITS))
        notes = [Note(hit.start, 0.2, float(key), hit.velocity) for hit, key in hits]
        sound = play_font(choose(rng, fonts()), notes, seconds=seconds, program=kit, bank=128)
        if np.abs(sound).max() > 1e-3:
            return sound
    return _play_strokes([hit for hit, _ in hits], _draw_kit(rng), seconds, rng)


def _draw_kit(rng: np.random.Generator) -> dict[str, list[tuple[np.ndarray, float, float]]]:
    """For each drum, layers of (sound, lowest and highest velocity): from one kit, or put together from several."""
    kits = list(sampled_kits().values())
    machine = {name: [(np.stack([sound, sound]), 0.0, 1.0)] for name, sound in draw_kit(rng, RATE).items()}
    machine["perc"] = machine["clap"]
    if not kits or rng.random() < 0.15:
        return machine
    mixed = rng.random() < 0.5
    own = choose(rng, kits)
    kit = {}
    for drum in DRUMS:
        found = (choose(rng, kits) if mixed else own).get(drum) or [
            instrument for other in kits for instrument in other.get(drum, [])
        ]
        if rng.random() < 0.12 or not found:
            kit[drum] = machine[drum]
            continue
        speed = 2 ** (rng.normal(0, 2.0) / 12)
        longest = float(rng.choice([0.35, 1.0, 3.0], p=(0.15, 0.25, 0.6)))
        layers = choose(rng, found)
        kit[drum] = [(_stroke(layer.file, speed, longest), layer.low, layer.high) for layer in layers]
    return kit


def _stroke(file, speed: float, longest: float) -> np.ndarray:
    sound = soxr.resample(read(file).T, RATE * speed, RATE, quality="MQ").T[:, : int(longest * RATE)]
    fade = min(int(0.3 * sound.shape[1]), int(0.05 * RATE))
    sound[:, sound.shape[1] - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return sound / max(float(np.abs(sound).max()), 1e-6)


def _play_strokes(hits: Sequence[Hit], kit: dict, seconds: float, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((2, round(seconds * RATE)), np.float32)
    loose = rng.uniform(0, 0.006)
    levels = {drum: level * 10 ** (rng.normal(0, 3) / 20) for drum, level in _LEVELS.items()}
    pans = {drum: 0.0 if drum in ("kick", "snare") else float(rng.uniform(-0.6, 0.6)) for drum in DRUMS}
    curve = rng.uniform(1.0, 2.0)
    ready: dict[tuple, np.ndarray] = {}
    for hit in hits:
        layers = kit[hit.drum]
        fitting = [sound for sound, low, high in layers if low <= hit.velocity <= high] or [layers[-1][0]]
        which = int(rng.integers(len(fitting)))
        softness, detuned = int(4 * hit.velocity), int(rng.integers(3))
        key = (hit.drum, id(fitting[which]), softness, detuned)
        if key not in ready:
            ready[key] = _by_hand(fitting[which], softness / 4, detuned - 1)
        sound = ready[key]
        gain = levels[hit.drum] * hit.velocity**curve * 10 ** (rng.normal(0, 0.7) / 20)
        angle = (pans[hit.drum] + 1) * np.pi / 4
        sides = np.sqrt(2) * gain * np.array([[np.cos(angle)], [np.sin(angle)]])
        begin = max(round((hit.start + loose * rng.normal()) * RATE), 0)
        sound = sound[:, : max(out.shape[1] - begin, 0)]
        out[:, begin : begin + sound.shape[1]] += sides.astype(np.float32) * sound
    return out


def _by_hand(sound: np.ndarray, velocity: float, detuned: int) -> np.ndarray:
    """A softer stroke is duller; no two strokes have quite one pitch."""
    if detuned:
        sound = soxr.resample(sound.T, RATE * (1 + 0.006 * detuned), RATE, quality="LQ").T
    if velocity < 0.75:
        corner = 3000.0 + 15000.0 * velocity
        sound = shape_spectrum(sound, lambda f: 1 / np.sqrt(1 + (f / corner) ** 2), RATE)
    return sound
