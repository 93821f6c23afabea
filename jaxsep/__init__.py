"""Music source separation in JAX.

The parts are modules of pure functions: :mod:`jaxsep.stft`, :mod:`jaxsep.nmf`, :mod:`jaxsep.openunmix`,
:mod:`jaxsep.filtering`, :mod:`jaxsep.metrics` and more, each imported by its name. Two functions put them
together::

    separator = jaxsep.load_separator()
    stems = jaxsep.separate(audio, sample_rate, separator=separator)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsep.separation import load_separator as load_separator
    from jaxsep.separation import separate as separate

__version__ = "0.1.0"

__all__ = ["__version__", "load_separator", "separate"]


def __getattr__(name: str) -> Any:
    """Load the separator's machinery when it is first asked for: ``import jaxsep.nmf`` stays light."""
    if name in ("load_separator", "separate"):
        return getattr(importlib.import_module("jaxsep.separation"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
