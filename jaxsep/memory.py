"""Memory that is no longer used goes back to the system."""

import ctypes
import sys

__all__ = ["release"]

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None

_EVERY = 8  # blocks: it takes a millisecond, and what is taken back must be asked for again


def release(index: int) -> None:
    """After the first block of a pass and every eighth, give the system what this process has freed.

    glibc keeps freed memory for the next request. The arrays of a song's blocks come and go in sizes between
    which it finds few matches, and what it keeps grows with the song. Other C libraries need no telling.

    Args:
        index: of the block that is done.
    """
    if _malloc_trim is not None and index % _EVERY == 0:
        _malloc_trim(0)
