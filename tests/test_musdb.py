"""Folders of tracks, as they come and as people make them."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsep.io import audio, musdb, stemfile
from tests.stem_file import write_stem_file


def write(path, n=64, rate=8000, channels=1, value=0.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.save(path, np.full((channels, n), value, np.float32), rate)


def test_musdb_hq_has_three_subsets(tmp_path):
    valid = "ANiMAL - Rockshow"
    for subset, names in {"train": ["Zoo - A", valid], "test": ["Moon - Über", "Ape - B"]}.items():
        for name in names:
            for stem in ("mixture", *musdb.STEMS):
                write(tmp_path / subset / name / f"{stem}.wav")
    assert [t.name for t in musdb.find_tracks(tmp_path, subset="test")] == ["Ape - B", "Moon - Über"]
    assert [t.name for t in musdb.find_tracks(tmp_path, subset="train")] == ["Zoo - A"]
    assert [t.name for t in musdb.find_tracks(tmp_path, subset="valid")] == [valid]
    everything = musdb.find_tracks(tmp_path)
    assert [track.subset for track in everything] == ["test", "test", "train", "valid"]
    assert all(track.stems == musdb.STEMS for track in everything)
    assert musdb.find_tracks(tmp_path / "test")[0].subset == ""


def test_a_folder_of_ones_own_may_have_its_validation_tracks_apart(tmp_path):
    for folder in ("train/mine", "valid/yours", "train/Triviul - Angelsaint"):
        write(tmp_path / folder / "drums.wav")
    valid = musdb.find_tracks(tmp_path, subset="valid")
    assert [track.name for track in valid] == ["Triviul - Angelsaint", "yours"]
    assert [track.name for track in musdb.find_tracks(tmp_path, subset="train")] == ["mine"]


def test_there_are_14_validation_tracks():
    assert len(musdb.VALIDATION_TRACKS) == 14


def test_any_folder_of_stems(tmp_path):
    write(tmp_path / "album" / "song.one" / "violin.flac")
    write(tmp_path / "album" / "song.one" / "drums.wav")
    write(tmp_path / "album" / "song.one" / ".hidden.wav")
    (tmp_path / "album" / "song.one" / "notes.txt").write_text("not a sound")
    (track,) = musdb.find_tracks(tmp_path)
    assert (track.name, track.subset, track.stems) == ("album/song.one", "", ("drums", "violin"))
    assert not track.is_stem_file
    (same,) = musdb.find_tracks(tmp_path / "album" / "song.one")
    assert (same.name, same.stems) == ("song.one", track.stems)


def test_stems_are_read_by_name(tmp_path):
    for number, stem in enumerate(("mixture", "vocals", "drums"), 1):
        write(tmp_path / f"{stem}.wav", value=number / 8)
    (track,) = musdb.find_tracks(tmp_path)
    sounds, rate = musdb.load_stems(track)
    assert rate == 8000 and list(sounds) == ["vocals", "drums"]
    assert (sounds["vocals"] == 0.25).all() and (sounds["drums"] == 0.375).all()
    sounds, _ = musdb.load_stems(track, ["mixture"], sample_rate=4000)
    assert sounds["mixture"].shape == (1, 32)
    with pytest.raises(ValueError, match=r"expected stems among .*; got kazoo"):
        musdb.load_stems(track, ["kazoo"])


def test_files_of_another_rate_follow_the_first(tmp_path):
    write(tmp_path / "vocals.wav", n=80, rate=8000)
    write(tmp_path / "drums.wav", n=160, rate=16000)
    (track,) = musdb.find_tracks(tmp_path)
    sounds, rate = musdb.load_stems(track)
    assert rate == 8000 and {sound.shape for sound in sounds.values()} == {(1, 80)}


def test_stem_files_hold_all_stems(tmp_path):
    time = np.arange(20000) / 44100
    stems = [
        np.tile(0.1 * np.sin(2 * np.pi * f * time), (2, 1)).astype(np.float32)
        for f in (100, 200, 300, 400, 500)
    ]
    write_stem_file(tmp_path / "test" / "A - Song.stem.mp4", stems)
    (track,) = musdb.find_tracks(tmp_path, subset="test")
    assert (track.name, track.stems, track.is_stem_file) == ("A - Song", musdb.STEMS, True)
    sounds, rate = musdb.load_stems(track, ["mixture", *musdb.STEMS])
    assert rate == 44100
    order = ["mixture", "drums", "bass", "other", "vocals"]
    for name, stem in zip(order, stems, strict=True):
        n = min(sounds[name].shape[1], stem.shape[1])
        assert n >= 19000
        error = sounds[name][:, 3000 : n - 3000] - stem[:, 3000 : n - 3000]
        assert np.abs(error).max() < 0.01  # AAC; another stem's tone would be off by 0.2
    n = sounds["vocals"].shape[1]
    sounds, rate = musdb.load_stems(track, ["vocals"], sample_rate=22050)
    assert rate == 22050 and sounds["vocals"].shape == (2, -(-n // 2))
    np.testing.assert_allclose(
        sounds["vocals"][:, 1500:-1500], stems[-1][:, ::2][:, 1500 : -(-n // 2) - 1500], atol=0.01
    )


def test_packets_without_a_duration_are_kept_whole():
    """A later packet that does not say how long it is must not be cut by what an earlier one said."""
    av = pytest.importorskip("av")
    stream = SimpleNamespace(index=0, time_base=Fraction(1, 8000), rate=8000)

    def packet(pts, duration):
        frame = av.AudioFrame.from_ndarray(np.ones((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 8000, pts
        return SimpleNamespace(
            stream_index=0, stream=stream, pts=pts, duration=duration, decode=lambda: [frame]
        )

    for durations, expected in (((1024, None), 2048), ((1024, 1000), 2024), ((None, None), 2048)):
        container = SimpleNamespace(
            name="a",
            demux=lambda _, durations=durations: [packet(1024 * i, d) for i, d in enumerate(durations)],
        )
        assert stemfile._decode(av, container, [stream]).shape == (1, 2, expected)


@pytest.mark.parametrize("n_streams", [1, 2])
def test_a_stem_file_needs_five_streams(tmp_path, n_streams):
    write_stem_file(tmp_path / "a.stem.mp4", n_streams * [np.zeros((2, 4096), np.float32)])
    (track,) = musdb.find_tracks(tmp_path)
    with pytest.raises(ValueError, match=f"expected 5 sound streams, got {n_streams}"):
        musdb.load_stems(track)


def test_a_stem_file_that_is_none(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "a.stem.mp4").write_text("no film, no sound")
    (track,) = musdb.find_tracks(tmp_path)
    with pytest.raises(ValueError, match="damaged stem file"):
        musdb.load_stems(track)


def test_what_is_no_folder_of_tracks(tmp_path):
    with pytest.raises(ValueError, match="expected folders of stems"):
        musdb.find_tracks(tmp_path)
    with pytest.raises(ValueError, match="got nothing there"):
        musdb.find_tracks(tmp_path / "missing")
    write(tmp_path / "train" / "song" / "drums.wav")
    with pytest.raises(ValueError, match="got a file"):
        musdb.find_tracks(tmp_path / "train" / "song" / "drums.wav")
    with pytest.raises(ValueError, match="none in the subset test"):
        musdb.find_tracks(tmp_path, subset="test")
    with pytest.raises(ValueError, match="expected one of train, valid, test"):
        musdb.find_tracks(tmp_path, subset="dev")
    write(tmp_path / "test" / "song" / "drums.wav")
    with pytest.raises(
        ValueError, match=r"train/song/drums.wav: expected tracks of different names, got .*test"
    ):
        musdb.find_tracks(tmp_path)
    (tmp_path / "test" / "song.stem.mp4").touch()
    with pytest.raises(
        ValueError, match=r"song.stem.mp4: expected tracks of different names, got .*drums.wav"
    ):
        musdb.find_tracks(tmp_path)
    (tmp_path / "test" / "song.stem.mp4").unlink()
    write(tmp_path / "train" / "song" / "drums.flac")
    with pytest.raises(ValueError, match="expected one file a stem"):
        musdb.find_tracks(tmp_path)
