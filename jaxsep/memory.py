"""How the C library's allocator treats this process's memory: give back what is not used, or keep it."""

import ctypes
import sys

__all__ = ["keep", "release"]

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
# glibc's own functions; another C library may lack them.
_malloc_trim = getattr(_LIBC, "malloc_trim", None)
_mallopt = getattr(_LIBC, "mallopt", None)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1

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


def keep() -> bool:
    """Ask glibc to keep large blocks instead of returning each to the system.

    A training step on a CPU makes temporaries of hundreds of megabytes. By default each is mapped anew, and every
    page of it costs a fault: a third of the step. Elsewhere than on Linux with glibc nothing is done.

    Returns:
        Whether the allocator has agreed.

    Example:
        >>> isinstance(keep(), bool)
        True
    """
    if _mallopt is None:
        return False
    return _mallopt(_M_MMAP_THRESHOLD, _NEVER) == 1 and _mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
