"""Spectrograms as tiny transparent PNGs: the page paints through them in any colour, light or dark."""

import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8

from jaxsep.stft import stft

__all__ = ["loudness", "png_mask", "spectrogram_image"]

LEVELS = 32  # shades: five bits a pixel, which compress well and show no steps
RANGE = 66.0  # dB from the darkest shade to the first
LOWEST, HIGHEST = 40.0, 16000.0  # Hz
_N_FFT = 4096


def loudness(
    audio: Float[np.ndarray, "channel time"], sample_rate: float, *, n_bands: int = 96, n_columns: int = 480
) -> Float[np.ndarray, "band column"]:
    """Power in dB in bands of equal width on a logarithmic scale of frequency, the lowest first.

    Args:
        audio: `(channel, time)`.
        sample_rate: in Hz.
        n_bands: rows, from 40 Hz to 16 kHz (or the highest frequency there is).
        n_columns: columns, at most.

    Returns:
        Float array `(band, column)`; -200 dB for silence.
    """
    hop = max(1, audio.shape[-1] // n_columns)
    power = np.mean(np.abs(np.asarray(stft(audio, n_fft=_N_FFT, hop_length=hop))) ** 2, axis=0)
    frequencies = np.geomspace(LOWEST, min(HIGHEST, sample_rate / 2), n_bands + 1)
    edges = frequencies * _N_FFT / sample_rate
    # A narrow band lies between two bins: the sum over a band is the difference of the running sum, between
    # whose points we interpolate.
    running = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, axis=0)])
    places = np.clip(edges + 0.5, 0, len(power))
    below = np.minimum(places.astype(int), len(power) - 1)
    part = (places - below)[:, None]
    at_edges = running[below] * (1 - part) + running[below + 1] * part
    return 10 * np.log10(np.maximum(np.diff(at_edges, axis=0), 1e-20))


def spectrogram_image(decibels: Float[np.ndarray, "band column"], top: float) -> bytes:
    """A PNG whose opacity is loudness: full at `top` dB, none at 66 dB below; low frequencies at the foot."""
    shares = np.clip((decibels - top) / RANGE + 1, 0, 1)
    return png_mask(np.round(shares[::-1] * (LEVELS - 1)).astype(np.uint8), LEVELS)


def png_mask(levels: UInt8[np.ndarray, "row column"], n_levels: int) -> bytes:
    """A PNG, black all over, with an opacity a pixel from 0 to `n_levels` - 1.

    Example:
        >>> png_mask(np.array([[0, 1]], np.uint8), 2)[1:4]
        b'PNG'
    """
    height, width = levels.shape
    opacities = bytes(round(255 * level / (n_levels - 1)) for level in range(n_levels))
    rows = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1)  # each begins with "no filter"
    return b"".join((
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", bytes(3 * n_levels)),
        _chunk(b"tRNS", opacities),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
        _chunk(b"IEND", b""),
    ))  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
