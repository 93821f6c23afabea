"""What every benchmark shares: fair timing, the machine's name, one report format.

A benchmark is a script of a few lines:

    from harness import measure, report

    timings = measure({"peer": lambda: peer(x), "jaxsep": lambda: ours(x)}, repeats=5)
    report("filtering", [{"contender": name, **timing.row()} for name, timing in timings.items()])
"""

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

__all__ = ["RESULTS", "Timing", "machine", "measure", "report"]

RESULTS = Path(__file__).parent / "results"


class Timing(NamedTuple):
    """Seconds that one contender took."""

    first: float  # the first call: compilation, allocation and imports included
    seconds: tuple[float, ...]  # the warmed calls, in the order they ran

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The least disturbed call: what to compare while others use the machine."""
        return min(self.seconds)

    def row(self) -> dict[str, float]:
        """The columns of a report, in seconds."""
        return {"median_s": self.median, "best_s": self.best, "first_s": self.first}


def measure(contenders: Mapping[str, Callable[[], Any]], *, repeats: int = 5) -> dict[str, Timing]:
    """Time functions of no argument in turn, so that a busy moment of the machine hits all of them alike.

    Each is called once to warm up, timed apart, then `repeats` times, one round after the other. JAX returns
    before it has computed: every result is waited for.
    """
    if repeats < 1:
        raise ValueError(f"expected repeats >= 1, got {repeats}")
    first = {name: _seconds(function) for name, function in contenders.items()}
    rounds = [{name: _seconds(function) for name, function in contenders.items()} for _ in range(repeats)]
    return {name: Timing(first[name], tuple(one[name] for one in rounds)) for name in contenders}


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """The machine a figure belongs to: processor, cores, memory, versions, devices, date."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "devices": [device.device_kind for device in jax.devices()],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(name: str, rows: Sequence[Mapping[str, Any]], path: str | Path | None = None) -> Path:
    """Print `rows` as a table and write them, with the machine, to `path` (results/NAME.json when None).

    Rows may have different columns. The file is written aside and renamed: an interrupted run leaves the last
    result whole.
    """
    path = RESULTS / f"{name}.json" if path is None else Path(path)
    document = {"name": name, "machine": machine(), "rows": [dict(row) for row in rows]}
    print(
        f"{name} on {document['machine']['cpu']}, {document['machine']['cores']} cores, "
        f"{', '.join(document['machine']['devices'])}, jax {document['machine']['jax']}"
    )
    print(_table(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(document, indent=1) + "\n")
    aside.replace(path)
    return path


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
