"""All that is neither voice, drum nor bass: soundfonts, synthesisers, amplifiers."""

import numpy as np

from datasets.instruments import draw_timbre, play
from datasets.sound import band_pass, shape_spectrum
from recipes.open_weights.arrange import Layer
from recipes.open_weights.fonts import play_font
from recipes.open_weights.sources import RATE, choose, fonts

__all__ = ["play_other"]

# General MIDI programs.
_GUITARS = (24, 25, 26, 27, 27, 28, 29, 30)
_OTHERS = (
    0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 7, 11, 12, 16, 17, 18, 19, 21, 24, 25, 25, 26, 27, 27, 28, 29, 29, 30, 30, 40, 42,
    48, 48, 49, 50, 51, 55, 56, 57, 60, 61, 62, 63, 64, 65, 66, 68, 71, 73, 80, 81, 82, 84, 87, 88, 89, 90, 91, 92, 94,
    95, 98, 104,
)  # fmt: skip


def play_other(layers: list[Layer], *, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The other players, each at its own level and place."""
    out = np.zeros((2, round(seconds * RATE)), np.float32)
    for layer in layers:
        sound = _play_layer(layer, seconds, rng)
        peak = np.abs(sound).max()
        if peak > 1e-4:
            level = 10 ** (rng.uniform(-12, 0) / 20) / np.sqrt(np.mean(sound**2) + 1e-6 * peak**2)
            out += np.float32(0.1 * level) * _placed(sound, rng)
    return out


def _play_layer(layer: Layer, seconds: float, rng: np.random.Generator) -> np.ndarray:
    if not fonts() or rng.random() < 0.25:
        return _synthesise(layer, seconds, rng)
    font = choose(rng, fonts())
    amplified = rng.random() < 0.3
    if amplified:
        program = int(rng.choice(_GUITARS))
    else:
        given = layer.program is not None and rng.random() < 0.4
        program = int(layer.program) if given else int(rng.choice(_OTHERS))
    sound = play_font(font, layer.notes, seconds=seconds, program=program)
    if amplified:
        sound = _amplifier(sound, rng)
        if rng.random() < 0.4:  # a second take on the other side
            take = [n._replace(start=n.start + abs(rng.normal(0, 0.008))) for n in layer.notes]
            second = _amplifier(play_font(choose(rng, fonts()), take, seconds=seconds, program=program), rng)
            sound = np.stack([sound.mean(axis=0), second.mean(axis=0)])
    return sound


def _synthesise(layer: Layer, seconds: float, rng: np.random.Generator) -> np.ndarray:
    length = round(seconds * RATE)
    left = play(draw_timbre(rng, "other"), layer.notes, length=length, sample_rate=RATE, rng=rng)
    if rng.random() < 0.4:  # a second, detuned oscillator gives width
        beside = [n._replace(pitch=n.pitch + rng.normal(0, 0.08)) for n in layer.notes]
        return np.stack(
            [left, play(draw_timbre(rng, "other"), beside, length=length, sample_rate=RATE, rng=rng)]
        )
    return np.stack([left, left])


def _drive(sound: np.ndarray, gain: float) -> np.ndarray:
    """A stage that bends, more to one side than to the other."""
    peak = float(np.abs(sound).max()) + 1e-6
    return np.tanh(np.float32(gain / peak) * sound + np.float32(0.1)) - np.float32(np.tanh(0.1))


def _amplifier(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two stages and a cabinet: from nearly clean to metal."""
    low = float(rng.uniform(60, 250))
    sound = shape_spectrum(sound, band_pass(low, 9000, 4), RATE)
    sound = _drive(sound, 10 ** rng.uniform(0, 2.0))
    if rng.random() < 0.5:
        sound = _drive(sound, 10 ** rng.uniform(0, 0.8))
    return shape_spectrum(sound, band_pass(70, float(rng.uniform(3500, 6500)), 6), RATE)


def _placed(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pan = float(np.clip(rng.normal(0, 0.4), -1, 1))
    sides = np.array([[min(1.0, 1 - pan)], [min(1.0, 1 + pan)]], np.float32)
    return sides * sound
