"""A song in, stems out: any length, any number of channels, with the result of the whole-file computation."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float

from jaxsep import adaptation, blocks, hearing, passes, rendering, stft
from jaxsep.config import OpenUnmixConfig, SeparationConfig
from jaxsep.io import zoo
from jaxsep.io.checkpoint import Weights
from jaxsep.io.resampling import Resampler
from jaxsep.rendering import OpenAudio

__all__ = ["Progress", "Separator", "StemSource", "load_separator", "separate"]

Progress = Callable[[float], None]
"""Called with the part of the work that is done, from 0 to 1."""

BLOCK_FRAMES = 300  # the compiled blocks are multiples of this where the filter's window is the whole song

PIECE = 1 << 16  # samples at a time of a song in memory

MAX_CHANNELS = 256  # more are taken for time: (time, channel) where (channel, time) was expected


class StemSource(Protocol):
    """What makes stems of a song: a :class:`Separator` of nets, or a method that needs no weights."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def licence(self) -> str:
        """That of the weights."""

    @property
    def sample_rate(self) -> float:
        """Rate in Hz of the audio that :meth:`stream` expects and makes."""

    def stem_names(self, config: SeparationConfig) -> list[str]:
        """The stems in the order in which :meth:`stream` makes them."""

    def stream(
        self,
        open_audio: OpenAudio,
        *,
        n_channels: int,
        config: SeparationConfig | None = None,
        n_samples: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Float[np.ndarray, "source channel time"]]:
        """Separate a song, piece by piece, see :meth:`Separator.stream`."""


@dataclass(frozen=True, eq=False)
class Separator:
    """Nets for one or more targets, on the device, ready to separate.

    Args:
        models: a net for each target, alike in STFT, sample rate and number of channels. Not kept: the copy
            on the device is enough.
        name: what they are called.
        licence: that of the weights.
        adaptation: steps of :mod:`jaxsep.adaptation`, where the settings of a separation name none.
        hearings: how often the nets of voices hear a song, see :mod:`jaxsep.hearing`, likewise.
    """

    models: InitVar[Mapping[str, Weights]]
    name: str = ""
    licence: str = ""
    adaptation: int = 0
    hearings: int = 1
    targets: tuple[str, ...] = field(init=False)
    config: OpenUnmixConfig = field(init=False)
    """The first net's configuration; its STFT, rate and channels are everyone's."""
    stacks: list[passes.Stack] = field(init=False, repr=False)
    """The nets as they run: those that are faster together, joined."""

    def __post_init__(self, models: Mapping[str, Weights]) -> None:
        """Refuse nets that do not go together."""
        if not models:
            raise ValueError("expected a model for at least one target, got none")
        # Refuses what is no number of steps or of times.
        SeparationConfig(adaptation=self.adaptation, hearings=self.hearings)
        first = next(iter(models.values())).config
        for target, model in models.items():
            for name in ("n_channels", "n_fft", "hop_length", "sample_rate"):
                expected, got = getattr(first, name), getattr(model.config, name)
                if got != expected:
                    raise ValueError(
                        f"expected all targets to have {name} = {expected}, got {got} for {target!r}"
                    )
        object.__setattr__(self, "targets", tuple(models))
        object.__setattr__(self, "config", first)
        object.__setattr__(self, "stacks", passes.stack_models(models))

    @property
    def sample_rate(self) -> float:
        """Rate in Hz of the audio that the nets were trained on."""
        return self.config.sample_rate

    def stem_names(self, config: SeparationConfig) -> list[str]:
        """The stems in the order in which :meth:`stream` makes them."""
        return [*self.targets, "residual"] if config.residual else list(self.targets)

    def stream(
        self,
        open_audio: OpenAudio,
        *,
        n_channels: int,
        config: SeparationConfig | None = None,
        n_samples: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Float[np.ndarray, "source channel time"]]:
        """Separate a song of any length, piece by piece.

        Channels are separated in groups of as many as the nets have, in order; a last group that is not full
        is filled with copies of its last channel, and the copies' stems are averaged.

        Args:
            open_audio: reads the song. It is called more than once and must give the same audio each time:
                float32 ``(channel, time)``, finite, full scale ±1, at :attr:`sample_rate`, in pieces of any
                length.
            n_channels: the song's channels.
            config: how magnitudes become stems.
            n_samples: the song's length if it is known, for the progress alone.
            progress: called with the part of the work that is done.

        Yields:
            float32 pieces ``(source, channel, time)`` in the order of :meth:`stem_names`, which together are
            as long as the song.

        Raises:
            ValueError: the song holds no sample.
        """
        config = config or SeparationConfig()
        sizes = {"n_fft": self.config.n_fft, "hop_length": self.config.hop_length}
        if not config.window:  # one window needs the true length: a header may be wrong
            n_samples = sum(piece.shape[-1] for piece in open_audio())
        n_frames = config.window or -(-stft.frame_count(n_samples, **sizes) // BLOCK_FRAMES) * BLOCK_FRAMES
        n_blocks = None if n_samples is None else blocks.count(n_samples, n_frames=n_frames, **sizes)
        cut = partial(blocks.cut, n_frames=n_frames, **sizes)

        def song() -> Iterator[blocks.Block]:
            return cut(_group_channels(piece, self.config.n_channels) for piece in open_audio())

        def render(
            estimates: Iterator[rendering.Estimate],
            n_blocks: int,
            report: rendering.Report,
            kept: tuple[int, ...] | None,
        ) -> hearing.Stems:
            adapted = self._adapted(estimates, config)
            return rendering.render(adapted, config, **sizes, n_blocks=n_blocks, report=report, kept=kept)

        voices = {place: t for place, t in enumerate(self.targets) if t in adaptation.VOICES}
        stems = hearing.separate(
            self.stacks,
            song,
            cut,
            render=render,
            voices=voices,
            n_hearings=(config.hearings or self.hearings) if voices else 1,
            n_blocks=n_blocks,
            report=progress or (lambda done: None),
        )
        for piece in stems:
            yield _ungroup_channels(piece, n_channels)

    def _adapted(
        self, estimates: Iterator[rendering.Estimate], config: SeparationConfig
    ) -> Iterator[rendering.Estimate]:
        """What the nets make of the song, adapted to it if that is wished."""
        n_steps = self.adaptation if config.adaptation is None else config.adaptation
        if not n_steps:
            return estimates
        repeats = tuple(target not in adaptation.VOICES for target in self.targets)
        return adaptation.adapted(estimates, repeats=repeats, n_steps=n_steps, n_iters=max(1, config.n_iters))


def load_separator(
    model: str | os.PathLike[str] = zoo.DEFAULT_MODEL, *, targets: Sequence[str] | None = None
) -> Separator:
    """Load nets by name or from a folder.

    Args:
        model: a name that :func:`jaxsep.io.catalogue.list_models` lists, downloaded at its first use; or a folder
            in open-unmix's layout or ours. By default the weights that come with this package.
        targets: which of the model's targets, in the order wanted; all of them by default.

    Returns:
        A Separator, to be used for any number of songs.

    Raises:
        ValueError: no such model or target, or its files are damaged.
        OSError: the weights can be neither found nor downloaded; the message says what to do.
    """
    loaded = zoo.resolve(model, targets)
    return Separator(
        loaded.networks,
        name=loaded.name,
        licence=loaded.licence,
        adaptation=loaded.adaptation,
        hearings=loaded.hearings,
    )


def separate(
    audio: Float[np.ndarray, "channel time"],
    sample_rate: float,
    *,
    separator: StemSource | None = None,
    progress: Progress | None = None,
    **options: bool | int,
) -> dict[str, Float[np.ndarray, "channel time"]]:
    """Separate a song in memory.

    Args:
        audio: real ``(channel, time)``, or ``(time,)`` for one channel; full scale ±1, one sample or more.
        sample_rate: of ``audio``, in Hz; the stems have it too.
        separator: what makes the stems, by default the nets that come with this package.
        progress: called with the part of the work that is done.
        **options: fields of :class:`jaxsep.config.SeparationConfig`, such as ``n_iters=1``.

    Returns:
        For each stem, by name, float32 ``(channel, time)`` in the shape of the audio.

    Raises:
        TypeError: the audio is not real, or an option is unknown or of another type.
        ValueError: the audio has no sample, no plausible number of channels, or holds NaN or infinity.

    Example:
        >>> noise = 0.1 * np.random.default_rng(0).standard_normal((2, 8000))
        >>> stems = separate(noise, 44100, n_iters=0)
        >>> stems["drums"].shape
        (2, 8000)
    """
    config = SeparationConfig(**options)  # type: ignore[arg-type]
    audio = _checked(audio)
    separator = separator or load_separator()
    rate = separator.sample_rate
    at_rate = _resample(audio, sample_rate, rate)
    pieces = separator.stream(
        lambda: (at_rate[:, n : n + PIECE] for n in range(0, at_rate.shape[1], PIECE)),
        n_channels=audio.shape[0],
        config=config,
        n_samples=at_rate.shape[1],
        progress=progress,
    )
    names = separator.stem_names(config)
    stems, position = np.empty((len(names), audio.shape[0], at_rate.shape[1]), np.float32), 0
    for piece in pieces:
        stems[..., position : position + piece.shape[-1]] = piece
        position += piece.shape[-1]
    return {
        name: _resample(stem, rate, sample_rate, length=audio.shape[1])
        for name, stem in zip(names, stems, strict=True)
    }


def _checked(audio: np.ndarray) -> Float[np.ndarray, "channel time"]:
    audio = np.asarray(audio)
    if audio.dtype.kind != "f":
        raise TypeError(f"expected real floating-point audio with full scale ±1, got {audio.dtype}")
    if audio.ndim not in (1, 2) or audio.size == 0 or len(np.atleast_2d(audio)) > MAX_CHANNELS:
        raise ValueError(f"expected audio (channel, time) of at least one sample, got shape {audio.shape}")
    if not np.isfinite(audio).all():
        raise ValueError("expected finite audio, got NaN or infinity")
    return np.atleast_2d(audio).astype(np.float32)


def _resample(audio: np.ndarray, rate_in: float, rate_out: float, length: int | None = None) -> np.ndarray:
    if rate_in == rate_out:
        return audio
    resampler = Resampler(rate_in, rate_out, audio.shape[0])
    return np.concatenate([resampler.process(audio), resampler.finish(length)], axis=1)


def _group_channels(
    audio: Float[np.ndarray, "channel time"], size: int
) -> Float[np.ndarray, "group size time"]:
    n_groups = -(-audio.shape[0] // size)
    order = np.minimum(np.arange(n_groups * size), audio.shape[0] - 1)
    return audio[order].reshape(n_groups, size, -1)


def _ungroup_channels(
    stems: Float[np.ndarray, "group source size time"], n_channels: int
) -> Float[np.ndarray, "source channel time"]:
    groups, sources, size, n = stems.shape
    if groups == 1 and size == n_channels:
        return stems[0]
    channels = np.moveaxis(stems, 0, 1).reshape(sources, groups * size, n)
    copies = channels[:, n_channels - 1 :].mean(axis=1, keepdims=True)
    return np.concatenate([channels[:, : n_channels - 1], copies], axis=1)
