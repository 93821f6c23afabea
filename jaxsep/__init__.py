"""Music source separation in JAX."""

__version__ = "0.1.0"
