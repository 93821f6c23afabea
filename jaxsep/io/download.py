"""Files from the network, checked by their hash."""

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from jaxsep import __version__
from jaxsep.io.files import atomic_path

__all__ = ["fetch"]

_TIMEOUT = 30.0  # seconds without a single byte
_CHUNK = 1 << 18


def fetch(
    urls: Iterable[str],
    path: str | os.PathLike[str],
    *,
    sha256_prefix: str = "",
    md5: str = "",
    progress: bool = True,
) -> str:
    """Downloads one file from the first address that gives the right one.

    Args:
        urls: addresses of the same file, tried in this order; ``file:`` is fine too.
        path: where to put it; it appears whole and checked, or not at all.
        sha256_prefix: the first hexadecimal digits of the file's SHA-256.
        md5: the hexadecimal digits of its MD5, where its publisher gives no better.
        progress: whether to show a bar on the error stream.

    Returns:
        The file's SHA-256.

    Raises:
        ConnectionError: no address gave the file; the message says why, address by address.
        OSError: the file cannot be written.
        ValueError: neither hash is given.
    """
    if not sha256_prefix and not md5:
        raise ValueError("sha256_prefix: expected this or md5 to check the file by, got neither")
    failures = []
    for url in urls:
        try:
            with atomic_path(path) as temporary:
                return _fetch_one(url, temporary, sha256_prefix, md5, Path(path).name if progress else None)
        except _Unfit as error:
            failures.append(f"{url}: {error}")
    raise ConnectionError("; ".join(failures) or "no address to download from")


class _Unfit(Exception):
    """This address does not give the file; another may."""


def _fetch_one(url: str, path: Path, sha256_prefix: str, md5: str, label: str | None) -> str:
    # Imported where the network is needed: together they cost a tenth of a second at every start.
    import http.client
    import urllib.error
    import urllib.request

    from tqdm import tqdm

    # Some servers turn away Python's own name.
    request = urllib.request.Request(url, headers={"User-Agent": f"jaxsep/{__version__}"})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # it is a response, too
        raise _Unfit(f"{error.code} {error.reason}") from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _Unfit(getattr(error, "reason", None) or error) from None
    size = response.headers.get("Content-Length")
    size = int(size) if size and size.isdecimal() else None
    digest, older, received = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=label, disable=label is None, file=sys.stderr)
    with response, bar, path.open("wb") as file:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (http.client.HTTPException, OSError) as error:
                raise _Unfit(f"broke off after {received} bytes ({error})") from None
            if not chunk:
                break
            file.write(chunk)
            digest.update(chunk)
            older.update(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    if size is not None and received != size:
        raise _Unfit(f"broke off after {received} of {size} bytes")
    if not digest.hexdigest().startswith(sha256_prefix):
        raise _Unfit(
            f"expected SHA-256 {sha256_prefix}..., got {digest.hexdigest()[: len(sha256_prefix)]}..."
        )
    if md5 and older.hexdigest() != md5:
        raise _Unfit(f"expected MD5 {md5}, got {older.hexdigest()}")
    return digest.hexdigest()
