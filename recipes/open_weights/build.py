"""Builds the corpus: recorded songs and guitars, rendered songs, patches, singers. Started again, it goes on.

sh recipes/open_weights/install.sh
python -m recipes.open_weights.build --output corpus --songs everything-is-free --workers 2
"""

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from recipes.open_weights import corpus, sources
from recipes.open_weights.cache import decode, is_decoded
from recipes.open_weights.patches import render_patches
from recipes.open_weights.singers import render_singers

__all__ = ["main"]

_Work = Callable[[], None] | None  # makes a song; None if it is there


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--output", type=Path, required=True, help="folder of the corpus")
    p.add_argument("--songs", type=Path, help="folder of recorded songs in stems")
    p.add_argument("--rendered", type=int, default=700, help="how many songs to render")
    p.add_argument("--patches", type=int, default=500, help="how many songs of synthesiser patches to render")
    p.add_argument("--singers", type=int, default=300, help="how many songs of singers alone to render")
    p.add_argument("--seconds", type=float, default=35.0, help="length of what is rendered")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cache", type=Path, help="decode the songs there, for `train --follow`")
    p.add_argument("--workers", type=int, default=2)
    return p


def main(argv: list[str] | None = None) -> int:
    """Build what is not there yet."""
    args = parser().parse_args(argv)
    if args.songs and not any(args.songs.glob("*/*.*")):
        print(f"--songs: expected folders of stems in {args.songs}, found none", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    # What is there already comes first, as others may wait for it to be decoded.
    tasks: dict[str, _Work] = {song.name: None for song in corpus.finished_songs(args.output)}
    for name, work in _planned(args):
        tasks.setdefault(name, work)
    left = [task for task in tasks.items() if not _is_done(task, args.output, args.cache)]
    run = partial(_run, output=args.output, cache=args.cache)
    failed = []
    # Fresh processes: a fork of one that has threads, as JAX has, may hang.
    with get_context("spawn").Pool(args.workers) as pool:
        done = pool.imap_unordered(run, left)
        for name, problem in tqdm(done, total=len(left), desc="songs", disable=None):
            if problem:
                failed.append(name)
                print(f"\n{name}: {problem}", file=sys.stderr, flush=True)
    for source in sources.missing():
        print(f"built without, as not installed: {source}", file=sys.stderr)
    return 1 if failed else 0


def _planned(args: argparse.Namespace) -> Iterator[tuple[str, _Work]]:
    """The songs of the corpus, and what makes each."""
    if args.songs:
        for folder in sorted(path for path in args.songs.iterdir() if path.is_dir()):
            yield f"recorded_{folder.name}", partial(corpus.write_recorded, args.output, folder)
    for file in sources.guitars():
        name = f"guitar_{file.parent.name.replace(' ', '_').lower()}"
        yield name, partial(corpus.write_guitar, args.output, file)
    kinds = {
        "rendered": (args.rendered, partial(corpus.render_song, songs=args.songs)),
        "patches": (args.patches, render_patches),
        "singers": (args.singers, render_singers),
    }
    most = max(count for count, _ in kinds.values())
    for index in range(most):  # side by side, for those who train meanwhile
        for kind, (count, render) in kinds.items():
            if index < count:
                yield f"{kind}_{index:05d}", partial(_render, render, kind, index, args)


def _is_done(task: tuple[str, _Work], output: Path, cache: Path | None) -> bool:
    name, work = task
    return work is None and (cache is None or is_decoded(output / name, cache))


def _run(task: tuple[str, _Work], *, output: Path, cache: Path | None) -> tuple[str, str | None]:
    """One song must not stop the others."""
    name, work = task
    try:
        if work:
            work()
        if cache is not None:
            decode(output / name, cache)
    except Exception:
        return name, traceback.format_exc(limit=-3)
    return name, None


def _render(render: Callable, kind: str, index: int, args: argparse.Namespace) -> None:
    stems, compression = render(args.seed, index, args.seconds)
    note = {"kind": kind, "seed": args.seed, "index": index}
    corpus.write_song(args.output, f"{kind}_{index:05d}", stems, compression, note)


if __name__ == "__main__":
    sys.exit(main())
