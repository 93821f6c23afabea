"""MUSDB18 as records; ``python -m datasets.musdb18`` makes them."""
