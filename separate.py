"""Separate songs into stems: ``python separate.py mix.wav``; the same as ``jaxsep separate``."""

import sys

from jaxsep.cli import main

if __name__ == "__main__":
    sys.exit(main(["separate", *sys.argv[1:]]))
