"""Small batches and songs of noise for the tests of training, the same for the same seed and step."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxsep.batches import MIXTURE, Batch
from jaxsep.config import OpenUnmixConfig, TrainingConfig
from jaxsep.io.variables import unflatten, variable_shapes

CONFIG = OpenUnmixConfig(n_fft=64, hop_length=16, hidden_size=8, n_layers=1)
SOURCES = ("vocals", "drums", "other")
SETTINGS = TrainingConfig(epochs=3, steps_per_epoch=4, learning_rate=1e-2)


def drawn_variables(config: OpenUnmixConfig, n_targets: int, seed: int = 0) -> dict:
    """Variables of nets, stacked, drawn by NumPy: `openunmix.init` takes long to compile."""
    rng = np.random.default_rng(seed)
    flat = {}
    for path, shape in variable_shapes(config).items():
        if len(shape) > 1:
            flat[path] = rng.uniform(-1, 1, (n_targets, *shape)) / np.sqrt(shape[-2])
        else:
            flat[path] = np.full((n_targets, *shape), path.endswith(("scale", "var", "output_mean")))
    return unflatten({path: array.astype(np.float32) for path, array in flat.items()})


def stems_of(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Sources ``(source, channel, time)`` that differ in colour: int16, full scale 32768."""
    noise = 3000 * rng.normal(size=(len(SOURCES), 2, n_samples))
    noise[0] = np.cumsum(noise[0], axis=-1) / 20 % 3000
    noise[1] *= np.arange(n_samples) % 50 < 10
    return noise.astype(np.int16)


def noise_batches(seed: int, step: int, *, n_excerpts: int = 8, n_samples: int = 400) -> Batch:
    """A batch with every change that a pipeline may draw."""
    rng = np.random.default_rng((seed, step))
    shape = (n_excerpts, len(SOURCES))
    return Batch(
        np.stack([stems_of(rng, n_samples) for _ in range(n_excerpts)]),
        rng.uniform(0.25, 1.25, shape).astype(np.float32),
        rng.random(shape) < 0.5,
        np.stack([rng.permutation(n_excerpts) for _ in SOURCES], axis=1).astype(np.int32),
        np.ones(shape, np.float32),
    )


class NoiseSong(NamedTuple):
    """A song that comes in pieces of uneven lengths."""

    name: str
    stems: np.ndarray  # (source, channel, time)

    def pieces(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """See `jaxsep.batches.Song`."""
        every = dict(zip(SOURCES, self.stems, strict=True)) | {MIXTURE: self.stems.sum(axis=0)}
        wanted = np.stack([every[name] for name in names]).astype(np.int16)
        for begin in range(0, wanted.shape[-1], 333):
            yield wanted[..., begin : begin + 333]


def songs(*lengths: int) -> list[NoiseSong]:
    """A song of each of these lengths in samples."""
    rng = np.random.default_rng(5)
    return [NoiseSong(f"song {index}", stems_of(rng, length) // 2) for index, length in enumerate(lengths)]
