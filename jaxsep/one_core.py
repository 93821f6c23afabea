"""Programs of which several can run at once on the host's processor.

XLA's programs for the CPU share one pool of threads, and some of their parts wait there for each other: products and
sums by YNNPACK, and from jaxlib 0.11 on Fourier transforms. As long as one program runs there is a thread that gets
on; of two beside each other all threads may wait, for ever. So jaxsep runs its programs one after the other, and
compiles those that are to run beside each other so that nothing in them waits.
"""

import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import jax

__all__ = ["one_core_jit"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# Transforms on the thread that asks for them; products and sums by Eigen and by XLA itself.
_OPTIONS = {"xla_cpu_multi_thread_eigen": False, "xla_cpu_experimental_ynn_fusion_type": ""}


def one_core_jit(function: Callable[Parameters, Result], **options: Any) -> Callable[Parameters, Result]:
    """``jax.jit(function, **options)`` whose calls may overlap on a CPU; on an accelerator just that.

    Args:
        function: pure, not called from a jitted one.
        **options: of `jax.jit`.

    Returns:
        The compiled function. Threads may call it at the same time.

    Example:
        >>> double = one_core_jit(lambda x: 2 * x)
        >>> double(3.0)
        Array(6., dtype=float32, weak_type=True)
    """
    everywhere, choosing = jax.jit(function, **options), threading.Lock()

    @cache
    def on_cpu() -> Callable[Parameters, Result]:
        return jax.jit(function, compiler_options=_known_options(), **options)

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        device = jax.config.jax_default_device
        platform = getattr(device, "platform", device) or jax.default_backend()
        if platform != "cpu":
            return everywhere(*args, **kwargs)
        with choosing:  # or threads that come first together would each compile a program of their own
            compiled = on_cpu()
        return compiled(*args, **kwargs)

    return call


@cache
def _known_options() -> dict[str, Any]:
    """Those that this XLA has: one that it does not have would be an error."""
    known = {}
    for name, value in _OPTIONS.items():
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = value
    return known
