"""The options of ``train.py``: open-unmix's names and defaults, and what is new."""

import argparse
from pathlib import Path
from typing import Any

from jaxsep import __version__
from jaxsep.cli.common import DEVICES
from jaxsep.config import OPTIMIZERS

__all__ = ["get_parser"]

DESCRIPTION = """\
Train Open-Unmix. Without a data set at hand, --dataset synthetic makes music to train on; --dataset musdb without
--root downloads seven seconds of each of MUSDB18's songs.

OUTPUT becomes a model: separate.py --model OUTPUT loads it. Killed or stopped, a run goes on where it was with
--resume."""

DATASETS = ("musdb", "tfds", "aligned", "sourcefolder", "trackfolder_var", "trackfolder_fix", "synthetic")


def get_parser() -> argparse.ArgumentParser:
    """The parser of ``train.py``."""
    parser = argparse.ArgumentParser(
        prog="train.py", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--target", nargs="+", metavar="NAME", default=None,
        help="sources to train nets for, several of them together; all: vocals drums bass other "
        "(default: vocals, or the data set's target)")  # fmt: skip
    add("--output", type=Path, default=Path("open-unmix"), help="the model's folder (default: %(default)s)")
    add("--resume", action="store_true", help="go on with the run in OUTPUT, if there is one")
    add("--checkpoint", type=Path, metavar="FOLDER", help="the same as --output FOLDER --resume")
    add(
        "--model", metavar="MODEL", help="start from the nets of this model, a name or a folder (fine-tuning)"
    )
    add("--quiet", action="store_true", help="say only what went wrong")
    add("--debug", action="store_true", help="skip the statistics of the training set")
    add("--version", action="version", version=f"jaxsep {__version__}")
    _add_training(parser.add_argument_group("training"))
    _add_net(parser.add_argument_group("net"))
    _add_data(parser.add_argument_group("data"))
    _add_machine(parser.add_argument_group("machine"))
    return parser


def _add_training(group: Any) -> None:
    def add(flag: str, kind: type, default: Any, text: str, **more: Any) -> None:
        group.add_argument(flag, type=kind, default=default, help=f"{text} (default: %(default)s)", **more)

    add("--epochs", int, 1000, "at most so many")
    add("--batch-size", int, 16, "excerpts in a step, on all devices together")
    add("--lr", float, 1e-3, "learning rate")
    add("--patience", int, 140, "epochs without a better loss before training ends")
    add("--lr-decay-patience", int, 80, "epochs without a better loss before the learning rate falls")
    add("--lr-decay-gamma", float, 0.3, "what it is multiplied by then")
    add("--weight-decay", float, 1e-5, "of the squared weights, in the gradient")
    add("--seed", int, 42, "of weights, dropout and data")
    flag = group.add_argument
    flag("--bf16", action="store_true", help="multiply in bfloat16 and add in float32: for GPU, TPU and AMX")
    add("--accumulate", int, 1, "parts that a batch is computed in, to save memory", metavar="N")
    flag("--ema", type=float, default=0.0, metavar="DECAY",
         help="keep a running average of the weights, such as 0.999 (default: none)")  # fmt: skip
    flag("--clip", type=float, metavar="NORM", help="largest norm of the gradient (default: none)")
    add("--frame-step", int, 1, "take the loss over every so many-th frame", metavar="N")
    add(
        "--filtered",
        float,
        0.0,
        "weight, 0 to 1, of the error of the stems behind the filter",
        metavar="SHARE",
    )
    add(
        "--optimizer",
        str,
        "adam",
        "what turns gradients into steps: adam, or muon for kernels",
        choices=OPTIMIZERS,
    )
    flag("--max-steps", type=int, metavar="N", help="stop after N steps in all, to go on another day")
    flag("--minutes", type=float, metavar="M", help="stop after M minutes, to go on another day")
    flag("--tensorboard", action="store_true", help="write events to OUTPUT/runs/TARGET/tensorboard")


def _add_net(group: Any) -> None:
    add = group.add_argument
    add("--seq-dur", type=float, default=6.0, metavar="SECONDS", help="of an excerpt (default: %(default)s)")
    add("--nfft", type=int, default=4096, help="samples in a frame (default: %(default)s)")
    add("--nhop", type=int, default=1024, help="samples between frames (default: %(default)s)")
    add("--hidden-size", type=int, default=512, help="of the layers (default: %(default)s)")
    add(
        "--bandwidth",
        type=float,
        default=16000,
        metavar="HZ",
        help="that the net reads (default: %(default)s)",
    )
    add("--nb-channels", type=int, default=2, help="of the audio (default: %(default)s)")
    add(
        "--sample-rate", type=float, default=44100.0, metavar="HZ", help="of the audio (default: %(default)s)"
    )
    add("--unidirectional", action="store_true", help="an LSTM that hears only what was")


def _add_data(group: Any) -> None:
    add = group.add_argument
    add("--dataset", choices=DATASETS, default="musdb", help="kind of data set (default: %(default)s)")
    add("--root", type=Path, help="its folder")
    add("--is-wav", action="store_true", help="accepted; the folder itself tells MUSDB18-HQ from MUSDB18")
    add(
        "--samples-per-track",
        type=int,
        metavar="N",
        help="excerpts an epoch (default: 64 for songs of stems)",
    )
    add("--source-augmentations", nargs="*", metavar="NAME",
        help="gain, channelswap, ... (default: gain channelswap for musdb, tfds and synthetic)")  # fmt: skip
    add("--nb-workers", type=int, default=0, metavar="N",
        help="excerpts that tf.data reads at a time; 0: one thread and NumPy (default: %(default)s)")  # fmt: skip
    add("--audio-backend", default="soundfile", help="accepted; files are read by what can read them")
    add("--input-file", default="mixture.wav", help="aligned: the mixture (default: %(default)s)")
    add("--output-file", default="vocals.wav", help="aligned: the target (default: %(default)s)")
    add("--target-file", default="vocals.wav", help="trackfolder_*: the target (default: %(default)s)")
    add("--interferer-files", nargs="+", default=["bass.wav", "drums.wav"], metavar="FILE",
        help="trackfolder_fix: the other sources (default: bass.wav drums.wav)")  # fmt: skip
    add("--random-track-mix", action="store_true", help="trackfolder_fix: mix sources of different tracks")
    add("--random-interferer-mix", action="store_true", help="trackfolder_var: the same")
    add("--silence-missing", action="store_true", help="trackfolder_var: tracks without the target too")
    add("--target-dir", default="vocals", help="sourcefolder: of the target (default: %(default)s)")
    add("--interferer-dirs", nargs="+", default=["bass", "drums"], metavar="DIR",
        help="sourcefolder: of the other sources (default: bass drums)")  # fmt: skip
    add("--ext", default=".wav", help="sourcefolder, trackfolder_var: of the files (default: %(default)s)")
    add("--nb-train-samples", type=int, default=1000, metavar="N", help="sourcefolder: excerpts an epoch")
    add(
        "--nb-valid-samples", type=int, default=100, metavar="N", help="sourcefolder: excerpts to validate on"
    )


def _add_machine(group: Any) -> None:
    add = group.add_argument
    add("--device", choices=DEVICES, help="where to compute (default: the best there is)")
    add("--no-cuda", action="store_true", help="the same as --device cpu")
    add("--coordinator", metavar="HOST:PORT",
        help="several hosts: where the first of them listens; auto where the cluster knows")  # fmt: skip
    add("--hosts", type=int, metavar="N", help="several hosts: how many")
    add("--host-index", type=int, metavar="I", help="several hosts: which of them this is, from 0")
