"""How many excerpts a second the data pipeline gives, from WAV files and from records, beside nothing else.

Songs of noise are written to a temporary folder laid out like MUSDB18-HQ, decoded into records, and read with random
track mixing as in training: 6 s, 16 excerpts a batch, four sources each from its own song and place. Just written, the
files are in the system's cache: what is timed is the work, not the disk.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from harness import measure, report  # isort: skip

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.catalogue import DatasetOptions, open_batches, open_dataset
from datasets.musdb18.__main__ import main as make_records
from datasets.synthetic import STEMS
from jaxsep.batches import BatchFunction
from jaxsep.io import audio

RATE = 44100


def write_songs(root: Path, *, n_songs: int, seconds: float) -> None:
    """Songs of noise, one of them to validate with."""
    rng = np.random.default_rng(0)
    for index in range(n_songs + 1):
        folder = root / (f"train/song {index}" if index else "valid/song")
        folder.mkdir(parents=True)
        for stem in STEMS:
            noise = 0.1 * rng.standard_normal((2, round(seconds * RATE)), np.float32)
            audio.save(folder / f"{stem}.wav", noise, RATE)


class Reader:
    """Takes batch after batch, and notes the processor's time for it.

    Every call opens the batches anew: nothing was read ahead while others were timed.
    """

    def __init__(self, open_anew: Callable[[], BatchFunction], n_batches: int) -> None:
        self.open_anew, self.n_batches, self.step = open_anew, n_batches, 0
        self.cpu_seconds: list[float] = []

    def __call__(self) -> None:
        """Take so many batches."""
        start = time.process_time()
        batches = self.open_anew()
        for _ in range(self.n_batches):
            batches(0, self.step)
            self.step += 1
        self.cpu_seconds.append(time.process_time() - start)


def main() -> None:
    """Time both sources, in plain NumPy and by tf.data, and write results/pipeline.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=8, help="songs (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a song (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=8, help="batches a call (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="excerpts a batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="warmed calls (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="of tf.data (default: %(default)s)"
    )
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        songs, records = Path(folder, "songs"), Path(folder, "records")
        write_songs(songs, n_songs=arguments.songs, seconds=arguments.seconds)
        with contextlib.redirect_stdout(sys.stderr):
            make_records(["--manual_dir", str(songs), "--data_dir", str(records)])
        options = DatasetOptions(batch_size=arguments.batch_size)
        readers = {}
        for label, name, root in (("wav", "musdb", songs), ("records", "tfds", records)):
            dataset = open_dataset(name, root, targets=STEMS, options=options)
            ahead = partial(open_batches, dataset, workers=arguments.workers, ahead=1)
            readers[f"{label}, NumPy"] = Reader(lambda batches=dataset.batches: batches, arguments.batches)
            readers[f"{label}, tf.data"] = Reader(ahead, arguments.batches)
        timings = measure(readers, repeats=arguments.repeats)

    excerpts = arguments.batches * arguments.batch_size
    rows = [
        {
            "contender": name,
            "excerpts_per_s": excerpts / timing.median,
            "best_excerpts_per_s": excerpts / timing.best,
            "cpu_ms_per_excerpt": 1e3 * min(readers[name].cpu_seconds[1:]) / excerpts,
        }
        for name, timing in timings.items()
    ]
    report("pipeline", rows)


if __name__ == "__main__":
    main()
