"""The command ``jaxsep separate``: its parser and its main, no logic."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsep import __version__
from jaxsep.cli import models
from jaxsep.cli.common import (
    DEVICES,
    FAILED,
    add_source_options,
    complain,
    load_source,
    prepare_jax,
    progress_bar,
    refuse_unheeded,
    separation_config,
    speaker,
)

__all__ = ["add_command"]


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of ``jaxsep``."""
    parser = commands.add_parser(
        "separate", help="songs in, stems out", description="Separate songs into stems."
    )
    parser.set_defaults(run=_separate, parser=parser)
    add = parser.add_argument
    add("input", nargs="*", type=Path, help="sound files, or folders that are searched for them")
    add_source_options(parser)
    add("--residual", metavar="NAME", help="add a stem of this name: what the targets leave of the mixture")
    add("--start", type=float, default=0.0, metavar="SECONDS", help="where to begin (default: 0)")
    add("--duration", type=float, metavar="SECONDS", help="how much to separate (default: all)")
    add("--device", choices=DEVICES, help="where to compute (default: the best there is)")
    _add_output_options(parser)
    add("--list-models", action="store_true", help="list the models and stop")
    add("--quiet", action="store_true", help="say only what went wrong")
    add("--version", action="version", version=f"jaxsep {__version__}")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--outdir", type=Path, default=Path("separated"), help="where stems go (default: %(default)s)")
    add("--ext", default="wav", help="wav, flac, ogg, opus, mp3, aiff, m4a (default: %(default)s)")
    add("--subtype", choices=("PCM_16", "PCM_24", "FLOAT"), help="sample format (default: PCM_16 for wav)")
    add("--filename", default="{track}/{stem}.{ext}", help="path below --outdir (default: %(default)s)")
    add("--overwrite", action="store_true", help="replace stems that exist")
    sums = parser.add_mutually_exclusive_group()
    sums.add_argument(
        "--aggregate", type=_stem_map, metavar="JSON", help='sums: \'{"band": ["drums", "bass"]}\''
    )
    sums.add_argument("--two-stems", metavar="STEM", help="write STEM and no_STEM, the sum of all others")
    add(
        "--clip",
        choices=("rescale", "clamp", "none"),
        default="rescale",
        help="peaks beyond full scale: one gain for all stems, cut off, left as FLOAT (default: %(default)s)",
    )


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
        return models.list_models()
    if not arguments.input:
        raise ValueError("expected a sound file or a folder, got nothing; --help tells more")
    refuse_unheeded(arguments, [arguments.method])
    device = prepare_jax(arguments.device)
    from jaxsep import output, stem_files  # here: --help need not wait for JAX

    say = speaker(arguments)
    config = separation_config(arguments, residual=arguments.residual is not None)
    files = output.OutputConfig(
        folder=arguments.outdir,
        template=arguments.filename,
        extension=arguments.ext.lstrip("."),
        subtype=arguments.subtype,
        clip=arguments.clip,
        two_stems=arguments.two_stems,
        aggregate=arguments.aggregate,
        residual="residual" if arguments.residual is None else arguments.residual,
        overwrite=arguments.overwrite,
    )
    separator = load_source(arguments)
    stems = output.output_stems(separator.stem_names(config), files)
    songs = output.find_songs(arguments.input, skip=arguments.outdir)
    output.check_distinct(songs, stems, files)
    say(f"{separator.name}: {', '.join(separator.stem_names(config))} on {device} ({separator.licence})")

    failed: list[str] = []
    for number, song in enumerate(songs, 1):
        begin = time.monotonic()
        try:
            paths = output.stem_paths(song.track, stems, files)
            if not files.overwrite and all(path.exists() for path in paths.values()):
                say(f"{song.path}: its stems are there already; --overwrite makes them anew")
                continue
            label = f"[{number}/{len(songs)}] {song.path.name}"
            with progress_bar(label, quiet=arguments.quiet) as progress:
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
            complain(error, FAILED)
            failed.append(str(song.path))
            continue
        _say_done(say, made, time.monotonic() - begin)
    if failed and len(songs) > 1:
        complain(f"{len(failed)} of {len(songs)} songs failed: {', '.join(failed)}", FAILED)
    return FAILED if failed else 0


def _say_done(say: Callable[[str], None], made: Any, seconds: float) -> None:
    for path in made.stems.values():
        say(str(path))
    gain = f", all stems at {made.gain:.3f} so that none clips" if made.gain < 1 else ""
    say(f"{made.duration:.1f} s of audio in {seconds:.1f} s, {made.duration / seconds:.1f} x real time{gain}")
