"""Files in, files out: rates, channels, levels, names, and nothing half-written."""

import numpy as np
import pytest
import soundfile

from jaxsep.config import SeparationConfig
from jaxsep.output import OutputConfig
from jaxsep.stem_files import separate_file
from tests.models import TARGETS, tiny_separator


@pytest.fixture(scope="module")
def separator(tmp_path_factory):
    return tiny_separator(tmp_path_factory.mktemp("model"))


def write(path, n=20000, rate=44100, channels=2, level=0.2, subtype="FLOAT", seed=0):
    audio = level * np.random.default_rng(seed).standard_normal((n, channels))
    soundfile.write(path, audio, rate, subtype=subtype)
    return soundfile.read(path, always_2d=True)[0]


def stems_of(made) -> dict[str, np.ndarray]:
    return {name: soundfile.read(path, always_2d=True)[0] for name, path in made.stems.items()}


@pytest.mark.parametrize(
    ("n", "rate", "channels"),
    [(1, 44100, 2), (100, 44100, 1), (9000, 8000, 1), (9000, 96000, 2), (5000, 48000, 6), (5000, 44100, 3)],
)
def test_stems_have_the_files_length_rate_and_channels(separator, tmp_path, n, rate, channels):
    song = tmp_path / "song.wav"
    write(song, n, rate, channels)
    made = separate_file(song, separator, output=OutputConfig(folder=tmp_path / "out"))
    assert list(made.stems) == list(TARGETS)
    for path in made.stems.values():
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels) == (n, rate, channels)
    assert made.duration == pytest.approx(n / rate)


def test_silence_in_gives_silence_out(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song, level=0.0)
    made = separate_file(song, separator, output=OutputConfig(folder=tmp_path / "out", subtype="FLOAT"))
    assert all(not stem.any() for stem in stems_of(made).values())
    assert made.gain == 1.0


@pytest.mark.parametrize(
    # The last: so short and slow that the resampler's first pieces are empty.
    ("rate", "n"),
    [(44100, 30000), (96000, 30000), (22050, 30000), (4000, 500)],
)
@pytest.mark.parametrize("residual", [False, True])
def test_consistent_stems_sum_to_the_file(separator, tmp_path, rate, n, residual):
    song = tmp_path / "song.wav"
    mixture = write(song, n, rate)
    made = separate_file(
        song,
        separator,
        config=SeparationConfig(consistency=True, residual=residual),
        output=OutputConfig(folder=tmp_path / "out", subtype="FLOAT", clip="none"),
    )
    total = sum(np.float32(stem) for stem in stems_of(made).values())
    # Five float32 numbers of order 1 are added here: one rounding each.
    np.testing.assert_allclose(total, mixture, rtol=0, atol=5 * np.finfo(np.float32).eps)


def test_one_gain_for_all_stems_of_a_loud_song(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song, level=3.0)
    raw = separate_file(
        song, separator, output=OutputConfig(folder=tmp_path / "raw", subtype="FLOAT", clip="none")
    )
    made = separate_file(song, separator, output=OutputConfig(folder=tmp_path / "out"))
    assert made.gain < 1.0
    before, after = stems_of(raw), stems_of(made)
    assert max(np.abs(stem).max() for stem in after.values()) == pytest.approx(1.0, abs=1e-4)
    for name in TARGETS:
        # Half a step of 16 bit, and its rounding.
        np.testing.assert_allclose(after[name], made.gain * before[name], rtol=0, atol=0.51 / 32768)


def test_clamp_cuts_peaks_and_leaves_the_rest(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song, level=3.0)
    options = {"subtype": "FLOAT"}
    raw = separate_file(song, separator, output=OutputConfig(folder=tmp_path / "raw", clip="none", **options))
    cut = separate_file(
        song, separator, output=OutputConfig(folder=tmp_path / "cut", clip="clamp", **options)
    )
    for name, stem in stems_of(raw).items():
        np.testing.assert_array_equal(stems_of(cut)[name], np.clip(stem, -1, 1))


def test_sums_of_stems(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song)
    whole = stems_of(
        separate_file(
            song, separator, output=OutputConfig(folder=tmp_path / "a", subtype="FLOAT", clip="none")
        )
    )
    two = stems_of(
        separate_file(
            song,
            separator,
            output=OutputConfig(folder=tmp_path / "b", subtype="FLOAT", clip="none", two_stems="drums"),
        )
    )
    assert list(two) == ["drums", "no_drums"]
    np.testing.assert_array_equal(two["drums"], whole["drums"])
    rest = whole["vocals"] + whole["bass"] + whole["other"]
    np.testing.assert_allclose(two["no_drums"], rest, atol=1e-6)  # another order of three float32 sums


def test_start_and_duration_give_that_part(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song, 44100)
    made = separate_file(
        song, separator, output=OutputConfig(folder=tmp_path / "a"), start=0.25, duration=0.5
    )
    assert made.duration == pytest.approx(0.5)
    rest = separate_file(song, separator, output=OutputConfig(folder=tmp_path / "b"), start=0.25)
    assert rest.duration == pytest.approx(0.75)


def test_existing_stems_are_kept_unless_told_otherwise(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song)
    output = OutputConfig(folder=tmp_path / "out")
    first = separate_file(song, separator, output=output)
    with pytest.raises(FileExistsError, match="exists already"):
        separate_file(song, separator, output=output)
    again = OutputConfig(folder=tmp_path / "out", overwrite=True)
    assert separate_file(song, separator, output=again).stems == first.stems


@pytest.mark.parametrize("clip", ["rescale", "clamp"])
def test_interruption_leaves_nothing(separator, tmp_path, clip):
    song = tmp_path / "song.wav"
    write(song, 80000)

    def interrupt(done: float) -> None:
        if done > 0.8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        separate_file(
            song, separator, output=OutputConfig(folder=tmp_path / "out", clip=clip), progress=interrupt
        )
    assert not (tmp_path / "out").exists()


def test_a_song_that_breaks_off_leaves_nothing(separator, tmp_path):
    song = tmp_path / "song.wav"
    audio = np.zeros((200000, 2), np.float32)
    audio[150000] = np.nan
    soundfile.write(song, audio, 44100, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"song\.wav.*NaN.*3\.4"):
        separate_file(song, separator, output=OutputConfig(folder=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unwritable_folder_is_told_before_the_work(separator, tmp_path):
    song = tmp_path / "song.wav"
    write(song)
    (tmp_path / "out").write_text("a file where the folder should be")
    calls = []
    with pytest.raises(OSError, match="out"):
        separate_file(song, separator, output=OutputConfig(folder=tmp_path / "out"), progress=calls.append)
    assert calls == []
