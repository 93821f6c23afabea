"""Separate songs into stems: ``python separate.py mix.wav``; the same as ``jaxsep separate``."""

import sys

from jaxsep.cli import program

if __name__ == "__main__":
    sys.exit(program(["separate", *sys.argv[1:]]))
