"""A polite kill or Ctrl-C lets the step end and the state be saved; a second one does not wait."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils

__all__ = ["interruption"]


@contextmanager
def interruption() -> Iterator[Callable[[int], bool]]:
    """Within the block, a function of the step's number: whether the process was asked to end.

    SIGTERM and SIGINT are heeded so, in the main thread; the second of them raises KeyboardInterrupt at once. On
    several hosts all get the same answer for the same step, from JAX, which listens to SIGTERM.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked = threading.Event()

    def note(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: asked.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
