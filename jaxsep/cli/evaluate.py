"""The command ``jaxsep evaluate``: its parser and its main, no logic."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

DESCRIPTION = """\
Score separated stems against the true ones by BSSEval v4, as museval does, and write a JSON file a track in
museval's schema, a table (CSV), and with --report a page to look at and listen to.

REFERENCES is the MUSDB18-HQ folder (or MUSDB18 with its .stem.mp4 files), or any folder of folders of stems:
REFERENCES/A song/vocals.wav, ... Estimates come from a separator, from a folder (--estimates) in which the
tracks and stems have the same names, or from an oracle that knows the truth (--oracle)."""

# What only a separator has a use for.
_SEPARATOR_OPTIONS = (
    "method", "model", "targets", "components", "iterations", "niter", "wiener_win_len", "softmask", "consistency",
)  # fmt: skip


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
    add("--jobs", type=int, default=2, metavar="N", help="songs in flight (default: %(default)s)")
    add("--device", choices=DEVICES, help="where to compute (default: the best there is)")
    add("--quiet", action="store_true", help="say only what went wrong")

    source = parser.add_argument_group("estimates")
    source.add_argument("--estimates", type=Path, metavar="FOLDER", help="score what is in this folder")
    source.add_argument(
        "--oracle",
        choices=("ibm", "irm", "mwf", "mixture"),
        help="ideal binary mask, ideal ratio mask, multichannel Wiener filter: upper bounds; mixture in equal "
        "shares: the lower bound",
    )
    add_source_options(source)

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
         help="folders of other evaluations, ours or museval's, to show beside")  # fmt: skip


def _evaluate(arguments: argparse.Namespace) -> int:
    _refuse_contradictions(arguments)
    device = prepare_jax(arguments.device)
    from jaxsep import evaluation, scores  # here: --help need not wait for JAX

    say = speaker(arguments)
    config = evaluation.ScoringConfig(
        window=arguments.window,
        hop=arguments.hop,
        filters_len=arguments.filters_len,
        mode=arguments.mode,
        silent=arguments.silent,
        scorer=arguments.scorer,
    )
    if config.scorer == "museval":
        evaluation.import_museval()
    tracks = _tracks(arguments)
    others = {label: scores.load_scores(folder) for label, folder in _labelled(arguments.compare).items()}
    estimator = _estimator(arguments)
    heard = _heard(arguments, tracks)
    listening = _listening(arguments, heard)
    say(f"{estimator.name}: {len(tracks)} track{'s' if len(tracks) > 1 else ''} on {device}")

    done, failed = [], []
    with progress_bar(f"{len(tracks)} tracks", quiet=arguments.quiet) as progress:
        for outcome in evaluation.evaluate(
            tracks,
            estimator,
            arguments.outdir,
            config=config,
            n_jobs=arguments.jobs,
            progress=progress,
            **listening,
        ):
            if outcome.error is not None:
                complain(_about(outcome.track.name, outcome.error), FAILED)
                failed.append(outcome.track.name)
                continue
            done.append(outcome.scores)
            say(_line(outcome))
    done.sort(key=lambda track: track.name)
    if done:
        scores.write_csv(arguments.outdir / "scores.csv", done)
        say(scores.format_table(done))
        say(str(arguments.outdir / "scores.csv"))
    if done and arguments.report:
        heard = [name for name in heard if name not in failed]
        say(str(_report(arguments, estimator.name, done, others, heard)))
    if failed and len(tracks) > 1:
        complain(f"{len(failed)} of {len(tracks)} tracks failed: {', '.join(failed)}", FAILED)
    return FAILED if failed else 0


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    """An option that nothing has a use for is a mistake, which silence would hide."""
    if arguments.estimates and arguments.oracle:
        raise ValueError("expected --estimates or --oracle, got both")
    default = arguments.parser.get_default
    changed = [name for name, value in vars(arguments).items() if value != default(name)]
    source = "--estimates" if arguments.estimates else "--oracle" if arguments.oracle else None
    for option in _SEPARATOR_OPTIONS:
        if source and option in changed:
            raise ValueError(f"--{option.replace('_', '-')}: expected with a separator, got it with {source}")
    for option in ("listen", "seconds", "compare"):
        if option in changed and not arguments.report:
            raise ValueError(f"--{option}: expected with --report, got it without")
    if not source:
        refuse_unheeded(arguments)


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


def _estimator(arguments: argparse.Namespace) -> Any:
    from jaxsep import estimators

    if arguments.estimates:
        return estimators.FolderEstimator.from_folder(arguments.estimates)
    if arguments.oracle:
        return estimators.OracleEstimator(arguments.oracle)
    return estimators.SeparatorEstimator(load_source(arguments), separation_config(arguments))


def _labelled(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by their names, with as much of the path before them as tells them apart.

    Example:
        >>> list(_labelled([Path("/a/scores"), Path("/b/scores"), Path("/a/scores"), Path("/irm")]))
        ['a/scores', 'b/scores', 'irm']
    """
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    labelled = {}
    for path in paths:
        for n in range(1, len(path.parts) + 1):
            if [other.parts[-n:] for other in paths].count(path.parts[-n:]) == 1:
                break
        labelled[Path(*path.parts[-n:]).as_posix()] = path
    return labelled


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
    arguments: argparse.Namespace,
    name: str,
    done: Sequence[Any],
    others: dict[str, Any],
    heard: Sequence[str],
) -> Path:
    from jaxsep import report

    path = arguments.outdir / "report.html"
    clips = report.load_clips(arguments.outdir / "clips", heard)
    report.write_report(path, name, done, others=others, clips=clips)
    return path


def _line(outcome: Any) -> str:
    """A track's scores in one line."""
    found = "  ".join(
        f"{target} {scores.median('SDR'):.2f}" for target, scores in outcome.scores.targets.items()
    )
    notes = "".join(f"\n  {note}" for note in outcome.scores.notes)
    known = " (known)" if outcome.resumed else ""
    return f"{outcome.track.name}{known}: SDR {found}{notes}"


def _about(track: str, error: Exception) -> Exception | str:
    """The error with the track's name in it."""
    text = str(error)
    return error if isinstance(error, OSError) or track in text else f"{track}: {text}"
