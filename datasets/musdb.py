"""MUSDB18 as stem files, MUSDB18-HQ as WAV files, and any folder of folders of stems that is laid out like it."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from datasets.layouts import Layout
from datasets.options import DatasetOptions
from datasets.recordings import DecodedSongs, Format, Recording, SharedRecording, open_file, to_format
from datasets.tracks import Track
from jaxsep.io import musdb
from jaxsep.io.resampling import Resampler, resampled_length
from jaxsep.io.stemfile import load_streams, stream_lengths

__all__ = ["ACCOMPANIMENT", "make_track", "musdb_layout", "split_layout", "stem_recordings"]

ACCOMPANIMENT = "accompaniment"
"""The target that is everything but the vocals."""

_REST = "other"  # by definition what is in no other stem


def musdb_layout(root: Path, options: DatasetOptions, targets: tuple[str, ...]) -> Layout:
    """The train and validation tracks below ``root``."""
    songs = DecodedSongs(options.decoded_bytes)

    def tracks(subset: str) -> list[Track]:
        return [
            make_track(one.name, stem_recordings(one, options.format, songs), options.n_channels, targets)
            for one in musdb.find_tracks(root, subset=subset)
        ]

    training = tracks("train")
    _warn_of_much_decoding(root, training, options)
    return split_layout(root, training, tracks("valid"), targets)


def split_layout(
    root: Path, training: Sequence[Track], validation: Sequence[Track], targets: tuple[str, ...]
) -> Layout:
    """The layout of tracks that are already divided.

    Raises:
        ValueError: no validation track has a truth for all targets.
    """
    known = [track for track in validation if not track.hidden.intersection(targets)]
    if not known:
        raise ValueError(f"{root}: expected validation tracks with {', '.join(targets)}, got none")
    sources = _sources(targets)
    return Layout(
        sources,
        training,
        known,
        mix=True,
        rest=sources[-1],
        augmentations=("gain", "channelswap"),
        samples_per_track=64,
    )


def make_track(
    name: str, recordings: Mapping[str, Recording], n_channels: int, targets: tuple[str, ...]
) -> Track:
    """A song out of its stems.

    A song without a recording of one of the four sources may have that source in its ``other``: wherever that ``other``
    sounds, the truth of the missing source is unknown. A song without ``other`` has nothing to hide it in.

    Raises:
        ValueError: there is none of the sources.
    """
    sources = _sources(targets)
    present = [stem for stem in musdb.STEMS if stem in recordings]
    stems: dict[str, Sequence[Recording]] = {stem: (recordings[stem],) for stem in sources if stem in present}
    parts = tuple(recordings[stem] for stem in present if stem != "vocals")
    if ACCOMPANIMENT in sources and parts:
        stems[ACCOMPANIMENT] = parts
    if not stems:
        raise ValueError(
            f"{name}: expected stems named {', '.join(musdb.STEMS)}; got {', '.join(recordings)}"
        )
    hidden = frozenset(musdb.STEMS).difference(present) if _REST in present else frozenset()
    return Track(name, stems, n_channels, recordings.get(musdb.MIXTURE), hidden)


def stem_recordings(track: musdb.Track, format: Format, songs: DecodedSongs) -> dict[str, Recording]:
    """The four stems and the mixture of a track, as far as it has them, opened.

    Raises:
        OSError: a file may not be read.
        ValueError: one is no sound.
    """
    if track.is_stem_file:
        return _stem_file(track, format, songs)
    names = (musdb.MIXTURE, *musdb.STEMS)
    return {name: open_file(track.files[name], format, songs) for name in names if name in track.files}


def _sources(targets: tuple[str, ...]) -> tuple[str, ...]:
    """What a mixture is made of: the four, or vocals and accompaniment where that is a target."""
    return ("vocals", ACCOMPANIMENT) if ACCOMPANIMENT in targets else musdb.STEMS


def _warn_of_much_decoding(root: Path, tracks: list[Track], options: DatasetOptions) -> None:
    """Songs that must be decoded whole and do not stay in memory are decoded again for nearly every excerpt."""
    recordings = [one for track in tracks for parts in track.stems.values() for one in parts]
    shared = {one.key: one for one in recordings if isinstance(one, SharedRecording)}
    n_bytes = sum(one.frames * one.n_stems for one in shared.values()) * options.n_channels * 2
    if n_bytes > options.decoded_bytes:
        warnings.warn(
            f"{root}: {n_bytes / 1e9:.1f} GB of decoded songs do not fit into the {options.decoded_bytes / 1e9:.1f} GB "
            "kept for them and will be decoded over and over; decode them once: python -m datasets.musdb18",
            stacklevel=4,
        )


def _stem_file(track: musdb.Track, format: Format, songs: DecodedSongs) -> dict[str, Recording]:
    path = next(iter(track.files.values()))
    lengths, rate = stream_lengths(path)
    if len(lengths) < len(musdb.STREAMS):
        raise ValueError(f"{path}: expected {len(musdb.STREAMS)} sound streams, got {len(lengths)}")
    frames = resampled_length(min(lengths), rate, format.sample_rate)
    decode = partial(_decode, path, int(rate), format)
    return {
        name: SharedRecording(songs, path, decode, index, len(musdb.STREAMS), frames, format.sample_rate)
        for index, name in enumerate(musdb.STREAMS)
    }


def _decode(path: Path, rate: int, format: Format) -> Int16[np.ndarray, "stem channel time"]:
    """All streams of a stem file of ``rate`` Hz."""
    same = rate == format.sample_rate
    streams, _ = load_streams(path, dtype=np.int16 if same else np.float32)
    streams = streams[: len(musdb.STREAMS)]
    if same and streams.shape[1] == format.n_channels:
        return streams
    stems = []
    for sound in streams:
        if not same:
            resampler = Resampler(rate, format.sample_rate, len(sound))
            sound = np.concatenate([resampler.process(sound), resampler.finish()], axis=1)
        stems.append(to_format(sound, format))
    return np.stack(stems)
