"""The README's table of speed, made of the results of the benchmarks: no figure in it is written by hand.

    python benchmarks/table.py            # show it
    python benchmarks/table.py --write    # put it into README.md, between its two comments

A line whose benchmark has not been run, or not with an original beside it, is left out.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
NOTHING = "Not measured yet: run the scripts in `benchmarks/`, then `python benchmarks/table.py --write`."
BEGIN, END = "<!-- speed table, by benchmarks/table.py -->", "<!-- end of the speed table -->"


class Line(NamedTuple):
    """One line of the table: where its two figures are."""

    work: str
    result: str  # the file's name without its extension
    original: str  # what the contender is called there
    jaxsep: str = "jaxsep"
    where: Mapping[str, Any] = {}  # what both rows have
    column: str = "median_s"
    unit: str = "s"


LINES = [
    Line("30 s of music into four stems, EM 1", "separation", "openunmix", where={"seconds": 30, "n_iters": 1}),
    Line(
        "4 minutes into four stems, EM 1", "separation", "openunmix", where={"seconds": 240, "n_iters": 1}
    ),
    Line(
        "a fresh process, 7 s of music", "commands", "openunmix", where={"command_seconds_of_audio": 7}
    ),
    Line(
        "a fresh process, 4 minutes", "commands", "openunmix", where={"command_seconds_of_audio": 240}
    ),
    Line(
        "its peak memory, 4 minutes",
        "commands",
        "openunmix",
        where={"command_seconds_of_audio": 240},
        column="peak_mb",
        unit="MB",
    ),
    Line("Wiener filter, 1294 frames, EM 1", "filtering", "openunmix", where={"frames": 1294, "n_iters": 1}),
    Line("Wiener filter, 1294 frames, EM 1", "filtering", "norbert", where={"frames": 1294, "n_iters": 1}),
    Line("STFT of 4 minutes", "stft", "torch stft", "jaxsep stft"),
    Line("the same, in memory as in its shape", "stft", "torch stft, copied into order", "jaxsep stft"),
    Line("inverse STFT of 4 minutes", "stft", "torch istft", "jaxsep istft"),
    Line("the net on 60 s", "openunmix", "openunmix song", "jaxsep song"),
    Line("its gradient, 16 x 6 s", "openunmix", "openunmix gradient", "jaxsep gradient"),
    Line("BSSEval v4, 4 stems of 30 s, best of two", "metrics", "museval", where={"seconds": 30}, column="best_s"),
    *(
        Line(
            f"NMF update, {name}, fastest run",
            "nmf",
            original,
            where={"work": f"NMF {beta}"},
            column="ms_per_update",
            unit="ms",
        )
        for name, beta in (("Euclidean", "EUC"), ("Kullback-Leibler", "KL"), ("Itakura-Saito", "IS"))
        for original in ("scikit-learn", "torchnmf")
    ),
]  # fmt: skip


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown, and under it the machines.

    Args:
        results: the benchmarks' documents by name.
    """
    rows, machines = [], []
    for line in LINES:
        document = results.get(line.result)
        figures = [_figure(document, line, name) for name in (line.original, line.jaxsep)]
        if document is None or None in figures:
            continue
        theirs, ours = figures
        rows.append(
            f"| {line.work} | {_label(line.original)} | {_number(theirs)} {line.unit} "
            f"| {_number(ours)} {line.unit} | {_number(theirs / ours)} |"
        )
        machines.append(_machine(document["machine"]))
    if not rows:
        return NOTHING
    head = ["| work | original | it takes | jaxsep takes | times as good |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"Medians, taken in turn on {'; '.join(dict.fromkeys(machines))}."])


def load_results(folder: Path = RESULTS) -> dict[str, Any]:
    """The documents that the benchmarks wrote."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def inserted(page: str, text: str) -> str:
    """The page with the text between its two comments.

    Raises:
        ValueError: the page lacks them.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected {BEGIN} and {END} in the page, got none")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _figure(document: Mapping[str, Any] | None, line: Line, contender: str) -> float | None:
    wanted = {**line.where, "contender": contender}
    for row in document["rows"] if document else ():
        if all(row.get(key) == value for key, value in wanted.items()):
            return row.get(line.column)
    return None


def _label(contender: str) -> str:
    name = contender.split()[0]
    return {"openunmix": "open-unmix"}.get(name, name)


def _machine(machine: Mapping[str, Any]) -> str:
    accelerators = [device for device in machine["devices"] if device != "cpu"]
    return ", ".join([f"{machine['cores']} cores of {machine['cpu']}", *accelerators])


def _number(value: float) -> str:
    """Three digits, at most two of them behind the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write it into README.md")
    arguments = parser.parse_args(argv)
    text = table(load_results())
    if arguments.write:
        README.write_text(inserted(README.read_text(), text))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
