"""Counts what XLA compiles, for tests that allow nothing new."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

COMPILATION = "/jax/core/compile/backend_compile_duration"


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Within the block, collects the name of every function that is compiled, plain operations included.

    Example:
        >>> double = jax.jit(lambda x: 2 * x)
        >>> x = jax.numpy.ones(3)
        >>> with compilations() as first:
        ...     _ = double(x)
        >>> with compilations() as second:
        ...     _ = double(x)
        >>> len(first), len(second)
        (1, 0)
    """
    compiled: list[str] = []

    def listen(event: str, duration: float, **details: str) -> None:
        if event == COMPILATION:
            compiled.append(details.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
