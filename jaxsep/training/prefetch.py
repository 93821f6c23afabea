"""Batches made ahead in a thread, while the devices are busy with the one before."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["prefetch"]


@contextmanager
def prefetch(make: Callable[[int], Any], first: int, last: int, *, ahead: int = 2) -> Iterator[Iterator[Any]]:
    """Within the block, an iterator over ``make(first), ..., make(last - 1)``.

    What ``make`` raises is raised where its turn comes. When the block ends, so does the thread.

    Args:
        make: called in a thread, once for each number in order.
        first: number.
        last: number that is not reached.
        ahead: how many are made before they are asked for, at least 1.

    Example:
        >>> with prefetch(lambda n: n * n, 2, 5) as squares:
        ...     list(squares)
        [4, 9, 16]
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def offer(item: tuple[Any, BaseException | None]) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for number in range(first, last):
                offer((make(number), None))
                if stop.is_set():
                    return
        except BaseException as error:  # whatever it is, it belongs to who asks
            offer((None, error))

    def items() -> Iterator[Any]:
        for _ in range(first, last):
            item, error = ready.get()
            if error is not None:
                raise error
            yield item

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield items()
    finally:
        stop.set()
        thread.join()
