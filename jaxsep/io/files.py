"""Files that appear whole or not at all, and the folder for what can be fetched again."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

__all__ = ["atomic_path", "cache_dir"]

# Errors of a write, which the system reports without a name.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lends a temporary path beside ``path``, which takes its place when the block ends well.

    Readers see the old file or the complete new one. Whatever ends the block early, Ctrl-C included,
    removes the temporary file and leaves ``path`` as it was.

    Args:
        path: the file to write. Its folder must exist.

    Yields:
        An empty file in the same folder, to be overwritten.

    Raises:
        IsADirectoryError: ``path`` is a folder.
        OSError: the folder is missing or cannot be written to; the error names ``path``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "answer.txt"
        ...     with atomic_path(target) as temporary:
        ...         _ = temporary.write_text("42")
        ...     target.read_text()
        '42'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected a file to write, got a folder")
    # Not the final name plus a suffix: that could exceed the longest name the file system allows. Not
    # tempfile either: its files are private to the user, a finished file follows the umask like any other.
    temporary = path.with_name(f".jaxsep-{secrets.token_hex(8)}.part")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _about(error, path) from None
    try:
        yield temporary
        # Without this the rename may reach the disk before the data, and a power cut leaves an empty file.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        unnamed = error.filename is None and error.errno in _WRITE_ERRORS
        if unnamed or error.filename == str(temporary):
            raise _about(error, path) from None
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _about(error: OSError, path: Path) -> OSError:
    """The same error naming the file that the user asked for."""
    return type(error)(error.errno, error.strerror, str(path))


def cache_dir() -> Path:
    """The folder for downloads and compiled programs: ``JAXSEP_CACHE``, or the user's cache folder.

    It may not exist yet.
    """
    chosen = os.environ.get("JAXSEP_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("jaxsep"))
