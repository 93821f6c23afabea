"""Parts of songs to hear and see in the page, kept as files until it is written."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float

from jaxsep.io.files import atomic_path
from jaxsep.io.musdb import MIXTURE, Track
from jaxsep.io.resampling import Resampler
from jaxsep.report.images import loudness, spectrogram_image
from jaxsep.scores import TrackScores
from jaxsep.songs import Estimates, Song

__all__ = ["ClipFolder", "best_start", "load_clips", "make_clip"]

FULL_SCALE = 0.99
_OPUS_RATE = 48000
_OPUS_COMPRESSION = 0.83  # libsndfile's scale from 256 to 6 kbit/s and channel
_FADE = 0.02  # seconds at either end, against clicks

# What a clip's file holds.
_KINDS = {
    "track": str, "start": float, "duration": float, "stems": list, "sounds": dict, "images": dict,
    "settings": dict, "seconds": float,
}  # fmt: skip


@dataclass(frozen=True)
class ClipFolder:
    """Keeps a clip of each chosen track: what `jaxsep.evaluation.evaluate` calls.

    Attributes:
        folder: where they are kept.
        chosen: the names of the tracks.
        seconds: of each.
    """

    folder: Path
    chosen: frozenset[str]
    seconds: float = 20.0

    def __post_init__(self) -> None:
        """Refuse a clip of nothing."""
        if not 0.1 <= self.seconds <= 600:
            raise ValueError(f"seconds: expected 0.1 to 600, got {self.seconds}")

    def is_missing(self, track: Track, settings: Mapping[str, Any]) -> bool:
        """Whether a clip of this track is wanted that is not there, or was made from something else."""
        if track.name not in self.chosen:
            return False
        try:
            known = _read(_path(self.folder, track.name))
        except (OSError, ValueError):
            return True
        return (known["settings"], known["seconds"]) != (dict(settings), self.seconds)

    def keep(self, song: Song, estimates: Estimates, scores: TrackScores) -> None:
        """Write the song's clip."""
        clip = make_clip(song, estimates, self.seconds)
        clip |= {"settings": dict(scores.settings), "seconds": float(self.seconds)}
        path = _path(self.folder, song.track.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(clip), encoding="utf-8")


def load_clips(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """The clips of some tracks, of those that have an undamaged one."""
    clips = []
    for name in names:
        with suppress(OSError, ValueError):
            clips.append(_read(_path(folder, name)))
    return clips


def make_clip(song: Song, estimates: Estimates, seconds: float) -> dict[str, Any]:
    """A part of a song in which all stems play: its sounds as Ogg Opus and their spectrograms, in base64.

    Estimates have the shape of the song. All sounds have one gain, so that none clips and their balance stays.
    """
    rate = song.sample_rate
    stems = [stem for stem in song.references if stem in estimates]
    start = best_start([song.references[stem] for stem in stems], rate, seconds)
    part = slice(start, start + round(seconds * rate))
    sounds = {MIXTURE: song.mixture[:, part]}
    for stem in stems:
        sounds[f"{stem} estimate"] = estimates[stem][:, part]
        sounds[f"{stem} truth"] = song.references[stem][:, part]
    peak = max(float(np.max(np.abs(sound))) for sound in sounds.values())
    gain = min(1.0, FULL_SCALE / peak) if peak else 1.0
    clip: dict[str, Any] = {
        "track": song.track.name,
        "start": (song.begin + start) / rate,
        "duration": sounds[MIXTURE].shape[1] / rate,
        "stems": stems,
        "sounds": {name: _base64(_opus(gain * sound, rate)) for name, sound in sounds.items()},
    }
    pictures = {name: loudness(sound, rate) for name, sound in sounds.items()}
    clip["images"] = {
        # Truth and estimate of a stem on one scale: what is louder in one is darker in it.
        name: _base64(spectrogram_image(picture, _top(pictures, name)))
        for name, picture in pictures.items()
    }
    return clip


def best_start(stems: Sequence[Float[np.ndarray, "channel time"]], sample_rate: float, seconds: float) -> int:
    """The first sample of the part of some seconds in which the quietest stems play most.

    Example:
        >>> sound, silence = np.ones((1, 4000)), np.zeros((1, 4000))
        >>> early, late = np.concatenate([sound, silence, silence], axis=1), np.ones((1, 12000))
        >>> best_start([early[:, ::-1], late], 1000, 4)
        8000
    """
    step = max(1, round(sample_rate))
    length, wanted = stems[0].shape[1], max(1, round(seconds))
    n_steps = -(-length // step)
    if n_steps <= wanted:
        return 0
    levels = np.zeros((len(stems), n_steps))
    for stem, level in zip(stems, levels, strict=True):
        power = np.pad(np.mean(np.asarray(stem, np.float32) ** 2, axis=0), (0, n_steps * step - length))
        level[:] = power.reshape(n_steps, step).mean(axis=1)
    levels /= np.maximum(levels.max(axis=1, keepdims=True), 1e-12)
    windows = np.lib.stride_tricks.sliding_window_view(levels, wanted, axis=1).mean(axis=-1)
    chosen = int(np.argmax(np.log(windows + 1e-3).sum(axis=0)))
    return max(0, min(chosen * step, length - round(seconds * sample_rate)))


def _top(pictures: Mapping[str, np.ndarray], name: str) -> float:
    truth = name.replace(" estimate", " truth")
    # Without this a silent truth would blow its estimate's faintest leakage up to black.
    return max(float(pictures[truth].max()), float(pictures[MIXTURE].max()) - 40)


def _opus(sound: Float[np.ndarray, "channel time"], sample_rate: float) -> bytes:
    """The sound as a file: Opus at about 45 kbit/s and channel, which few ears tell from the original."""
    n_fade = min(round(_FADE * sample_rate), sound.shape[1] // 2)
    window = np.ones(sound.shape[1], np.float32)
    window[:n_fade] = np.linspace(0, 1, n_fade, endpoint=False)
    window[sound.shape[1] - n_fade :] = window[:n_fade][::-1]
    faded = (sound[:2] * window).astype(np.float32)  # browsers are not to be trusted with more channels
    resampler = Resampler(sample_rate, _OPUS_RATE, len(faded))
    samples = np.concatenate([resampler.process(faded), resampler.finish()], axis=1)
    file = io.BytesIO()
    soundfile.write(
        file, samples.T, _OPUS_RATE, format="OGG", subtype="OPUS", compression_level=_OPUS_COMPRESSION
    )
    return file.getvalue()


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    clip = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(clip, dict) or {key: type(clip.get(key)) for key in _KINDS} != _KINDS:
        raise ValueError(f"{path}: expected a clip, got something else")
    names = {MIXTURE, *(f"{stem} {kind}" for stem in clip["stems"] for kind in ("estimate", "truth"))}
    if not names <= clip["sounds"].keys() & clip["images"].keys():
        raise ValueError(f"{path}: expected sounds and images of {', '.join(sorted(names))}, got fewer")
    return clip


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
