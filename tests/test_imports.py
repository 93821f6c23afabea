"""Imports run one way: each module only sees those on the left of it. And the design page knows them all."""

import ast
import re
from pathlib import Path

import jaxsep

ROOT = Path(jaxsep.__file__).parent

ORDER = [
    ["config", "batches", "memory", "one_core", "planes", "cache_blocks"],
    [
        "stft",
        "products",
        "row_blocks",
        "median_filter",
        "gaussian",
        "refinement",
        "sample_blocks",
        "nmf_init",
        "nmf_informed",
        "sparseness",
        "log_frequency",
    ],
    ["lstm", "beta_divergence", "projection_filters", "nmf_constraints", "repetition"],
    ["projection"],
    ["bsseval"],
    ["descent", "griffin_lim", "masking", "nmfd_updates", "metrics", "openunmix", "filtering"],
    ["nmf"],
    ["nmfd", "nmf_online", "nmf_restarts"],
    ["io", "blocks", "plot"],
    ["rendering"],
    ["passes", "factorised", "adaptation"],
    ["hearing"],
    ["separation", "classic", "oracle", "training"],
    ["output", "songs", "scores"],
    ["stem_files", "estimators", "scoring", "summary"],
    ["evaluation"],
    ["report"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def rooms() -> dict[str, list[Path]]:
    """Each module or package of the library, with its files."""
    found = {path.stem: [path] for path in ROOT.glob("*.py") if path.stem != "__init__"}
    return found | {path.parent.name: sorted(path.parent.glob("*.py")) for path in ROOT.glob("*/__init__.py")}


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "jaxsep":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("jaxsep.")}
    return names & set(RANK)


def test_every_room_has_its_place():
    assert set(rooms()) == set(RANK)


def test_imports_run_one_way():
    backwards = [
        f"{room} imports {other}"
        for room, files in rooms().items()
        for file in files
        for other in imported_rooms(file) - {room}
        if RANK[other] >= RANK[room]
    ]
    assert backwards == []


def test_the_design_page_names_every_room():
    page = (ROOT.parent / "docs" / "DESIGN.md").read_text()
    listed = page.partition("## Rooms")[2].split("```")[1]
    # A line is names with one or two spaces between, and after more of them what they are for.
    names = [name for line in listed.splitlines() for name in re.split(r"\s{3,}", line.strip())[0].split()]
    assert set(rooms()) - {re.sub(r"\.py$|/$", "", name) for name in names} == set()
    there = {
        path.name for folder in (ROOT, ROOT.parent, ROOT.parent / "datasets") for path in folder.glob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} - there == set()
