"""Train Open-Unmix: ``python train.py --target bass --dataset synthetic``; ``--help`` tells more."""

import sys

from datasets import catalogue
from jaxsep import memory
from jaxsep.cli import train

if __name__ == "__main__":
    memory.restart_with_huge_pages()
    sys.exit(train.main(catalogue))
