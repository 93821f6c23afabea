"""Signals too long for the device, handed to it in groups of blocks of one fixed shape, some groups at a time.

Signals stay on the host, so that memory does not grow with a song's length, and the second song compiles nothing.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "block_starts",
    "cut",
    "double_precision",
    "float64_device",
    "frame_blocks",
    "map_groups",
    "power_of_two",
]

# Where the FFT and the factorisations exist in double precision; elsewhere (TPU) the host computes.
_FLOAT64_PLATFORMS = ("cpu", "gpu", "cuda", "rocm")
_MOST_AT_A_TIME = 8  # groups, each in a thread that keeps one core busy

Group = TypeVar("Group")
Result = TypeVar("Result")


def float64_device() -> jax.Device:
    """The device the caller works on, or the host's CPU where that one has no double precision."""
    (device,) = jnp.zeros(()).devices()
    return device if device.platform in _FLOAT64_PLATFORMS else jax.local_devices(backend="cpu")[0]


@contextmanager
def double_precision(device: jax.Device | None = None) -> Iterator[None]:
    """Double precision for this thread alone, on a device that has it: by default `float64_device`."""
    with jax.enable_x64(True), jax.default_device(device or float64_device()):
        yield


def map_groups(function: Callable[[Group], Result], groups: Iterable[Group]) -> Iterator[Result]:
    """The function's values of all groups, in their order, computed in double precision some at a time.

    A group is taken from the iterable when its turn has come: they do not pile up. What the function runs is
    compiled by :func:`jaxsep.one_core.one_core_jit`, since it runs beside itself.
    """
    device = float64_device()  # the caller's
    # To an accelerator, a second group travels while it computes.
    n_at_a_time = min(_MOST_AT_A_TIME, os.cpu_count() or 1) if device.platform == "cpu" else 2

    def compute(group: Group) -> Result:
        with double_precision(device):  # settings are a thread's own, and this is another thread
            return jax.block_until_ready(function(group))

    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(n_at_a_time, thread_name_prefix="blocks") as pool:
        for group in groups:
            if len(pending) > n_at_a_time:
                yield pending.popleft().result()
            pending.append(pool.submit(compute, group))
        while pending:
            yield pending.popleft().result()


def block_starts(frames: list[tuple[int, int]], filters_len: int, block_len: int) -> list[tuple[int, int]]:
    """Number of its frame and first sample of every block; filtered frames ring on for filters_len - 1 samples.

    Example:
        >>> block_starts([(0, 5), (5, 10)], 2, 4)
        [(0, 0), (0, 4), (1, 5), (1, 9)]
    """
    return [
        (t, start) for t, (a, b) in enumerate(frames) for start in range(a, b + filters_len - 1, block_len)
    ]


def frame_blocks(
    references: np.ndarray,
    estimates: np.ndarray,
    frames: list[tuple[int, int]],
    starts: list[tuple[int, int]],
    *,
    filters_len: int,
    block_len: int,
    group: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of blocks, each given by its frame and its start; blocks of zeros fill the last group.

    References come with the samples before the block that the filters reach back to. A frame is a signal of
    its own: silence before it and after it, where its filtered references ring on.
    """
    size = min(group, max(8, power_of_two(len(starts))))
    for first in range(0, len(starts), size):
        before = np.zeros((size, len(references), filters_len - 1 + block_len), _buffer_dtype(references))
        within = np.zeros((size, len(estimates), block_len), _buffer_dtype(estimates))
        for k, (t, start) in enumerate(starts[first : first + size]):
            (a, b), stop = frames[t], start + block_len
            lead = max(a, start - filters_len + 1)
            offset = lead - (start - filters_len + 1)
            length = max(0, min(b, stop) - lead)
            before[k, :, offset : offset + length] = references[:, lead : lead + length]
            length = max(0, min(b, stop) - start)
            within[k, :, :length] = estimates[:, start : start + length]
        yield before, within


def cut(audio: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Samples from start to stop, zeros beyond the end.

    Example:
        >>> cut(np.arange(3)[None], 1, 5).tolist()
        [[1.0, 2.0, 0.0, 0.0]]
    """
    piece = np.zeros((len(audio), stop - start), _buffer_dtype(audio))
    available = audio[:, start:stop]
    piece[:, : available.shape[-1]] = available
    return piece


def power_of_two(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << (n - 1).bit_length()


def _buffer_dtype(audio: np.ndarray) -> type:
    """What travels to the device: single precision where the samples are no finer, else double."""
    return np.float32 if audio.dtype in (np.float32, np.float16, np.int16, np.int8, np.uint8) else np.float64
