"""The command line as its users meet it: one clear line for what goes wrong, and no traceback."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxsep import cli
from jaxsep.cli import common, stopping
from tests.models import TARGETS, tiny_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """The user's cache is none of the tests' business."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("JAXSEP_CACHE", str(folder))


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((20000, 2)), 44100)
    return path


def run(*arguments) -> int:
    return cli.main(["separate", *map(str, arguments)])


def test_stems_of_many_songs(model, song, tmp_path, capsys):
    second = tmp_path / "second.flac"
    soundfile.write(second, 0.1 * np.ones((5000, 1)), 22050)
    out = tmp_path / "out"
    assert run(song, second, "--model", model, "--outdir", out, "--ext", ".flac") == 0
    for track in ("song", "second"):
        assert sorted(path.stem for path in (out / track).iterdir()) == sorted(TARGETS)
    said = capsys.readouterr().out
    assert "on cpu" in said and "CC0" in said and "x real time" in said
    assert run(song, second, "--model", model, "--outdir", out, "--ext", "flac") == 0
    assert "there already" in capsys.readouterr().out


def test_options_reach_the_stems(model, song, tmp_path):
    options = ["--targets", "drums", "bass", "--residual", "rest", "--niter", 0, "--softmask"]
    assert run(song, "--model", model, "--outdir", tmp_path / "a", "--quiet", *options) == 0
    assert sorted(p.name for p in (tmp_path / "a" / "song").iterdir()) == [
        "bass.wav",
        "drums.wav",
        "rest.wav",
    ]
    options = ["--aggregate", '{"band": ["drums", "bass", "other"]}', "--filename", "{track} {stem}.{ext}"]
    assert run(song, "--model", model, "--outdir", tmp_path / "b", "--quiet", *options) == 0
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["song band.wav"]
    assert run(song, "--model", model, "--outdir", tmp_path / "c", "--quiet", "--two-stems", "vocals") == 0
    assert sorted(p.stem for p in (tmp_path / "c" / "song").iterdir()) == ["no_vocals", "vocals"]


def test_quiet_says_nothing(model, song, tmp_path, capsys):
    assert run(song, "--model", model, "--outdir", tmp_path / "out", "--quiet") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_one_bad_file_does_not_stop_the_others(model, song, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_text("not a sound")
    assert run(bad, song, "--model", model, "--outdir", tmp_path / "out") == 1
    assert (tmp_path / "out" / "song" / "vocals.wav").exists()
    assert not (tmp_path / "out" / "bad").exists()
    assert "1 of 2 songs failed" in capsys.readouterr().err


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("la la la")
    elif kind == "empty":
        path.touch()
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 2)), 44100)
    elif kind == "not a number":
        soundfile.write(path, np.full((100, 2), np.nan), 44100, subtype="FLOAT")
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "no samples", "not a number"])
def test_bad_files_get_one_line(model, tmp_path, capsys, kind):
    path = bad_file(tmp_path, kind)
    assert run(path, "--model", model, "--outdir", tmp_path / "out", "--quiet") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1 and path.name in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "no-such-model"], "umxhq"),
        (["--targets", "kazoo"], "vocals"),
        (["--niter", "-1"], "n_iters"),
        (["--wiener-win-len", "-5"], "window"),
        (["--ext", "xyz"], "extensions"),
        (["--clip", "none"], "FLOAT"),
        (["--two-stems", "kazoo"], "kazoo"),
        (["--filename", "all.wav"], "template"),
        (["--filename", "../{stem}.{ext}"], "below the output folder"),
        (["--filename", "/{stem}.{ext}"], "below the output folder"),
        (["--residual", "a/b"], "a stem's name"),
        (["--aggregate", '{"": ["vocals"]}'], "a stem's name"),
        (["--targets", "bass", "--consistency"], "--residual"),
    ],
)
def test_impossible_requests_get_one_line(model, song, tmp_path, capsys, options, message):
    arguments = [song, "--outdir", tmp_path / "out", *options]
    if "--model" not in options:
        arguments += ["--model", model]
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "code"), [(["--start", "-1"], 1), (["--duration", "0"], 1), (["--start", "99"], 1)]
)
def test_impossible_parts_get_one_line(model, song, tmp_path, capsys, options, code):
    assert run(song, "--model", model, "--outdir", tmp_path / "out", "--quiet", *options) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"a": "vocals"}', '{"a": []}'])
def test_bad_aggregate_is_a_usage_error(song, text, capsys):
    with pytest.raises(SystemExit) as stop:
        run(song, "--aggregate", text)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_malicious_weights_are_refused_and_never_run(song, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'owned'}",))

    folder = tmp_path / "evil"
    folder.mkdir()
    settings = '{"nfft": 4096, "nhop": 1024, "sample_rate": 44100, "nb_channels": 2}'
    (folder / "separator.json").write_text(settings)
    (folder / "vocals.json").write_text("{}")
    (folder / "vocals.pth").write_bytes(pickle.dumps(Evil()))
    assert run(song, "--model", folder, "--outdir", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "vocals.pth" in said
    assert not (tmp_path / "owned").exists()


def test_lists_and_versions(capsys):
    assert run("--list-models") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("umx-open", "umxhq", "umxl", "umxse", "CC BY-NC-SA", "b62c91ce"))
    assert "version: " in said and "on disk" in said and "to download" in said
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out == said
    assert cli.main(["models", "--card", "umx-open"]) == 0
    assert capsys.readouterr().out.startswith("# umx-open")
    assert cli.main(["models", "--card", "no-such-model"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert cli.main(["env"]) == 0
    assert "device: cpu" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0


def test_nothing_to_do_is_told(capsys):
    assert run() == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_process_leaves_nothing(model, tmp_path, kill):
    song = tmp_path / "long.wav"
    soundfile.write(song, 0.1 * np.random.default_rng(0).standard_normal((44100 * 300, 2)), 44100)
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(ROOT / "separate.py"),
        str(song),
        "--model",
        str(model),
        "--outdir",
        str(out),
    ]
    # Tests that run in the background of a shell ignore Ctrl-C, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and not list(out.rglob("stems")) and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has begun to write
        process.send_signal(kill)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said and said.strip().splitlines()[-1].startswith("jaxsep: interrupted")
    assert not out.exists()


def test_a_stop_that_was_swallowed_comes_back(capsys):
    class Swallows:
        def __del__(self):  # lets no exception out, as JAX's callback in the garbage collector does not
            signal.raise_signal(signal.SIGINT)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with stopping.stoppable(), common.progress_bar("song", quiet=True) as progress:
            progress(0.1)
            Swallows()
            with pytest.raises(KeyboardInterrupt):
                progress(0.2)
        with stopping.stoppable():
            stopping.check_stopped()  # that was another command
    finally:
        signal.signal(signal.SIGINT, handlers[0])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert capsys.readouterr().err == ""


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_imports_stay_light():
    assert not imported_by("import jaxsep") & {"flax", "soundfile", "jax", "torch", "tensorflow"}
    heavy = {"torch", "tensorflow", "orbax", "matplotlib", "sklearn", "librosa", "museval", "av"}
    everything = "import jaxsep.separation, jaxsep.stem_files, jaxsep.cli, jaxsep.metrics, jaxsep.training"
    assert not imported_by(everything) & heavy
    parts = "import jaxsep.nmf, jaxsep.nmfd, jaxsep.masking, jaxsep.filtering, jaxsep.stft, jaxsep.metrics"
    assert not imported_by(parts) & (heavy | {"flax", "soundfile", "soxr", "optax"})


@pytest.mark.parametrize("method", ["nmf", "nmfd"])
def test_components_as_stems(method, song, tmp_path):
    options = ["--method", method, "--components", 2, "--iterations", 2, "--subtype", "FLOAT"]
    assert run(song, "--outdir", tmp_path, "--quiet", *options) == 0
    stems = [soundfile.read(tmp_path / "song" / f"component_{number}.wav")[0] for number in (1, 2)]
    np.testing.assert_allclose(sum(stems), soundfile.read(song)[0], atol=1e-5)


def test_stems_without_weights(song, tmp_path, capsys):
    assert run(song, "--outdir", tmp_path, "--method", "classic", "--two-stems", "vocals") == 0
    assert sorted(path.stem for path in (tmp_path / "song").iterdir()) == ["no_vocals", "vocals"]
    assert "classic: vocals, drums, bass, other on cpu (no weights)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "nmf", "--niter", "2"],
        ["--method", "nmfd", "--model", "umxhq"],
        ["--method", "nmf", "--residual", "rest"],
        ["--method", "classic", "--targets", "vocals"],
        ["--method", "classic", "--softmask"],
        ["--components", "3"],
        ["--method", "classic", "--iterations", "3"],
        ["--method", "classic", "--adaptation", "3"],
        ["--targets", "vocals", "--adaptation", "3"],
        ["--method", "classic", "--hearings", "2"],
        ["--targets", "vocals", "--hearings", "2"],
        ["--hearings", "0"],
        ["--adaptation", "-1"],
        ["--method", "nmf", "--components", "0"],
    ],
)
def test_options_that_a_method_has_no_use_for(song, tmp_path, capsys, options):
    assert run(song, "--outdir", tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and options[-2].strip("-") in said.replace(
        "n_components", "components"
    )
    assert not (tmp_path / "out").exists()
