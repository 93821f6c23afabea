"""Stems read anywhere, whatever the file holds."""

import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.recordings import DecodedSongs, Difference, Format, open_file, to_format
from jaxsep.io import audio

RATE = 8000


@pytest.fixture
def songs():
    return DecodedSongs(1 << 24)


def noise(n=RATE, channels=2, seed=0, peak=20000):
    rng = np.random.default_rng(seed)
    return rng.integers(-peak, peak, (channels, n)).astype(np.int16)


def write(path, sound, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.T, rate, **options)
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_any_excerpt_is_that_part_of_the_file(tmp_path, songs, name):
    sound = noise(997)
    recording = open_file(write(tmp_path / name, sound), Format(RATE, 2), songs)
    assert recording.frames == 997

    @settings(max_examples=40, deadline=None)
    @given(st.integers(-50, 1010), st.integers(1, 300))
    def check(start, count):
        around = np.zeros((2, 2000), np.int16)
        around[:, 100 : 100 + 997] = sound
        np.testing.assert_array_equal(
            recording.read(start, count), around[:, 100 + start : 100 + start + count]
        )

    check()


def test_what_is_compressed_is_read_like_the_whole_decoded_song(tmp_path, songs):
    path = write(tmp_path / "a.ogg", noise(3000))
    whole, _ = audio.load(path)
    recording = open_file(path, Format(RATE, 2), songs)
    assert recording.frames == 3000
    expected = to_format(whole, Format(RATE, 2))
    np.testing.assert_array_equal(recording.read(1234, 500), expected[:, 1234:1734])


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(48000, 44100), (44100, 16000), (8000, 44100), (8000, 8001)]
)
def test_a_resampled_excerpt_is_a_part_of_the_resampled_file(tmp_path, songs, rate_in, rate_out):
    n = 40000
    time = np.arange(n) / rate_in
    sound = (8000 * np.sin(2 * np.pi * 440 * time) + noise(n, 1, peak=6000)).astype(np.int16)
    path = write(tmp_path / "a.wav", sound, rate_in)
    whole, _ = audio.load(path, sample_rate=rate_out)
    recording = open_file(path, Format(rate_out, 1), songs)
    assert recording.frames == whole.shape[1]
    expected = to_format(whole, Format(rate_out, 1)).astype(int)
    for start in (0, 1, 5000, recording.frames // 2, recording.frames - 2000):
        # 1 of 32768: both are rounded, the filter's state differs in the last bit.
        got = recording.read(start, 2000)
        assert np.abs(got - expected[:, start : start + 2000]).max() <= 1


def test_channels_become_those_asked_for(tmp_path, songs):
    left, right, third = noise(50, 3)
    mono = open_file(write(tmp_path / "mono.wav", left[None]), Format(RATE, 2), songs)
    np.testing.assert_array_equal(mono.read(0, 50), np.stack([left, left]))
    surround = write(tmp_path / "surround.wav", np.stack([left, right, third]))
    np.testing.assert_array_equal(
        open_file(surround, Format(RATE, 2), songs).read(0, 50), np.stack([left, right])
    )
    stereo = write(tmp_path / "stereo.wav", np.stack([left, right]))
    mean = open_file(stereo, Format(RATE, 1), songs).read(0, 50)
    np.testing.assert_allclose(mean[0], (left.astype(float) + right) / 2, atol=0.5)


def test_float_files_are_rounded_and_clipped(tmp_path, songs):
    sound = np.array([[0.5, 1.5, -1.5, 1e-5, 2e-5]], np.float32)
    path = write(tmp_path / "a.wav", sound, subtype="FLOAT")
    assert open_file(path, Format(RATE, 1), songs).read(0, 5).tolist() == [[16384, 32767, -32768, 0, 1]]
    deep = write(tmp_path / "b.wav", np.array([[0.5 + 0.6 / 32768]]), subtype="PCM_24")
    assert open_file(deep, Format(RATE, 1), songs).read(0, 1).tolist() == [[16385]]


def test_a_difference_may_exceed_full_scale(tmp_path, songs):
    mixture, source = np.full((1, 9), 30000, np.int16), np.full((1, 7), -30000, np.int16)
    format = Format(RATE, 1)
    both = [
        open_file(write(tmp_path / f"{i}.wav", x), format, songs) for i, x in enumerate((mixture, source))
    ]
    rest = Difference(*both)
    assert rest.frames == 7
    assert rest.read(0, 7).tolist() == [7 * [60000]]


def test_damage_is_one_line_that_names_the_file(tmp_path, songs):
    flac = write(tmp_path / "cut.flac", noise(40000))
    flac.write_bytes(flac.read_bytes()[:20000])
    with pytest.raises(ValueError, match=r"cut\.flac: damaged sound file"):
        open_file(flac, Format(RATE, 2), songs).read(30000, 5000)
    wav = write(tmp_path / "later.wav", noise(4000))
    recording = open_file(wav, Format(RATE, 2), songs)
    write(wav, noise(1000))
    with pytest.raises(ValueError, match=r"later\.wav: damaged sound file \(expected 500 samples after 2000"):
        recording.read(2000, 500)
    wav.unlink()
    with pytest.raises((OSError, ValueError), match=r"later\.wav"):
        recording.read(0, 500)
    nan = write(tmp_path / "nan.wav", np.full((1, 9), np.nan), subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav: expected finite samples"):
        open_file(nan, Format(RATE, 1), songs).read(0, 9)
    (tmp_path / "text.wav").write_text("no sound at all")
    with pytest.raises(ValueError, match=r"text\.wav"):
        open_file(tmp_path / "text.wav", Format(RATE, 1), songs)
    ogg = write(tmp_path / "cut.ogg", noise(40000))
    recording = open_file(ogg, Format(RATE, 2), songs)
    ogg.write_bytes(ogg.read_bytes()[: ogg.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.ogg: damaged sound file"):
        recording.read(0, 500)


def test_decoded_songs_stay_within_their_memory():
    songs, made = DecodedSongs(3 * 200), []

    def song(key):
        return songs.get(key, lambda: made.append(key) or np.full((1, 1, 100), key, np.int16))

    for key in (1, 2, 3, 1, 4, 1, 3, 2):
        assert (song(key) == key).all()
    assert made == [1, 2, 3, 4, 2]  # 4 takes the place of 2, which was not used for longest
    with pytest.raises(ValueError, match="read-only"):
        song(2)[0, 0, 0] = 1


def test_a_song_wanted_twice_at_once_is_decoded_once():
    songs, made, gate = DecodedSongs(1 << 20), [], threading.Barrier(4)

    def decode():
        made.append(1)
        return np.zeros((1, 1, 4), np.int16)

    def want():
        gate.wait()
        songs.get("a", decode)

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_song_that_cannot_be_decoded_is_tried_again():
    songs = DecodedSongs(1 << 20)
    with pytest.raises(ZeroDivisionError):
        songs.get("a", lambda: 1 // 0)
    assert songs.get("a", lambda: np.ones((1, 1, 1), np.int16)).sum() == 1
