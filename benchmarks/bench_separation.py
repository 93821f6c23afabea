"""Whole songs: open-unmix and jaxsep with the same random weights, audio to audio, and as commands.

    python benchmarks/bench_separation.py --song song.wav            # needs torch, openunmix 1.3.0
    python benchmarks/bench_separation.py --song song.wav --seconds 30 240 --repeats 3
    python benchmarks/bench_separation.py --seconds --commands 7 240 1200      # fresh processes only

Weights are random: the time does not depend on them. The song is repeated up to the length asked for.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from harness import measure, report

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.reference import umx  # noqa: E402

# The original as a program: what `umx` does between start and end, less its reading by torchaudio.
ORIGINAL = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from tests.reference import umx
torch, model, _ = umx.load()
import soundfile
from openunmix import utils
nets = utils.load_target_models(["vocals", "drums", "bass", "other"], {model!r}, pretrained=True)
audio, rate = soundfile.read({song!r}, dtype="float32")
for name, stem in zip(nets, umx.separate(nets, audio.T, n_iters=1, window=300)):
    soundfile.write(Path({out!r}) / (name + ".wav"), stem.T, rate)
"""


def song_of(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """The song as (time, channel), repeated or cut to the length."""
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    n = round(seconds * rate)
    return np.tile(audio, (-(-n // len(audio)), 1))[:n], rate


def in_one_process(song: Path, seconds: list[float], repeats: int, nets: dict, model: Path) -> list[dict]:
    """Separators that are loaded and warm, in turn."""
    from jaxsep import load_separator, memory, separate

    memory.keep()  # as the commands do; it serves torch's large arrays as well
    separator = load_separator(model)
    rows = []
    for length in seconds:
        audio, rate = song_of(song, length)
        audio = np.ascontiguousarray(audio.T)
        for n_iters in (0, 1, 2):
            contenders = {
                "openunmix": lambda: umx.separate(nets, audio, n_iters=n_iters, window=300),  # noqa: B023
                "jaxsep": lambda: separate(audio, rate, separator=separator, n_iters=n_iters),  # noqa: B023
            }
            timings = measure(contenders, repeats=repeats if length <= 60 else max(1, repeats // 2))
            ratio = timings["openunmix"].median / timings["jaxsep"].median
            for name, timing in timings.items():
                row = {"seconds": length, "n_iters": n_iters, "contender": name, **timing.row()}
                rows.append(row | ({"times_openunmix": ratio} if name == "jaxsep" else {}))
    return rows


def command(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Seconds from start to end of a process, and its peak memory in MB."""
    before = time.perf_counter()
    process = subprocess.Popen(
        arguments, env={**os.environ, "JAXSEP_CACHE": str(cache)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments}: ended with status {status}")
    return time.perf_counter() - before, usage.ru_maxrss / 1024


def as_commands(song: Path, seconds: list[float], repeats: int, model: Path, peers: bool) -> list[dict]:
    """Fresh processes, from start to end; the first of ours compiles, the later ones do not."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for length in seconds:
            audio, rate = song_of(song, length)
            path = Path(folder) / "song.wav"
            soundfile.write(path, audio, rate, subtype="FLOAT")
            ours = [sys.executable, str(ROOT / "separate.py"), str(path), "--model", str(model), "--quiet"]
            contenders = {"jaxsep": [*ours, "--outdir", folder, "--overwrite"]}
            if peers and length <= 240:
                code = ORIGINAL.format(root=str(ROOT), model=str(model), song=str(path), out=folder)
                contenders["openunmix"] = [sys.executable, "-c", code]
            cache = Path(folder) / "cache"
            runs = {name: [command(line, cache)] for name, line in contenders.items()}
            for _ in range(repeats if length <= 300 else 1):
                for name, line in contenders.items():
                    runs[name].append(command(line, cache))
            for name, taken in runs.items():
                rows.append(
                    {
                        "command_seconds_of_audio": length,
                        "contender": name,
                        "median_s": float(np.median([t for t, _ in taken[1:]])),
                        "first_s": taken[0][0],
                        "peak_mb": max(m for _, m in taken),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--song", type=Path, default=ROOT / "examples" / "mix.flac")
    parser.add_argument("--seconds", type=float, nargs="*", default=[30.0, 240.0])
    parser.add_argument("--commands", type=float, nargs="*", default=[7.0, 240.0, 1200.0], metavar="SECONDS")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="as commands, run jaxsep only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        nets = umx.random_model(model)
        # First: a process's peak memory is at least what the one that starts it takes.
        if arguments.commands:
            rows = as_commands(
                arguments.song, arguments.commands, arguments.repeats, model, not arguments.alone
            )
            report("commands", rows)
        if arguments.seconds:
            rows = in_one_process(arguments.song, arguments.seconds, arguments.repeats, nets, model)
            report("separation", rows)


if __name__ == "__main__":
    main()
