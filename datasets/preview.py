"""Seven seconds of each song of MUSDB18, to try a training with: downloaded once, checked, and kept."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from jaxsep.io.download import fetch
from jaxsep.io.files import cache_dir

__all__ = ["fetch_preview"]

_INDEX = Path(__file__).with_name("preview.json")
_SUBSETS = ("train", "test")


def fetch_preview(index: Mapping[str, Any] | None = None, *, progress: bool = True) -> Path:
    """The folder with the preview's stem files, downloaded if it is not there.

    Args:
        index: where it is, its MD5 and number of tracks; None: what preview.json says.
        progress: whether to show a bar on the error stream.

    Returns:
        A folder with ``train`` and ``test``, below `jaxsep.io.files.cache_dir`.

    Raises:
        ConnectionError: it cannot be downloaded.
        OSError: it cannot be written.
        ValueError: what came is not the preview.
    """
    index = json.loads(_INDEX.read_text()) if index is None else index
    folder = cache_dir() / "musdb18-7"
    if folder.is_dir():
        return folder
    cache_dir().mkdir(parents=True, exist_ok=True)
    archive = folder.with_name("musdb18-7.zip")
    try:
        fetch(index["urls"], archive, md5=index["md5"], progress=progress)
    except ConnectionError as error:
        raise ConnectionError(
            f"root: expected the folder of MUSDB18, got none, and its preview cannot be downloaded ({error})"
        ) from None
    aside = folder.with_name("musdb18-7.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _extract(archive, aside, index["tracks"])
        aside.rename(folder)  # whole or not at all
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return folder


def _extract(archive: Path, folder: Path, n_tracks: int) -> None:
    """The stem files of an archive; its names are looked at, not trusted."""
    found = 0
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                *_, subset, name = ("", *PurePosixPath(member.filename).parts)
                if subset in _SUBSETS and name.endswith(".stem.mp4") and not name.startswith("."):
                    (folder / subset).mkdir(parents=True, exist_ok=True)
                    with members.open(member) as source, (folder / subset / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
                    found += 1
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{archive}: expected an archive of stem files, got a damaged one ({error})"
        ) from None
    if found != n_tracks:
        raise ValueError(f"{archive}: expected {n_tracks} stem files, got {found}")
