"""The command ``jaxsep models``: what there is, and a model's card."""

import argparse
from typing import Any

from jaxsep.io import catalogue

__all__ = ["add_command", "list_models"]


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of ``jaxsep``."""
    parser = commands.add_parser("models", help="list the models", description="List the models.")
    parser.add_argument("--card", metavar="MODEL", help="show the card of this model, a name or a folder")
    parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace) -> int:
    if arguments.card is None:
        return list_models()
    print(catalogue.model_card(arguments.card).rstrip())
    return 0


def list_models() -> int:
    """Print what is known of each model."""
    for row in catalogue.list_models():
        where = "on disk" if row.on_disk else "to download"
        print(f"{row.name}{' (default)' if row.is_default else ''}: {', '.join(row.targets)}")
        print(f"    version: {row.version}; {row.megabytes:g} MB, {where}")
        print(f"    licence: {row.licence}")
        print(f"    sha256: {', '.join(f'{target} {digits}' for target, digits in row.sha256.items())}")
    return 0
