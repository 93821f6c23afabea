"""Memory that a training step gives back and wants again right away stays with the process."""

import ctypes
import sys

__all__ = ["keep_memory"]

# glibc's mallopt, malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Ask glibc to keep large blocks instead of returning each to the system.

    A step on a CPU makes temporaries of hundreds of megabytes. By default each is mapped anew, and every page of it
    costs a fault: a third of the step. Elsewhere than on Linux with glibc nothing is done.

    Returns:
        Whether the allocator has agreed.

    Example:
        >>> isinstance(keep_memory(), bool)
        True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return mallopt(_M_MMAP_THRESHOLD, _NEVER) == 1 and mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
