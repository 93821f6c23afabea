"""Changes of stems that cost almost nothing where their spectrograms are made anyway: equalisers and low-passes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex

__all__ = ["equalise"]


def equalise(
    spectrograms: Complex[Array, "batch source channel frame freq"],
    key: Array,
    *,
    sample_rate: float = 44100.0,
) -> Complex[Array, "batch source channel frame freq"]:
    """Give every stem its own tone, and now and then the whole mixture a low-pass.

    The same low-pass for all stems is what a codec or an old record does: without it "dull" would come to mean one
    of the targets.

    Args:
        spectrograms: of stems, any STFT.
        key: PRNG key.
        sample_rate: Hz.

    Returns:
        The spectrograms times gains of (batch, source, freq).
    """
    batch, sources, _, _, bins = spectrograms.shape
    freqs = jnp.linspace(0.0, sample_rate / 2, bins)
    octaves = jnp.log2(jnp.maximum(freqs, 30.0) / 1000.0)  # -5 ... 4.5
    keys = jax.random.split(key, 8)
    shape = (batch, sources, 4, 1)
    centre = jax.random.uniform(keys[0], shape, minval=-4.5, maxval=4.5)
    width = jax.random.uniform(keys[1], shape, minval=0.3, maxval=1.5)
    height = 4.0 * jax.random.normal(keys[2], shape)
    bells = (height * jnp.exp(-(((octaves[None, None, None] - centre) / width) ** 2))).sum(axis=2)
    tilt = 0.8 * jax.random.normal(keys[3], (batch, sources, 1)) * octaves[None, None]
    flat = jax.random.bernoulli(keys[4], 0.3, (batch, sources, 1))
    gain_db = jnp.where(flat, 0.0, jnp.clip(bells + tilt, -15.0, 12.0))
    gain = 10.0 ** (gain_db / 20.0)

    def low_pass(key: Array, shape: tuple[int, ...], probability: float, lowest: float) -> Array:
        key_on, key_corner = jax.random.split(key)
        on = jax.random.bernoulli(key_on, probability, shape)
        corner = jax.random.uniform(key_corner, shape, minval=lowest, maxval=18000.0)
        return jnp.where(on, 1.0 / (1.0 + (freqs[None, None] / corner) ** 16), 1.0)

    gain = (
        gain
        * low_pass(keys[5], (batch, 1, 1), 0.3, 7000.0)
        * low_pass(keys[6], (batch, sources, 1), 0.15, 3000.0)
    )
    return spectrograms * gain[:, :, None, None].astype(spectrograms.real.dtype)
