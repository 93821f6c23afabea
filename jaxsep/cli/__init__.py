"""The command line: ``jaxsep separate | evaluate | models | env``. Parsers and mains, no logic."""

import argparse
import importlib.metadata
import platform
from collections.abc import Sequence

from jaxsep import __version__, memory
from jaxsep.cli import evaluate, models, separate
from jaxsep.cli.common import DEVICES, INTERRUPTED, REFUSED, complain, prepare_jax
from jaxsep.cli.stopping import stoppable
from jaxsep.io.files import cache_dir

__all__ = ["get_parser", "main", "program"]


def program(argv: Sequence[str] | None = None) -> int:
    """:func:`main` where the process is this command's alone, and so is its memory."""
    memory.keep()
    return main(argv)


def get_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="jaxsep", description="Music source separation in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxsep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    separate.add_command(commands)
    evaluate.add_command(commands)
    models.add_command(commands)
    env = commands.add_parser("env", help="say what this runs on", description="Versions and devices.")
    env.add_argument("--device", choices=DEVICES, help="look at this kind only")
    env.set_defaults(run=_env)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        0; 1 where a file failed; 2 where the request cannot be met; 130 after Ctrl-C.
    """
    arguments = get_parser().parse_args(argv)
    try:
        with stoppable():
            return arguments.run(arguments)
    except (ValueError, TypeError, OSError, RuntimeError) as error:  # JAX reports a full device as the last
        return complain(error, REFUSED)
    except KeyboardInterrupt:
        return complain("interrupted, nothing half-finished is left", INTERRUPTED)


def _env(arguments: argparse.Namespace) -> int:
    device = prepare_jax(arguments.device)
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "soundfile", "soxr", "safetensors", "av")
    print(f"jaxsep {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in packages:
        try:
            print(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed")
    print(f"device: {device}")
    print(f"cache: {cache_dir()}")
    return 0
