"""What is read of MUSDB18 beside the musdb package, which asks the ffmpeg program."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datasets.musdb import stem_recordings
from datasets.recordings import DecodedSongs, Format
from jaxsep.io import musdb

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="musdb wants the ffmpeg program"),
    pytest.mark.filterwarnings("ignore"),  # of the original's own imports
]

FULL_SCALE = 32768
SAMPLES = 268_288  # of the song that comes with stempeg
VALID = "Triviul - Angelsaint"


@pytest.fixture(scope="module")
def original():
    return pytest.importorskip("musdb")


@pytest.fixture(scope="module")
def root(original, tmp_path_factory):
    """MUSDB18's folder with a real song, twice as stem file, in both halves of `train`, and once in `test`."""
    stempeg = pytest.importorskip("stempeg")
    (song,) = Path(stempeg.__file__).parent.glob("data/*.stem.mp4")
    folder = tmp_path_factory.mktemp("musdb18")
    for name in ("train/Some - Song", f"train/{VALID}", "test/The Easton Ellises - Falcon 69"):
        path = folder / f"{name}.stem.mp4"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(song, path)
    return folder


@pytest.fixture(scope="module")
def hq_root(original, root, tmp_path_factory):
    """The same as MUSDB18-HQ, decoded by the original."""
    folder = tmp_path_factory.mktemp("musdb18hq")
    for track in original.DB(root=str(root)):
        target = folder / track.subset / track.name
        target.mkdir(parents=True)
        for name, audio in {"mixture": track.audio, **{n: s.audio for n, s in track.sources.items()}}.items():
            soundfile.write(target / f"{name}.wav", audio, track.rate, subtype="PCM_16")
    return folder


def opened(root, subset):
    (track,) = musdb.find_tracks(root, subset=subset)
    return track, stem_recordings(track, Format(44100, 2), DecodedSongs(1 << 30))


def theirs(audio):
    return np.rint(audio.T * FULL_SCALE).astype(int)


def test_tracks_names_and_subsets(original, root, hq_root):
    for folder, is_wav in ((root, False), (hq_root, True)):
        for subset, chosen in {
            "train": {"subsets": "train", "split": "train"},
            "valid": {"subsets": "train", "split": "valid"},
            "test": {"subsets": "test"},
        }.items():
            database = original.DB(root=str(folder), is_wav=is_wav, **chosen)
            found = musdb.find_tracks(folder, subset=subset)
            assert [track.name for track in found] == [track.name for track in database]
    assert set(database.setup["validation_tracks"]) == musdb.VALIDATION_TRACKS
    assert set(database.setup["sources"]) == set(musdb.STEMS)
    order = sorted(database.setup["stem_ids"], key=database.setup["stem_ids"].get)
    assert tuple(order) == musdb.STREAMS


def test_stem_files_have_the_same_length_and_samples(original, root):
    (database,) = original.DB(root=str(root), subsets="test")
    _, recordings = opened(root, "test")
    sounds = {"mixture": database.audio, **{name: source.audio for name, source in database.sources.items()}}
    assert set(sounds) == set(recordings)
    for name, sound in sounds.items():
        recording = recordings[name]
        assert recording.frames == len(sound) == database.samples == SAMPLES
        ours = recording.read(0, recording.frames)
        difference = np.abs(ours - theirs(sound))
        # Both decode to floats and round; another FFmpeg adds its last bits in another order.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_an_excerpt_is_the_same_part_of_the_song(original, root):
    (database,) = original.DB(root=str(root), subsets="test")
    _, recordings = opened(root, "test")
    database.chunk_start, database.chunk_duration = 2.0, 1.5
    ours = recordings["vocals"].read(2 * 44100, 3 * 44100 // 2)
    assert np.abs(ours - theirs(database.sources["vocals"].audio)).max() <= 1


def test_wav_files_are_equal_in_every_sample(original, hq_root):
    (database,) = original.DB(root=str(hq_root), is_wav=True, subsets="train", split="valid")
    track, recordings = opened(hq_root, "valid")
    assert track.name == VALID
    for name, sound in (("mixture", database.audio), ("bass", database.sources["bass"].audio)):
        ours = recordings[name].read(0, recordings[name].frames)
        np.testing.assert_array_equal(ours, theirs(sound))
