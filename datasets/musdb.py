"""MUSDB18 as stem files, MUSDB18-HQ as WAV files, and any folder of folders of stems that is laid out like it."""

import warnings
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

__all__ = ["ACCOMPANIMENT", "musdb_layout", "musdb_sources", "musdb_track"]

ACCOMPANIMENT = "accompaniment"
"""The target that is everything but the vocals."""

_REST = "other"  # by definition what is in no other stem


def musdb_layout(root: Path, options: DatasetOptions, targets: tuple[str, ...]) -> Layout:
    """The train and validation tracks below ``root``.

    A song without a file for one of the four sources may have that source in its ``other``: wherever that ``other``
    sounds, the truth of the missing source is unknown. A song without ``other`` has nothing to hide it in.
    """
    sources = musdb_sources(targets)
    songs = DecodedSongs(options.decoded_bytes)
    training, validation = (
        [
            musdb_track(track, options.format, songs, sources)
            for track in musdb.find_tracks(root, subset=subset)
        ]
        for subset in ("train", "valid")
    )
    _warn_of_much_decoding(root, training, options)
    known = [track for track in validation if not track.hidden.intersection(targets)]
    if not known:
        raise ValueError(f"{root}: expected validation tracks with {', '.join(targets)}, got none")
    return Layout(
        sources,
        training,
        known,
        mix=True,
        rest=sources[-1],
        augmentations=("gain", "channelswap"),
        samples_per_track=64,
    )


def _warn_of_much_decoding(root: Path, tracks: list[Track], options: DatasetOptions) -> None:
    """Songs that must be decoded whole and do not stay in memory are decoded again for nearly every excerpt."""
    shared = [(track, one) for track in tracks for parts in track.stems.values() for one in parts]
    lengths = {one.key: track.frames for track, one in shared if isinstance(one, SharedRecording)}
    n_bytes = sum(lengths.values()) * len(musdb.STREAMS) * options.n_channels * 2
    if n_bytes > options.decoded_bytes:
        warnings.warn(
            f"{root}: {n_bytes / 1e9:.1f} GB of decoded songs do not fit into the {options.decoded_bytes / 1e9:.1f} GB "
            "kept for them and will be decoded over and over; decode them once with: tfds build datasets/musdb18",
            stacklevel=4,
        )


def musdb_sources(targets: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that a mixture is made of: four, or vocals and accompaniment where that is a target."""
    return ("vocals", ACCOMPANIMENT) if ACCOMPANIMENT in targets else musdb.STEMS


def musdb_track(
    track: musdb.Track, format: Format, songs: DecodedSongs, sources: tuple[str, ...] = musdb.STEMS
) -> Track:
    """A track of `jaxsep.io.musdb`, opened.

    Raises:
        OSError: a file may not be read.
        ValueError: one is no sound, or the track has none of the sources.
    """
    recordings = _stem_file(track, format, songs) if track.is_stem_file else _files(track, format, songs)
    mixture = recordings.pop(musdb.MIXTURE, None)
    absent = [name for name in musdb.STEMS if name not in recordings]
    stems = {name: (recordings[name],) for name in sources if name in recordings}
    if ACCOMPANIMENT in sources:
        parts = tuple(recordings[name] for name in musdb.STEMS if name in recordings and name != "vocals")
        stems |= {ACCOMPANIMENT: parts} if parts else {}
    if not stems:
        raise ValueError(
            f"{track.name}: expected stems named {', '.join(sources)}; got {', '.join(recordings)}"
        )
    hidden = frozenset(absent if _REST in recordings else ())
    return Track(track.name, stems, format.n_channels, mixture, hidden)


def _files(track: musdb.Track, format: Format, songs: DecodedSongs) -> dict[str, Recording]:
    names = (musdb.MIXTURE, *musdb.STEMS)
    return {name: open_file(track.files[name], format, songs) for name in names if name in track.files}


def _stem_file(track: musdb.Track, format: Format, songs: DecodedSongs) -> dict[str, Recording]:
    path = next(iter(track.files.values()))
    lengths, rate = stream_lengths(path)
    if len(lengths) < len(musdb.STREAMS):
        raise ValueError(f"{path}: expected {len(musdb.STREAMS)} sound streams, got {len(lengths)}")
    frames = resampled_length(min(lengths), rate, format.sample_rate)
    decode = partial(_decode, path, format)
    return {
        name: SharedRecording(songs, path, decode, index, frames, format.sample_rate)
        for index, name in enumerate(musdb.STREAMS)
    }


def _decode(path: Path, format: Format) -> Int16[np.ndarray, "stem channel time"]:
    streams, rate = load_streams(path)
    stems = []
    for sound in streams[: len(musdb.STREAMS)]:
        if rate != format.sample_rate:
            resampler = Resampler(rate, format.sample_rate, len(sound))
            sound = np.concatenate([resampler.process(sound), resampler.finish()], axis=1)
        stems.append(to_format(sound, format))
    return np.stack(stems)
