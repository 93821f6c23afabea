"""From the options of ``jaxsep evaluate`` to what it scores: folders, separators, oracles, side by side."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsep.cli.common import load_source, refuse_unheeded, separation_config
from jaxsep.io import zoo

if TYPE_CHECKING:
    from jaxsep.estimators import Estimator

__all__ = ["contenders", "evaluations_in", "folders_of", "labelled", "refuse_contradictions"]

# What only a separator has a use for.
_SEPARATOR_OPTIONS = (
    "targets", "components", "iterations", "niter", "wiener_win_len", "softmask", "adaptation", "hearings",
    "consistency",
)  # fmt: skip


def refuse_contradictions(arguments: argparse.Namespace) -> None:
    """An option that nothing has a use for is a mistake, which silence would hide."""
    default = arguments.parser.get_default
    changed = [name for name, value in vars(arguments).items() if value != default(name)]
    methods = _methods(arguments)
    source = "--estimates" if arguments.estimates else "--oracle"
    for option in _SEPARATOR_OPTIONS:
        if not methods and option in changed:
            raise ValueError(f"--{option.replace('_', '-')}: expected with a separator, got it with {source}")
    for option in ("listen", "seconds"):
        if option in changed and not arguments.report:
            raise ValueError(f"--{option}: expected with --report, got it without")
    if methods:
        refuse_unheeded(arguments, methods)


def contenders(arguments: argparse.Namespace) -> dict[str, "Estimator"]:
    """What is scored, by name: folders first, then separators, then oracles, each in the order of its option.

    To be called when the device is chosen. It reads all weights: one that is missing fails before the work.
    """
    from jaxsep import estimators

    found: list[tuple[str, Estimator]] = [
        (label, estimators.FolderEstimator.from_folder(path))
        for label, path in labelled(arguments.estimates).items()
    ]
    config = separation_config(arguments) if _methods(arguments) else None
    for method in _methods(arguments):
        for model in (arguments.model or [zoo.DEFAULT_MODEL]) if method == "umx" else [None]:
            options = argparse.Namespace(**vars(arguments) | {"method": method, "model": model})
            one = estimators.SeparatorEstimator(load_source(options), config)
            found.append((one.name, one))
    found += [(one.name, one) for one in map(estimators.OracleEstimator, arguments.oracle)]
    names = [name for name, _ in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"expected methods of different names, got {twice[0]} twice")
    return dict(found)


def folders_of(names: Sequence[str], outdir: Path) -> dict[str, Path]:
    """Where each one's scores go: a lone one's to the folder itself, of several each to a folder of its own.

    Example:
        >>> folders_of(["a net"], Path("out"))["a net"].as_posix()
        'out'
        >>> [path.as_posix() for path in folders_of(["a net", "nmf"], Path("out")).values()]
        ['out/a-net', 'out/nmf']
    """
    if len(names) == 1:
        return {names[0]: outdir}
    return {name: outdir / re.sub(r"[^\w.]+", "-", name).strip("-.") for name in names}


def evaluations_in(folders: Sequence[Path]) -> list[Path]:
    """The folders of scores to compare with; for one that holds several methods, the folder of each."""
    found = []
    for folder in folders:
        inside = [] if (folder / "test").is_dir() else sorted(path.parent for path in folder.glob("*/test"))
        found += inside or [folder]
    return found


def labelled(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders by their names, with as much of the path before them as tells them apart.

    Example:
        >>> list(labelled([Path("/a/scores"), Path("/b/scores"), Path("/a/scores"), Path("/irm")]))
        ['a/scores', 'b/scores', 'irm']
    """
    paths = list(dict.fromkeys(folder.resolve() for folder in folders))
    found = {}
    for path in paths:
        for n in range(1, len(path.parts) + 1):
            if [other.parts[-n:] for other in paths].count(path.parts[-n:]) == 1:
                break
        found[Path(*path.parts[-n:]).as_posix()] = path
    return found


def _methods(arguments: argparse.Namespace) -> list[str]:
    """The methods that separate: those asked for; nets where weights, or nothing else, is asked for."""
    if arguments.method:
        return list(dict.fromkeys(arguments.method))
    return ["umx"] if arguments.model or not (arguments.estimates or arguments.oracle) else []
