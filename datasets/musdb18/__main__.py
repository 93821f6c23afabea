"""Make records of MUSDB18: what ``tfds build datasets/musdb18`` does, without Apache Beam, which that tool wants."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Make the records; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m datasets.musdb18", description=__doc__)
    parser.add_argument("--manual_dir", type=Path, required=True, help="folder of MUSDB18 or MUSDB18-HQ")
    parser.add_argument("--data_dir", type=Path, required=True, help="where to write; 15 GB for all songs")
    arguments = parser.parse_args(argv)
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        print("error: expected TensorFlow Datasets: pip install 'jaxsep[train]'", file=sys.stderr)
        return 1
    from datasets.musdb18.musdb18_dataset_builder import Builder

    config = tfds.download.DownloadConfig(manual_dir=str(arguments.manual_dir))
    try:
        Builder(data_dir=str(arguments.data_dir)).download_and_prepare(download_config=config)
    except (AssertionError, OSError, ValueError) as error:  # TFDS asserts that there is a folder
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
