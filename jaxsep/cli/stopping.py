"""Ctrl-C and SIGTERM end a command, wherever in it they arrive."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["check_stopped", "stoppable"]

_stopped = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM raise KeyboardInterrupt, in the main thread of a program.

    Code that they arrive in may let no exception out: JAX has a callback in Python's garbage collector, and one
    separation in twenty that was stopped at its start went on for it. What was swallowed so, :func:`check_stopped`
    raises again.
    """
    _stopped.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Where SIGINT is ignored, as in the background of a shell, it stays so.
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heeded}
    hook = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if lost.exc_type is KeyboardInterrupt else hook(lost)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def check_stopped() -> None:
    """To be called now and then by long work.

    Raises:
        KeyboardInterrupt: the command was told to stop.
    """
    if _stopped.is_set():
        raise KeyboardInterrupt


def _stop(*_: Any) -> None:
    _stopped.set()
    raise KeyboardInterrupt
