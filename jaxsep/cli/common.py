"""What the commands share: options for the source of stems, the device, progress, one line for an error."""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jaxsep.cli.stopping import check_stopped
from jaxsep.config import SeparationConfig
from jaxsep.io import zoo
from jaxsep.io.files import cache_dir

if TYPE_CHECKING:
    from jaxsep.separation import StemSource

__all__ = [
    "DEVICES",
    "FAILED",
    "INTERRUPTED",
    "METHODS",
    "REFUSED",
    "add_source_options",
    "complain",
    "load_source",
    "prepare_jax",
    "progress_bar",
    "refuse_unheeded",
    "separation_config",
    "speaker",
]

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

DEVICES = ("cpu", "gpu", "tpu")

# For each method, those of the options that not all methods heed which it does.
METHODS = {
    "umx": {"model", "targets", "niter", "wiener_win_len", "residual", "softmask", "adaptation", "hearings"},
    "nmf": {"components", "iterations"},
    "nmfd": {"components", "iterations"},
    "classic": {"niter", "wiener_win_len"},
}


def add_source_options(parser: Any, *, several: bool = False) -> None:
    """Options of a parser, or of a group in it, that choose what makes the stems: one method, or several."""
    default, add = SeparationConfig(), parser.add_argument
    some: dict[str, Any] = {"nargs": "+"} if several else {}
    add(
        "--method",
        choices=tuple(METHODS),
        default=None if several else "umx",
        help="nets, or without weights (default: umx)",
        **some,
    )
    add(
        "--model",
        default=None if several else zoo.DEFAULT_MODEL,
        help=f"a name of --list-models or a folder (default: {zoo.DEFAULT_MODEL})",
        **some,
    )
    add("--targets", nargs="+", metavar="TARGET", help="run the nets of these targets only (default: all)")
    add("--components", type=int, default=4, metavar="N", help="stems of nmf and nmfd (default: %(default)s)")
    add("--iterations", type=int, default=30, metavar="N", help="of nmf and nmfd (default: %(default)s)")
    add(
        "--niter",
        type=int,
        default=default.n_iters,
        help="iterations of the Wiener filter (default: %(default)s)",
    )
    add(
        "--wiener-win-len",
        type=int,
        default=default.window,
        metavar="FRAMES",
        help="frames that share spatial covariances; 0 takes the whole song, and memory that grows with it "
        "(default: %(default)s)",
    )
    add(
        "--adaptation",
        type=int,
        metavar="STEPS",
        help="fit the nets' magnitudes to what repeats in the song; 0: do not (default: as the model asks)",
    )
    add(
        "--hearings",
        type=int,
        metavar="TIMES",
        help="let the nets of voices hear the song so often, each time with the voice that they found brought forward; "
        "1: once (default: as the model asks)",
    )
    add("--softmask", action="store_true", help="start the filter from ratio masks")
    add("--consistency", action="store_true", help="make the stems sum to the mixture exactly")


def refuse_unheeded(arguments: argparse.Namespace, methods: Sequence[str]) -> None:
    """An option that no method has a use for is a mistake, which silence would hide.

    So are consistency, adaptation and hearings among some of the targets, which would put the rest of the mixture into
    them.
    """
    heeded = set().union(*(METHODS[method] for method in methods))
    for option in sorted(set().union(*METHODS.values()) - heeded):
        if getattr(arguments, option, None) != arguments.parser.get_default(option):
            able = " or ".join(method for method, options in METHODS.items() if option in options)
            flag = "--" + option.replace("_", "-")
            raise ValueError(f"{flag}: expected with --method {able}, got it with {' and '.join(methods)}")
    if arguments.consistency and arguments.targets and not getattr(arguments, "residual", None):
        raise ValueError(
            "--consistency: expected all targets, or the rest of the mixture too (--residual of separate), "
            "got --targets alone"
        )
    if arguments.adaptation and arguments.targets:
        raise ValueError("--adaptation: expected all targets, got it with --targets")
    if (arguments.hearings or 1) > 1 and arguments.targets:
        raise ValueError("--hearings: expected all targets, got it with --targets")


def separation_config(arguments: argparse.Namespace, *, residual: bool = False) -> SeparationConfig:
    """How magnitudes become stems."""
    return SeparationConfig(
        n_iters=arguments.niter,
        window=arguments.wiener_win_len,
        softmask=arguments.softmask,
        adaptation=arguments.adaptation,
        hearings=arguments.hearings,
        residual=residual,
        consistency=arguments.consistency,
    )


def load_source(arguments: argparse.Namespace) -> "StemSource":
    """What makes the stems. To be called when the device is chosen."""
    from jaxsep import classic, factorised, separation

    if arguments.method == "umx":
        return separation.load_separator(arguments.model, targets=arguments.targets)
    if arguments.method == "classic":
        return classic.Classic()
    return factorised.Factorisation(
        convolutive=arguments.method == "nmfd",
        n_components=arguments.components,
        n_steps=arguments.iterations,
    )


def prepare_jax(device: str | None) -> str:
    """Choose the device and keep compiled programs for the next process; the device's name."""
    import jax  # here: --help and --list-models need not wait for it

    if device is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(device, device))
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        # Without room for it, the next process compiles anew: no matter for this one.
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
    try:
        found = jax.devices()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        wanted = f"--device {device}: expected such a device" if device else "expected a device"
        raise ValueError(f"{wanted}, got none ({reason})") from None
    return f"{len(found)} x {found[0].device_kind}" if len(found) > 1 else found[0].device_kind


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left; the function to move it, which takes the part that is done."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} < {remaining}"
    with tqdm(total=1.0, desc=label, bar_format=layout, disable=quiet or None, leave=False) as bar:

        def move(done: float) -> None:
            check_stopped()
            bar.update(done - bar.n)

        yield move


def speaker(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Prints a line, above the progress bar if there is one; with ``--quiet``, nothing."""
    if arguments.quiet:
        return lambda text: None
    return lambda text: tqdm.write(text, file=sys.stdout)


def complain(error: BaseException | str, code: int) -> int:
    """One line on stderr; returns the exit code."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = text.strip().splitlines() or [type(error).__name__]
    tqdm.write(f"jaxsep: {lines[0]}", file=sys.stderr)
    return code
