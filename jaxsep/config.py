"""Settings as frozen dataclasses: checked when made, hashable, equal after a trip through JSON."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["OPTIMIZERS", "OpenUnmixConfig", "SeparationConfig", "TrainingConfig"]


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int of at least {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected an int of at least {least}, got {value}")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a positive number, got {value!r}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a positive number, got {value}")


def _check_not_negative(name: str, value: object) -> None:
    if value != 0 or isinstance(value, bool):
        _check_positive(name, value)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")


class _JsonRoundTrip:
    """Makes a flat dataclass a JSON object and back; a key that is no field is an error."""

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object, ready for `json.dump`."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_json` made ``values`` from; fields left out keep their defaults.

        Raises:
            ValueError: ``values`` has a key that is no field, or a value out of range.
            TypeError: ``values`` is no JSON object, or a value has the wrong type.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"{cls.__name__}: expected a JSON object, got {type(values).__name__}")
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        unknown = [str(key) for key in values if key not in known]
        if unknown:
            raise ValueError(
                f"{cls.__name__}: expected only the keys {', '.join(known)}; got also {', '.join(unknown)}"
            )
        return cls(**values)


@dataclass(frozen=True)
class OpenUnmixConfig(_JsonRoundTrip):
    """Sizes of an Open-Unmix network and of the STFT whose magnitudes it reads.

    Attributes:
        n_channels: audio channels, at least 1.
        n_fft: samples in a frame of the STFT, at least 2.
        hop_length: samples between two frames, 1 to ``n_fft``.
        sample_rate: of the audio, in Hz.
        hidden_size: width of the dense layers; even if ``bidirectional``, because each direction of the
            LSTM takes half of it.
        n_layers: layers of the LSTM, at least 1.
        bidirectional: False for an LSTM that runs forward in time only.
        bandwidth: the network reads the bins up to this frequency in Hz; None reads them all. Its output
            always covers all bins.

    Example:
        >>> config = OpenUnmixConfig()
        >>> config.n_bins, config.max_bin
        (2049, 1487)
        >>> OpenUnmixConfig.from_json(config.to_json()) == config
        True
    """

    n_channels: int = 2
    n_fft: int = 4096
    hop_length: int = 1024
    sample_rate: float = 44100.0
    hidden_size: int = 512
    n_layers: int = 3
    bidirectional: bool = True
    bandwidth: float | None = 16000.0

    def __post_init__(self) -> None:
        _check_count("n_channels", self.n_channels, 1)
        _check_count("n_fft", self.n_fft, 2)
        _check_count("hop_length", self.hop_length, 1)
        _check_positive("sample_rate", self.sample_rate)
        _check_count("hidden_size", self.hidden_size, 1)
        _check_count("n_layers", self.n_layers, 1)
        _check_flag("bidirectional", self.bidirectional)
        if self.bandwidth is not None:
            _check_positive("bandwidth", self.bandwidth)
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length: expected at most n_fft = {self.n_fft}, got {self.hop_length}")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                f"hidden_size: expected an even number for a bidirectional LSTM, got {self.hidden_size}"
            )

    @classmethod
    def from_max_bin(cls, max_bin: int, **values: Any) -> Self:
        """The configuration whose network reads exactly ``max_bin`` bins; ``values`` are the other fields.

        The bandwidth is the frequency of the last bin read, or None where all are.

        Example:
            >>> OpenUnmixConfig.from_max_bin(1487).max_bin
            1487
        """
        everything = cls(bandwidth=None, **values)
        if not 1 <= max_bin <= everything.n_bins:
            raise ValueError(f"max_bin: expected 1 to n_bins = {everything.n_bins}, got {max_bin}")
        if max_bin == everything.n_bins:
            return everything
        # A bandwidth is positive: half a bin keeps just the first one, the constant.
        last = max(max_bin - 1, 0.5)
        return cls(bandwidth=last * everything.sample_rate / everything.n_fft, **values)

    @property
    def n_bins(self) -> int:
        """Bins of the one-sided spectrum, the network's output."""
        return self.n_fft // 2 + 1

    @property
    def max_bin(self) -> int:
        """Bins that the network reads: those whose frequency is at most ``bandwidth``."""
        if self.bandwidth is None:
            return self.n_bins
        return bisect_right(
            range(self.n_bins), self.bandwidth, key=lambda k: k * self.sample_rate / self.n_fft
        )


@dataclass(frozen=True)
class SeparationConfig(_JsonRoundTrip):
    """How the nets' magnitudes become stems.

    Attributes:
        n_iters: iterations of expectation maximisation in the Wiener filter; 0 for the plain start.
        window: frames that share one set of spatial covariances, 0 for all of a song at once. Memory stays
            small whatever the song's length unless it is 0.
        softmask: start from ratio masks instead of the magnitudes with the mixture's phase.
        residual: add a stem of what the targets leave of the mixture.
        adaptation: steps by which the nets' magnitudes are adapted to what repeats in the song, see
            :mod:`jaxsep.adaptation`; 0 for none, None for as many as the model asks for.
        hearings: how often the nets of voices hear the song, see :mod:`jaxsep.hearing`; None for as often as the
            model asks for.
        consistency: share what the stems lack of the mixture, sample by sample, equally among them: for
            stems that are meant to be all of it, such as all targets of a model.

    Example:
        >>> SeparationConfig(n_iters=0).to_json()["window"]
        300
    """

    n_iters: int = 1
    window: int = 300
    softmask: bool = False
    residual: bool = False
    adaptation: int | None = None
    hearings: int | None = None
    consistency: bool = False

    def __post_init__(self) -> None:
        _check_count("n_iters", self.n_iters, 0)
        _check_count("window", self.window, 0)
        if self.adaptation is not None:
            _check_count("adaptation", self.adaptation, 0)
        if self.hearings is not None:
            _check_count("hearings", self.hearings, 1)
        for name in ("softmask", "residual", "consistency"):
            _check_flag(name, getattr(self, name))


OPTIMIZERS = ("adam", "muon")


@dataclass(frozen=True)
class TrainingConfig(_JsonRoundTrip):
    """How nets are trained; the defaults are open-unmix's.

    Attributes:
        seed: of the nets' first weights, of the dropout, and what the batches are drawn from.
        epochs: at most so many.
        steps_per_epoch: steps between two validations.
        learning_rate: Adam's, at the start.
        weight_decay: of the squared weights, in the gradient (coupled L2); 0 for none.
        lr_decay_gamma: what the learning rate is multiplied by when the loss no longer falls, below 1.
        lr_decay_patience: epochs without a better loss before that.
        lr_decay_cooldown: epochs after that which are not counted.
        patience: epochs without a better loss before training ends; 0 for never.
        dropout: between the LSTM's layers, 0 to below 1.
        clip: largest norm of a net's gradient; None for no limit.
        ema: weight of the old in the running average of weights that is validated and kept; 0 for no average.
        accumulate: parts that a batch is computed in, one after the other, to save memory.
        bf16: multiply in bfloat16 and add in float32 in the large products.
        frame_step: the loss is taken over every so many-th frame. Neighbouring frames share three quarters of
            their samples, so 2 costs little accuracy and saves a quarter of the time; the LSTM hears all frames.
        filtered: weight, 0 to 1, of the error of the stems that the nets' magnitudes filter out of the mixture; what
            is left is that of each net's magnitudes. A source that has no net is filtered by its true magnitudes.
        optimizer: "adam", as open-unmix, or "muon".

    Example:
        >>> TrainingConfig(epochs=5).learning_rate
        0.001
        >>> TrainingConfig.from_json(TrainingConfig(bf16=True).to_json()).bf16
        True
    """

    seed: int = 42
    epochs: int = 1000
    steps_per_epoch: int = 344
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    lr_decay_gamma: float = 0.3
    lr_decay_patience: int = 80
    lr_decay_cooldown: int = 10
    patience: int = 140
    dropout: float = 0.4
    clip: float | None = None
    ema: float = 0.0
    accumulate: int = 1
    bf16: bool = False
    frame_step: int = 1
    filtered: float = 0.0
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "accumulate", "frame_step"):
            _check_count(name, getattr(self, name), 1)
        for name in ("seed", "lr_decay_patience", "lr_decay_cooldown", "patience"):
            _check_count(name, getattr(self, name), 0)
        _check_positive("learning_rate", self.learning_rate)
        _check_positive("lr_decay_gamma", self.lr_decay_gamma)
        _check_flag("bf16", self.bf16)
        if self.clip is not None:
            _check_positive("clip", self.clip)
        for name in ("weight_decay", "dropout", "ema", "filtered"):
            _check_not_negative(name, getattr(self, name))
        for name in ("lr_decay_gamma", "dropout", "ema"):
            if getattr(self, name) >= 1:
                raise ValueError(f"{name}: expected a number below 1, got {getattr(self, name)}")
        if self.filtered > 1:
            raise ValueError(f"filtered: expected a number from 0 to 1, got {self.filtered}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
