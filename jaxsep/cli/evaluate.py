"""The command ``jaxsep evaluate``: its parser and its main, no logic."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsep.cli.common import (
    DEVICES,
    FAILED,
    add_source_options,
    complain,
    prepare_jax,
    progress_bar,
    speaker,
)
from jaxsep.cli.contenders import contenders, evaluations_in, folders_of, labelled, refuse_contradictions

__all__ = ["add_command"]

DESCRIPTION = """\
Score separated stems against the true ones by BSSEval v4, as museval does, and write a JSON file a track in
museval's schema, a table (CSV), and with --report a page to look at and listen to.

REFERENCES is the MUSDB18-HQ folder (or MUSDB18 with its .stem.mp4 files), or any folder of folders of stems:
REFERENCES/A song/vocals.wav, ... Estimates come from separators (--method, --model), from folders in which the
tracks and stems have the same names (--estimates), and from oracles that know the truth (--oracle). With
several of them each has a folder of its own in OUTDIR, and a table shows them side by side."""


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of ``jaxsep``."""
    parser = commands.add_parser(
        "evaluate",
        help="score stems, and see and hear why",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    parser.set_defaults(run=_evaluate, parser=parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("references", type=Path, help="the folder with the true stems")
    add("--subset", choices=("train", "valid", "test"), help="of MUSDB18 (default: test, or all)")
    add("--tracks", nargs="+", metavar="NAME", help="score these tracks only")
    add("--outdir", type=Path, default=Path("evaluation"), help="where scores go (default: %(default)s)")
    add("--start", type=float, default=0.0, metavar="SECONDS", help="score songs from here on (default: 0)")
    add(
        "--duration",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="so much of them (default: all)",
    )
    add("--jobs", type=int, default=2, metavar="N", help="songs in flight (default: %(default)s)")
    add("--device", choices=DEVICES, help="where to compute (default: the best there is)")
    add("--quiet", action="store_true", help="say only what went wrong")

    source = parser.add_argument_group("estimates")
    source.add_argument(
        "--estimates",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="score what is in these folders",
    )
    source.add_argument(
        "--oracle",
        nargs="+",
        default=[],
        choices=("ibm", "irm", "mwf", "mixture"),
        help="ideal binary mask, ideal ratio mask, multichannel Wiener filter: upper bounds; mixture in equal "
        "shares: the lower bound",
    )
    add_source_options(source, several=True)

    scoring = parser.add_argument_group("scoring").add_argument
    scoring("--window", type=float, default=1.0, metavar="SECONDS", help="in a frame (default: %(default)s)")
    scoring("--hop", type=float, default=1.0, metavar="SECONDS", help="between frames (default: %(default)s)")
    scoring(
        "--filters-len", type=int, default=512, metavar="TAPS", help="of the filters (default: %(default)s)"
    )
    scoring(
        "--mode", choices=("v4", "v3"), default="v4", help="filters a track or a frame (default: %(default)s)"
    )
    scoring("--silent", choices=("nan", "skip", "zero"), default="nan",
            help="frames with a silent stem: no score for that stem, or for none (as museval), or 0 dB "
            "(default: %(default)s)")  # fmt: skip
    scoring("--scorer", choices=("jaxsep", "museval"), default="jaxsep", help="museval for comparison")

    page = parser.add_argument_group("report").add_argument
    page("--report", action="store_true", help="write OUTDIR/report.html")
    page("--listen", nargs="*", metavar="NAME", help="the tracks to hear in it (default: the first three)")
    page("--seconds", type=float, default=20.0, help="of each track to hear (default: %(default)s)")
    page("--compare", nargs="+", type=Path, default=[], metavar="FOLDER",
         help="folders of other evaluations, ours or museval's, to show beside, here and in the table")  # fmt: skip


def _evaluate(arguments: argparse.Namespace) -> int:
    refuse_contradictions(arguments)
    device = prepare_jax(arguments.device)
    from jaxsep import scores, scoring, summary  # here: --help need not wait for JAX

    say = speaker(arguments)
    options = _options(arguments)
    if options["config"].scorer == "museval":
        scoring.import_museval()
    tracks = _tracks(arguments)
    compared = labelled(evaluations_in(arguments.compare))
    others = {label: scores.load_scores(folder) for label, folder in compared.items()}
    methods = contenders(arguments)
    folders = folders_of(list(methods), arguments.outdir)
    heard = _heard(arguments, tracks)
    listening = _listening(arguments, heard)

    scored: dict[str, list[Any]] = {}
    failed: list[str] = []
    for number, (name, estimator) in enumerate(methods.items()):
        say(f"{name}: {len(tracks)} track{'s' if len(tracks) > 1 else ''} on {device}")
        hearing = listening if number == 0 else {}
        done, bad = _score(arguments, tracks, name, estimator, folders[name], **options, **hearing)
        failed += bad
        if done:
            scored[name] = done
            summary.write_csv(folders[name] / "scores.csv", done)
            say(summary.format_table(done))
            say(str(folders[name] / "scores.csv"))
    shown = scored | {f"{name} (compared)" if name in scored else name: them for name, them in others.items()}
    if scored and len(shown) > 1:
        summary.write_comparison(arguments.outdir / "comparison.csv", shown)
        say(summary.format_comparison(shown))
        say(str(arguments.outdir / "comparison.csv"))
    if scored and arguments.report:
        heard = [name for name in heard if name not in failed]
        say(str(_report(arguments, shown, heard)))
    return FAILED if failed else 0


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How songs are scored, for `evaluation.evaluate`."""
    from jaxsep import scoring, songs

    config = scoring.ScoringConfig(
        window=arguments.window,
        hop=arguments.hop,
        filters_len=arguments.filters_len,
        mode=arguments.mode,
        silent=arguments.silent,
        scorer=arguments.scorer,
    )
    return {
        "config": config,
        "excerpt": songs.Excerpt(arguments.start, arguments.duration),
        "n_jobs": arguments.jobs,
    }


def _score(
    arguments: argparse.Namespace,
    tracks: Sequence[Any],
    name: str,
    estimator: Any,
    folder: Path,
    **options: Any,
) -> tuple[list[Any], list[str]]:
    """The scores of all tracks in the order of their names, and the names of those that failed."""
    from jaxsep import evaluation

    say, done, failed = speaker(arguments), [], []
    with progress_bar(f"{name}: {len(tracks)} tracks", quiet=arguments.quiet) as progress:
        for outcome in evaluation.evaluate(tracks, estimator, folder, progress=progress, **options):
            if outcome.error is not None:
                complain(_about(outcome.track.name, outcome.error), FAILED)
                failed.append(outcome.track.name)
                continue
            done.append(outcome.scores)
            say(_line(outcome))
    if failed and len(tracks) > 1:
        complain(f"{len(failed)} of {len(tracks)} tracks failed: {', '.join(failed)}", FAILED)
    return sorted(done, key=lambda track: track.name), failed


def _tracks(arguments: argparse.Namespace) -> list[Any]:
    from jaxsep.io import musdb

    tracks = musdb.find_tracks(arguments.references, subset=arguments.subset)
    if arguments.subset is None and any(track.subset == "test" for track in tracks):
        tracks = [track for track in tracks if track.subset == "test"]
    return _named(tracks, arguments.tracks, "--tracks") if arguments.tracks else tracks


def _named(tracks: Sequence[Any], names: Sequence[str], option: str) -> list[Any]:
    known = {track.name: track for track in tracks}
    unknown = [name for name in names if name not in known]
    if unknown:
        some = ", ".join(list(known)[:5]) + (", ..." if len(known) > 5 else "")
        raise ValueError(f"{option}: expected names of tracks such as {some}; got {', '.join(unknown)}")
    return [known[name] for name in dict.fromkeys(names)]


def _heard(arguments: argparse.Namespace, tracks: Sequence[Any]) -> list[str]:
    """The names of the tracks to hear in the report."""
    chosen = tracks[:3] if arguments.listen is None else _named(tracks, arguments.listen, "--listen")
    return [track.name for track in chosen]


def _listening(arguments: argparse.Namespace, heard: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """What the report wants to hear of the songs while they are at hand."""
    if not arguments.report:
        return {}
    from jaxsep import report

    report.import_jinja()  # before the work, not after it
    clips = report.ClipFolder(arguments.outdir / "clips", frozenset(heard), arguments.seconds)
    return {"needs_audio": clips.is_missing, "on_audio": clips.keep}


def _report(
    arguments: argparse.Namespace, methods: Mapping[str, Sequence[Any]], heard: Sequence[str]
) -> Path:
    from jaxsep import report

    (name, tracks), *others = methods.items()
    path = arguments.outdir / "report.html"
    clips = report.load_clips(arguments.outdir / "clips", heard)
    report.write_report(path, name, tracks, others=dict(others), clips=clips)
    return path


def _line(outcome: Any) -> str:
    """A track's scores in one line."""
    found = "  ".join(
        f"{target} {scores.median('SDR'):.2f}".replace("nan", "–")
        for target, scores in outcome.scores.targets.items()
    )
    notes = "".join(f"\n  {note}" for note in outcome.scores.notes)
    known = " (known)" if outcome.resumed else ""
    return f"{outcome.track.name}{known}: SDR {found}{notes}"


def _about(track: str, error: Exception) -> Exception | str:
    """The error with the track's name in it."""
    text = str(error)
    return error if isinstance(error, OSError) or track in text else f"{track}: {text}"
