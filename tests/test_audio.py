"""Sound files: round trips in every format, streaming equal to whole, lengths, bad files."""

import os
import resource
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep.io import audio
from jaxsep.io.files import atomic_path
from jaxsep.io.formats import OUTPUT_FORMATS, output_format
from jaxsep.io.resampling import Resampler, resample_blocks, resampled_length

RATE = 44100


def tones(n_channels=2, n_samples=20_001, rate=RATE):
    """A different low tone in each channel: something every codec can keep."""
    time = np.arange(n_samples) / rate
    frequencies = 220.0 * (1 + np.arange(n_channels))[:, None]
    return (0.4 * np.sin(2 * np.pi * frequencies * time)).astype(np.float32)


@pytest.mark.parametrize(
    ("extension", "subtype", "tolerance"),
    [
        (".wav", "FLOAT", 0.0),
        (".aiff", "FLOAT", 0.0),
        # Half a step of the integer grid, 2**-bits, plus the rounding of float32.
        (".wav", None, 2.0**-16 + 1e-7),
        (".wav", "PCM_24", 2.0**-24 + 1e-7),
        (".flac", None, 2.0**-16 + 1e-7),
        (".flac", "PCM_24", 2.0**-24 + 1e-7),
        (".aif", "PCM_16", 2.0**-16 + 1e-7),
        # Lossy codecs: near enough that a shift by one sample would show (it changes the tones by 0.025).
        (".ogg", None, 0.02),
        (".mp3", None, 0.02),
        (".WAV", None, 2.0**-16 + 1e-7),
    ],
)
def test_round_trip(tmp_path, extension, subtype, tolerance):
    path, written = tmp_path / f"x{extension}", tones()
    audio.save(path, written, RATE, subtype=subtype)
    read, rate = audio.load(path)
    assert rate == RATE
    assert read.shape == written.shape and read.dtype == np.float32
    inner = slice(2000, -2000) if tolerance > 1e-3 else slice(None)  # codecs ring at a sudden start
    assert np.abs(read - written)[:, inner].max() <= tolerance


def test_16_bit_samples_survive_unchanged(tmp_path, rng):
    integers = rng.integers(-(2**15), 2**15, (500, 2)).astype(np.int16)
    integers[0] = -(2**15), 2**15 - 1
    soundfile.write(tmp_path / "in.wav", integers, RATE, subtype="PCM_16")
    audio.save(tmp_path / "out.wav", *audio.load(tmp_path / "in.wav"))
    assert np.array_equal(soundfile.read(tmp_path / "out.wav", dtype="int16")[0], integers)


def test_integer_formats_clip_and_float_does_not(tmp_path):
    loud = np.array([[1.5, -1.5, 0.5]], np.float32)
    audio.save(tmp_path / "x.wav", loud, RATE)
    assert np.allclose(audio.load(tmp_path / "x.wav")[0], [[1, -1, 0.5]], atol=2**-15)
    audio.save(tmp_path / "y.wav", loud, RATE, subtype="FLOAT")
    assert np.array_equal(audio.load(tmp_path / "y.wav")[0], loud)


@pytest.mark.parametrize(("extension", "rate", "file_rate"), [(".opus", RATE, 48000), (".mp3", 96000, 48000)])
def test_unknown_rates_become_the_next_known_one(tmp_path, extension, rate, file_rate):
    path, written = tmp_path / f"x{extension}", tones(rate=rate)
    with audio.open_writer(path, rate, 2) as writer:
        assert writer.file_rate == file_rate
        writer.write(written)
    info = audio.info(path)
    assert info.sample_rate == file_rate
    assert info.frames == resampled_length(written.shape[1], rate, file_rate)
    back, _ = audio.load(path, sample_rate=rate)
    n = min(back.shape[1], written.shape[1])
    assert abs(back.shape[1] - written.shape[1]) <= 1
    assert np.abs(back[:, 2000 : n - 2000] - written[:, 2000 : n - 2000]).max() < 0.05


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_m4a_keeps_length_and_alignment(tmp_path, n_channels):
    pytest.importorskip("av")
    path, written = tmp_path / "x.m4a", tones(n_channels)
    audio.save(path, written, RATE)
    assert audio.info(path).frames == written.shape[1]
    read, rate = audio.load(path)
    assert rate == RATE and read.shape == written.shape
    # FFmpeg's AAC is coarse on pure tones; another order of the channels would be 0.8 away.
    assert np.abs(read - written)[:, 2000:-2000].max() < 0.05


@pytest.mark.parametrize(("extension", "codec"), [("webm", "libopus"), ("mkv", "flac"), ("mov", "pcm_s16le")])
def test_reads_other_containers_and_the_sound_of_videos(tmp_path, extension, codec):
    av = pytest.importorskip("av")
    path, rate = tmp_path / f"x.{extension}", 48000
    written = tones(rate=rate)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4" if extension == "mov" else "libvpx", rate=25)
        video.width = video.height = 64
        sound = container.add_stream(codec, rate=rate, layout="stereo")
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
        converter = av.AudioResampler(format=sound.codec_context.format, frame_size=960)
        frame = av.AudioFrame.from_ndarray(written, format="fltp", layout="stereo")
        frame.sample_rate = rate
        frame.pts = 0
        for part in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    read, read_rate = audio.load(path)
    assert read_rate == rate
    assert 0 <= read.shape[1] - written.shape[1] < 1000  # Matroska tells times in milliseconds only
    assert np.abs(read[:, : written.shape[1]] - written)[:, 2000:-2000].max() < 0.02
    part, _ = audio.load(path, start=0.1, duration=0.1)
    assert np.array_equal(part, read[:, 4800:9600])


def test_m4a_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "x.m4a").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"x\.m4a.*pip install 'jaxsep\[formats\]'"):
        audio.info(tmp_path / "x.m4a")
    with pytest.raises(ValueError, match=r"y\.m4a.*pip install"):
        audio.save(tmp_path / "y.m4a", tones(), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.m4a"]


@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3", ".ogg", ".opus"])
def test_a_part_is_a_part_of_the_whole(tmp_path, extension):
    rate = 48000
    audio.save(tmp_path / f"x{extension}", tones(rate=rate, n_samples=48000), rate)
    whole, _ = audio.load(tmp_path / f"x{extension}")
    part, _ = audio.load(tmp_path / f"x{extension}", start=0.3, duration=0.25)
    assert np.array_equal(part, whole[:, 14400:26400])
    tail, _ = audio.load(tmp_path / f"x{extension}", start=0.9, duration=5.0)
    assert np.array_equal(tail, whole[:, 43200:])


def test_blocks_have_the_size_asked_for(tmp_path):
    written = tones(n_samples=1000)
    audio.save(tmp_path / "x.wav", written, RATE, subtype="FLOAT")
    with audio.open_reader(tmp_path / "x.wav", block_size=300) as reader:
        assert (reader.frames, reader.channels, reader.sample_rate) == (1000, 2, RATE)
        blocks = list(reader)
    assert [block.shape for block in blocks] == [(2, 300)] * 3 + [(2, 100)]
    assert all(block.flags.c_contiguous and block.dtype == np.float32 for block in blocks)
    assert np.array_equal(np.concatenate(blocks, axis=1), written)


def test_reader_resamples_like_soxr_at_once(tmp_path):
    written = tones(n_samples=96_001, rate=96_000)
    audio.save(tmp_path / "x.wav", written, 96_000, subtype="FLOAT")
    with audio.open_reader(tmp_path / "x.wav", sample_rate=44100.0, block_size=1000) as reader:
        blocks = list(reader)
        assert reader.frames == sum(block.shape[1] for block in blocks) == 44100
    expected = soxr.resample(written.T, 96_000, 44_100, quality="HQ").T
    # The same filter on the same samples.
    assert np.abs(np.concatenate(blocks, axis=1) - expected).max() < 1e-6


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    n_samples=st.integers(1, 3000),
    rates=st.sampled_from([(44100, 48000), (96000, 44100), (8000, 44100), (44100, 8000), (44100, 44100.0)]),
    block=st.integers(1, 3000),
)
def test_resampler_gives_the_length_it_promises_in_any_blocks(n_samples, rates, block):
    samples = np.random.default_rng(n_samples).standard_normal((2, n_samples)).astype(np.float32)
    kept = samples.copy()
    parts = [samples[:, i : i + block] for i in range(0, n_samples, block)]
    out = np.concatenate(list(resample_blocks(parts, *rates)), axis=1)
    assert out.shape == (2, resampled_length(n_samples, *rates))
    at_once = np.concatenate(list(resample_blocks([samples], *rates)), axis=1)
    assert np.array_equal(out, at_once)
    assert np.array_equal(samples, kept)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
@pytest.mark.parametrize("n_samples", [1, 2, 100, 9001])
def test_there_and_back_is_as_long_as_the_input(rate, n_samples):
    there = Resampler(rate, 44100, 1)
    back = Resampler(44100, rate, 1)
    samples = tones(1, n_samples, rate)
    middle = np.concatenate([there.process(samples), there.finish()], axis=1)
    assert middle.shape[1] >= 1
    out = np.concatenate([back.process(middle), back.finish(length=n_samples)], axis=1)
    assert out.shape == samples.shape
    if n_samples > 5000:
        assert np.abs(out - samples)[:, 500:-500].max() < 1e-4


def test_lengths_round_half_up():
    assert [resampled_length(n, 2, 1) for n in range(6)] == [0, 1, 1, 2, 2, 3]
    assert resampled_length(1, 48000, 8000) == 1


@pytest.mark.parametrize("rate", [8000, 96000])
@pytest.mark.parametrize("n_channels", [1, 6])
@pytest.mark.parametrize("n_samples", [1, 100])
def test_odd_sounds(tmp_path, rate, n_channels, n_samples):
    written = tones(n_channels, n_samples, rate)
    audio.save(tmp_path / "x.flac", written, rate, subtype="PCM_24")
    read, _ = audio.load(tmp_path / "x.flac")
    assert read.shape == written.shape
    resampled, _ = audio.load(tmp_path / "x.flac", sample_rate=44100)
    assert resampled.shape == (n_channels, resampled_length(n_samples, rate, 44100))


def test_unwritten_length_of_a_flac_stream(tmp_path):
    pytest.importorskip("av")
    audio.save(tmp_path / "x.flac", tones(n_samples=5000), RATE)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[21] &= 0xF0  # the 36-bit count of samples in the first metadata block
    data[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(data)
    with audio.open_reader(tmp_path / "x.flac") as reader:
        assert reader.frames is None and reader.info.duration is None
        assert sum(block.shape[1] for block in reader) == 5000


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(seconds):
        with audio.open_writer(tmp_path / "x.wav", RATE, 2) as writer:
            for _ in range(seconds):
                writer.write(np.zeros((2, RATE), np.float32))
        tracemalloc.start()
        with audio.open_reader(tmp_path / "x.wav", sample_rate=48000) as reader:
            total = sum(block.shape[1] for block in reader)
        assert total == seconds * 48000
        measured = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return measured

    assert peak(60) < 1.2 * peak(15)  # 15 s more than fill all buffers


BAD_FILES = {
    "empty.wav": (b"", "got an empty file"),
    "text.wav": (b"not a sound\n" * 50, "text.wav"),
    "text.mp3": (b"not a sound\n" * 50, "text.mp3"),
    "text.m4a": (b"not a sound\n" * 50, "expected a sound file, got something else"),
    # A play list must not make us open what it names.
    "list.m4a": (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1\nother.m4a\n", "list.m4a"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_told_in_one_line(tmp_path, name):
    pytest.importorskip("av")
    data, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        audio.load(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_folder_a_missing_file_and_a_pipe(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(ValueError, match=r"folder\.wav: expected a sound file, got a folder"):
        audio.info(tmp_path / "folder.wav")
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        audio.load(tmp_path / "missing.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(ValueError, match=r"pipe\.wav: expected a sound file, got a device or pipe"):
        audio.load(tmp_path / "pipe.wav")


def test_sounds_without_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(ValueError, match=r"none\.wav.*got no samples"):
        audio.load(tmp_path / "none.wav")
    audio.save(tmp_path / "short.wav", tones(n_samples=100), RATE)
    with pytest.raises(ValueError, match=r"short\.wav.*got no samples after 1 s"):
        audio.load(tmp_path / "short.wav", start=1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path, bad):
    samples = tones(n_samples=RATE)
    samples[1, 22050] = bad
    soundfile.write(tmp_path / "x.wav", samples.T, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"x\.wav: expected finite samples, got NaN or infinity at 0\.500 s"):
        audio.load(tmp_path / "x.wav")
    with pytest.raises(ValueError, match=r"infinity at 0\.500 s"):
        audio.load(tmp_path / "x.wav", start=0.25)
    assert audio.load(tmp_path / "x.wav", duration=0.4)[0].shape == (2, 17640)
    with pytest.raises(ValueError, match="expected finite samples to write"):
        audio.save(tmp_path / "y.wav", samples, RATE)
    assert not (tmp_path / "y.wav").exists()


def test_damaged_in_the_middle(tmp_path, rng):
    audio.save(tmp_path / "x.flac", 0.1 * rng.standard_normal((2, 200_000)), RATE)
    data = (tmp_path / "x.flac").read_bytes()
    (tmp_path / "x.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"x\.flac: damaged sound file"):
        audio.load(tmp_path / "x.flac")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1.0}, "start: expected 0 or more seconds, got -1"),
        ({"start": float("nan")}, "start"),
        ({"duration": 0.0}, "duration: expected more than 0 seconds, got 0"),
        ({"duration": -2.0}, "duration"),
        ({"sample_rate": 0}, "expected a positive sample rate"),
    ],
)
def test_bad_options(tmp_path, options, message):
    audio.save(tmp_path / "x.wav", tones(), RATE)
    with pytest.raises(ValueError, match=message):
        audio.load(tmp_path / "x.wav", **options)
    with pytest.raises(ValueError, match="block_size"), audio.open_reader(tmp_path / "x.wav", block_size=0):
        pass


@pytest.mark.parametrize(
    ("extension", "subtype", "n_channels", "message"),
    [
        (".xyz", None, 2, r"expected one of the extensions \.wav, .*; got '\.xyz'"),
        ("", None, 2, "got ''"),
        (".flac", "FLOAT", 2, "expected the subtype PCM_16 or PCM_24, got 'FLOAT'"),
        (".mp3", "PCM_16", 2, "MPEG_LAYER_III"),
        (".mp3", None, 6, "expected 1 to 2 channels, got 6"),
        (".flac", None, 9, "expected 1 to 8 channels, got 9"),
        (".wav", None, 0, "expected 1 to 1024 channels, got 0"),
    ],
)
def test_formats_refuse_what_they_cannot_hold(tmp_path, extension, subtype, n_channels, message):
    with pytest.raises(ValueError, match=message):
        output_format(extension, subtype=subtype, channels=n_channels)
    with (
        pytest.raises(ValueError, match=message),
        audio.open_writer(tmp_path / f"x{extension}", RATE, n_channels, subtype=subtype),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_writer_refuses_other_shapes_and_rates(tmp_path):
    with (
        pytest.raises(ValueError, match=r"channel=2, time\), got \(3, 10\)"),
        audio.open_writer(tmp_path / "x.wav", RATE, 2) as writer,
    ):
        writer.write(np.zeros((3, 10), np.float32))
    with pytest.raises(ValueError, match=r"whole number of Hz, got 44100\.5"):
        audio.save(tmp_path / "x.wav", tones(), 44100.5)
    with pytest.raises(ValueError, match=r"expected audio \(channel, time\), got shape \(5,\)"):
        audio.save(tmp_path / "x.wav", np.zeros(5, np.float32), RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("extension", [".wav", ".flac", ".mp3", ".m4a"])
def test_nothing_half_written_stays(tmp_path, error, extension):
    if extension == ".m4a":
        pytest.importorskip("av")
    path = tmp_path / f"x{extension}"
    path.write_bytes(b"what was there")
    with pytest.raises(error), audio.open_writer(path, RATE, 2) as writer:
        writer.write(tones())
        assert path.read_bytes() == b"what was there"
        raise error
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"what was there"


def test_unwritable_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no-folder/x\.wav"):
        audio.save(tmp_path / "no-folder" / "x.wav", tones(), RATE)
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(IsADirectoryError, match=r"x\.wav: expected a file to write, got a folder"):
        audio.save(tmp_path / "x.wav", tones(), RATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file/x\.wav"):
        audio.save(tmp_path / "file" / "x.wav", tones(), RATE)


FULL_DISK = """
import resource, sys
import numpy as np
from jaxsep.io import audio

try:
    import av
except ImportError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = 0.1 * np.random.default_rng(0).standard_normal((2, 400_000)).astype(np.float32)
for name in sys.argv[1:]:
    try:
        audio.save(name, noise, 48000)
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits a process's file size")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    names = [str(tmp_path / f"x{extension}") for extension in OUTPUT_FORMATS]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *names], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(names), done
    assert all("cannot write" in line and name in line for line, name in zip(lines, names, strict=True))
    assert not list(tmp_path.iterdir())


def test_large_wav_files_get_the_large_header(tmp_path):
    for name, frames, form in (("small.wav", 1000, "WAV"), ("large.wav", 2**30 + 1, "RF64")):
        with audio.open_writer(tmp_path / name, RATE, 2, frames=frames) as writer:
            writer.write(tones(n_samples=1000))
        info = audio.info(tmp_path / name)
        assert (info.container, info.frames) == (form, 1000)


def test_more_sound_than_a_wav_header_can_count_is_refused(tmp_path, monkeypatch):
    with (
        pytest.raises(ValueError, match=r"x\.wav: expected no more sound"),
        audio.open_writer(tmp_path / "x.wav", RATE, 2) as writer,
    ):
        monkeypatch.setattr(writer._sink, "_room", 4000)
        writer.write(tones(n_samples=1001))
    assert not list(tmp_path.iterdir())


def test_atomic_path_follows_the_umask_and_runs_in_threads(tmp_path):
    def write(number):
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_text(str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_imports_neither_jax_nor_torch():
    code = (
        "import sys, jaxsep.io.audio, jaxsep.io.zoo; print({'jax', 'flax', 'torch', 'av'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
