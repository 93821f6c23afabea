"""The command line: ``jaxsep separate``, ``jaxsep models``, ``jaxsep env``. Parsers and mains, no logic."""

import argparse
import importlib.metadata
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxsep import __version__, cli_evaluate
from jaxsep.config import SeparationConfig
from jaxsep.io import zoo
from jaxsep.io.files import cache_dir

__all__ = ["get_parser", "main"]

FAILED, REFUSED, INTERRUPTED = 1, 2, 130

# For each method, those of the options that not all methods heed which it does.
_HEEDED = {
    "umx": {"model", "targets", "niter", "wiener_win_len", "residual", "softmask"},
    "nmf": {"components", "iterations"},
    "nmfd": {"components", "iterations"},
    "classic": {"niter", "wiener_win_len"},
}


def get_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="jaxsep", description="Music source separation in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxsep {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    separate = commands.add_parser(
        "separate", help="songs in, stems out", description="Separate songs into stems."
    )
    _add_separate_arguments(separate)
    separate.set_defaults(run=_separate)
    cli_evaluate.add_command(commands, tuple(_HEEDED))
    models = commands.add_parser("models", help="list the models", description="List the models.")
    models.set_defaults(run=_list_models)
    env = commands.add_parser("env", help="say what this runs on", description="Versions and devices.")
    env.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="look at this kind only")
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
    signal.signal(signal.SIGTERM, _stop)
    try:
        return arguments.run(arguments)
    except (ValueError, TypeError, OSError) as error:
        return _complain(error, REFUSED)
    except KeyboardInterrupt:
        return _complain("interrupted, nothing half-finished is left", INTERRUPTED)


def _add_separate_arguments(parser: argparse.ArgumentParser) -> None:
    default = SeparationConfig()
    add = parser.add_argument
    add("input", nargs="*", type=Path, help="sound files, or folders that are searched for them")
    add(
        "--method",
        choices=tuple(_HEEDED),
        default="umx",
        help="nets, or without weights (default: %(default)s)",
    )
    add(
        "--model",
        default=zoo.DEFAULT_MODEL,
        help="a name of --list-models or a folder (default: %(default)s)",
    )
    add("--targets", nargs="+", metavar="TARGET", help="run the nets of these targets only (default: all)")
    add("--components", type=int, default=4, metavar="N", help="stems of nmf and nmfd (default: %(default)s)")
    add("--iterations", type=int, default=30, metavar="N", help="of nmf and nmfd (default: %(default)s)")
    add("--outdir", type=Path, default=Path("separated"), help="where stems go (default: %(default)s)")
    add("--ext", default="wav", help="wav, flac, ogg, opus, mp3, aiff, m4a (default: %(default)s)")
    add("--start", type=float, default=0.0, metavar="SECONDS", help="where to begin (default: 0)")
    add("--duration", type=float, metavar="SECONDS", help="how much to separate (default: all)")
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
    add("--residual", metavar="NAME", help="add a stem of this name: what the targets leave of the mixture")
    sums = parser.add_mutually_exclusive_group()
    sums.add_argument(
        "--aggregate", type=_stem_map, metavar="JSON", help='e.g. \'{"band": ["drums", "bass"]}\''
    )
    sums.add_argument("--two-stems", metavar="STEM", help="write STEM and no_STEM, the sum of all others")
    add("--softmask", action="store_true", help="start the filter from ratio masks")
    add("--consistency", action="store_true", help="make the stems sum to the mixture exactly")
    add("--device", choices=("cpu", "gpu", "tpu"), help="where to compute (default: the best there is)")
    add(
        "--clip",
        choices=("rescale", "clamp", "none"),
        default="rescale",
        help="peaks beyond full scale: one gain for all stems, cut off, left as FLOAT (default: %(default)s)",
    )
    add(
        "--subtype",
        choices=("PCM_16", "PCM_24", "FLOAT"),
        help="sample format (default: the format's, PCM_16 for wav)",
    )
    add("--filename", default="{track}/{stem}.{ext}", help="path below --outdir (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace stems that exist")
    add("--list-models", action="store_true", help="list the models and stop")
    add("--quiet", action="store_true", help="say only what went wrong")
    add("--version", action="version", version=f"jaxsep {__version__}")


def _stem_map(text: str) -> dict[str, list[str]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"expected JSON, got {text!r}: {error}") from None
    lists = list(value.values()) if isinstance(value, dict) else []
    if not lists or not all(isinstance(v, list) and v and all(isinstance(s, str) for s in v) for v in lists):
        raise argparse.ArgumentTypeError(f"expected an object of lists of stem names, got {text}")
    return value


def _separate(arguments: argparse.Namespace) -> int:
    if arguments.list_models:
        return _list_models(arguments)
    if not arguments.input:
        raise ValueError("expected a sound file or a folder, got nothing; --help tells more")
    _refuse_unheeded(arguments)
    if arguments.consistency and arguments.targets and not arguments.residual:
        raise ValueError("--consistency with --targets: expected --residual NAME for the rest of the mixture")
    device = _prepare_jax(arguments.device)
    from jaxsep import (  # here: importing them before the device is chosen starts JAX
        output,
        stem_files,
    )

    say = (lambda *_: None) if arguments.quiet else _say
    config = SeparationConfig(
        n_iters=arguments.niter,
        window=arguments.wiener_win_len,
        softmask=arguments.softmask,
        residual=arguments.residual is not None,
        consistency=arguments.consistency,
    )
    files = output.OutputConfig(
        folder=arguments.outdir,
        template=arguments.filename,
        extension=arguments.ext.lstrip("."),
        subtype=arguments.subtype,
        clip=arguments.clip,
        two_stems=arguments.two_stems,
        aggregate=arguments.aggregate,
        residual=arguments.residual or "residual",
        overwrite=arguments.overwrite,
    )
    separator = _load(arguments)
    stems = output.output_stems(separator.stem_names(config), files)
    songs = output.find_songs(arguments.input, skip=arguments.outdir)
    say(f"{separator.name}: {', '.join(separator.stem_names(config))} on {device} ({separator.licence})")

    failed: list[str] = []
    for number, song in enumerate(songs, 1):
        paths = output.stem_paths(song.track, stems, files)
        if not files.overwrite and all(path.exists() for path in paths.values()):
            say(f"{song.path}: its stems are there already; --overwrite makes them anew")
            continue
        begin = time.monotonic()
        try:
            with _bar(f"[{number}/{len(songs)}] {song.path.name}", arguments.quiet) as progress:
                made = stem_files.separate_file(
                    song.path,
                    separator,
                    config=config,
                    output=files,
                    track=song.track,
                    start=arguments.start,
                    duration=arguments.duration,
                    progress=progress,
                )
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            _complain(error, FAILED)
            failed.append(str(song.path))
            continue
        _say_done(say, made, time.monotonic() - begin)
    if failed and len(songs) > 1:
        _complain(f"{len(failed)} of {len(songs)} songs failed: {', '.join(failed)}", FAILED)
    return FAILED if failed else 0


def _refuse_unheeded(arguments: argparse.Namespace) -> None:
    """An option that the method has no use for is a mistake, which silence would hide."""
    default = get_parser().parse_args(["separate"])
    for option in sorted(set().union(*_HEEDED.values()) - _HEEDED[arguments.method]):
        if getattr(arguments, option) != getattr(default, option):
            methods = " or ".join(method for method, heeded in _HEEDED.items() if option in heeded)
            flag = "--" + option.replace("_", "-")
            raise ValueError(f"{flag}: expected with --method {methods}, got it with {arguments.method}")


def _load(arguments: argparse.Namespace) -> Any:
    """What makes the stems: a :class:`jaxsep.separation.StemSource`."""
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


def _say_done(say: Callable[[str], None], made: Any, seconds: float) -> None:
    for path in made.stems.values():
        say(str(path))
    gain = f", all stems at {made.gain:.3f} so that none clips" if made.gain < 1 else ""
    say(f"{made.duration:.1f} s of audio in {seconds:.1f} s, {made.duration / seconds:.1f} x real time{gain}")


@contextmanager
def _bar(label: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left; the function to move it."""
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} < {remaining}"
    with tqdm(total=1.0, desc=label, bar_format=layout, disable=quiet or None, leave=False) as bar:
        yield lambda done: bar.update(done - bar.n)


def _list_models(arguments: argparse.Namespace) -> int:
    for row in zoo.list_models():
        where = "on disk" if row.on_disk else "to download"
        mark = " (default)" if row.is_default else ""
        print(f"{row.name}{mark}: {', '.join(row.targets)}; {row.megabytes:g} MB, {where}; {row.licence}")
    return 0


def _env(arguments: argparse.Namespace) -> int:
    device = _prepare_jax(arguments.device)
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


def _prepare_jax(device: str | None) -> str:
    """Choose the device and keep compiled programs for the next process; the device's name."""
    import jax  # here: --help and --list-models need not wait for it

    if device is not None:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(device, device))
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        found = jax.devices()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device}: expected such a device, got none ({reason})") from None
    return f"{len(found)} x {found[0].device_kind}" if len(found) > 1 else found[0].device_kind


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(error: BaseException | str, code: int) -> int:
    """One line on stderr; returns the exit code."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    lines = text.strip().splitlines() or [type(error).__name__]
    print(f"jaxsep: {lines[0]}", file=sys.stderr)
    return code


def _stop(*_: Any) -> None:
    """A polite kill is Ctrl-C: temporary files are removed on the way out."""
    raise KeyboardInterrupt
