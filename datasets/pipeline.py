"""Batches that are read ahead and in parallel by tf.data, which draws nothing: it counts, maps and prefetches."""

import functools
import os
import threading
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from datasets.chunks import ChunkBatches
from datasets.draws import Plan
from jaxsep.batches import Batch, BatchFunction

__all__ = ["open_batches"]


def open_batches(batches: BatchFunction, *, workers: int | None = None, ahead: int = 2) -> BatchFunction:
    """The same batches, byte for byte, made ahead of time.

    Called with (seed, step), (seed, step + 1), ... it finds each batch ready; any other call starts the pipeline anew
    at that step. The position is these two numbers, so there is no state to save.

    Args:
        batches: `datasets.catalogue.Dataset.batches`.
        workers: excerpts that are read at the same time; None: one for each core.
        ahead: batches that wait, at least 1.

    Returns:
        A function of (seed, step); it raises what reading raises.

    Raises:
        TypeError: the batches are not those of a data set.
        ValueError: TensorFlow is not installed, or a number is too small.
    """
    if not isinstance(batches, ChunkBatches):
        raise TypeError(f"batches: expected those of a data set, got {type(batches).__name__}")
    workers = os.cpu_count() or 1 if workers is None else workers
    for name, value in (("workers", workers), ("ahead", ahead)):
        if value < 1:
            raise ValueError(f"{name}: expected 1 or more, got {value}")
    return _Ahead(_tensorflow(), batches, workers, ahead)


class _Ahead:
    """The running pipeline, and where it stands."""

    def __init__(self, tf: ModuleType, batches: ChunkBatches, workers: int, ahead: int) -> None:
        self._tf, self._batches, self._workers, self._ahead = tf, batches, workers, ahead
        self._next: tuple[int, int] | None = None
        self._errors: list[Exception] = []
        # In a list of its own, so that it can be dropped at the interpreter's end, while its threads may still run.
        self._running: list[Iterator[Any]] = []
        weakref.finalize(self, self._running.clear)

    def __call__(self, seed: int, step: int) -> Batch:
        if self._next != (seed, step):
            self._running.clear()
            self._errors = []
            self._running.append(iter(self._pipeline(seed, step, self._errors)))
        self._next = None  # until this one is there
        try:
            row = next(self._running[0])
        except self._tf.errors.OpError:
            self._running.clear()
            if self._errors:  # what really happened, in its own words
                raise self._errors[0] from None
            raise
        self._next = (seed, step + 1)
        return self._batches.batch(*(part.numpy() for part in row))

    def _pipeline(self, seed: int, step: int, errors: list[Exception]) -> Any:
        """Rows from the first one of ``step`` on, read in parallel, joined in their order."""
        tf, batches = self._tf, self._batches
        rows = batches.rows
        plan = _shared_plans(batches, seed)

        def read(number: np.ndarray) -> list[np.ndarray]:
            later, row = divmod(int(number), len(rows))
            try:
                return list(batches.read(plan(later), rows[row]))
            except Exception as error:
                errors.append(error)
                raise

        shape = batches.shape
        shapes = [shape, shape[:1], shape[:1], shape[:1]]

        def excerpt(number: Any) -> tuple[Any, ...]:
            parts = tf.numpy_function(
                read, [number], [tf.int16, tf.float32, tf.bool, tf.float32], stateful=False
            )
            return tuple(tf.ensure_shape(part, size) for part, size in zip(parts, shapes, strict=True))

        options = tf.data.Options()
        options.threading.private_threadpool_size = self._workers
        options.autotune.enabled = False
        return (
            tf.data.Dataset.range(step * len(rows), np.iinfo(np.int64).max)
            .map(excerpt, num_parallel_calls=self._workers, deterministic=True)
            .batch(len(rows), drop_remainder=True)
            .prefetch(self._ahead)
            .with_options(options)
        )


def _shared_plans(batches: ChunkBatches, seed: int) -> Any:
    """Plans by step; the rows of a batch, read by several threads, share one."""
    lock = threading.Lock()
    cached = functools.lru_cache(maxsize=8)(lambda step: batches.plan(seed, step))

    def plan(step: int) -> Plan:
        with lock:
            return cached(step)

    return plan


def _tensorflow() -> ModuleType:
    # TensorFlow reads this once, as it is imported; its notes on the processor are of no use here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError:
        raise ValueError(
            "open_batches: expected TensorFlow to read ahead with: pip install 'jaxsep[train]'"
        ) from None
    tf.config.set_visible_devices([], "GPU")  # its memory is JAX's
    return tf
