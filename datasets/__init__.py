"""Music to train on: pipelines and generators that never import jax.

The folder stays out of the wheel: its name belongs to another package there.
"""
