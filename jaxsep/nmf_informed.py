"""Where factorisations start when pitches, drums or a score are known: templates and activations.

They are combined as ``NMFState(w, h)`` or ``NMFDState(w, h)``. What is zero or next to nothing in them stays
small, which ties each component to its pitch, drum or notes.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "drum_activations",
    "drum_templates",
    "hz_to_midi",
    "midi_to_hz",
    "note_activations",
    "pitched_templates",
]

_SILENT = 2.0**-52  # where a score is silent: a start that multiplicative updates can leave, unlike 0

# Centre in Hz, width in octaves and height of the bands of each drum: where its energy is by and large.
_DRUM_BANDS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "kick": ((60.0, 0.6, 1.0), (3000.0, 1.5, 0.03)),
    "snare": ((200.0, 0.5, 1.0), (4000.0, 1.5, 0.5)),
    "hihat": ((9000.0, 0.7, 1.0),),
    "tom": ((110.0, 0.5, 1.0),),
    "cymbal": ((6000.0, 1.2, 1.0),),
}


def midi_to_hz(pitch: float) -> float:
    """Frequency of a MIDI pitch in equal temperament, ``440 * 2 ** ((pitch - 69) / 12)`` Hz.

    Example:
        >>> midi_to_hz(57)
        220.0
    """
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def hz_to_midi(hertz: float) -> float:
    """MIDI pitch of a frequency in equal temperament, ``69 + 12 log2(hertz / 440)``.

    Raises:
        ValueError: a frequency that is not above 0.

    Example:
        >>> hz_to_midi(220.0)
        57.0
    """
    if not hertz > 0:
        raise ValueError(f"hertz must be above 0, got {hertz}")
    return 69 + 12 * math.log2(hertz / 440)


def pitched_templates(
    pitches: Sequence[float],
    *,
    n_fft: int,
    sample_rate: float,
    n_lags: int | None = None,
    n_harmonics: int = 25,
    tolerance: tuple[float, float] = (0.75, 0.75),
) -> Float[Array, "freq component ..."]:
    """Harmonic combs: for each pitch bands around its harmonics, of height 1 / number of the harmonic.

    Bins between the bands are exactly zero and stay so, which ties the component to its pitch.

    Args:
        pitches: MIDI numbers, one template each.
        n_fft: window length of the spectrogram in samples.
        sample_rate: Hz.
        n_lags: frames in a template; None for templates of ``nmf``, without that axis.
        n_harmonics: harmonics in a comb; those above the last bin are left out.
        tolerance: semitones by which a band reaches below and above its harmonic, ≥ 0.

    Returns:
        float32 templates (n_fft // 2 + 1, component) or (n_fft // 2 + 1, component, lag) of unit sum.

    Raises:
        ValueError: no pitches, or a pitch whose comb has no bin.

    Example:
        >>> w = pitched_templates([57, 69], n_fft=2048, sample_rate=44100)
        >>> w.shape, bool(w[20, 1] > 0), bool(w[30, 1] > 0)
        ((1025, 2), True, False)

    References:
        J. Driedger, H. Grohganz, T. Prätzlich, S. Ewert, M. Müller: Score-informed audio decomposition and
        applications. ACM Multimedia 2013.
    """
    if not len(pitches):
        raise ValueError("pitches must hold one pitch or more, got none")
    bins_per_hz = n_fft / sample_rate
    w = np.zeros((n_fft // 2 + 1, len(pitches)))
    for component, pitch in enumerate(pitches):
        low, high = midi_to_hz(pitch - tolerance[0]), midi_to_hz(pitch + tolerance[1])
        for harmonic in range(1, n_harmonics + 1):
            first = max(round(harmonic * low * bins_per_hz) - 1, 0)
            last = round(harmonic * high * bins_per_hz)
            w[first:last, component] = 1 / harmonic
        if not w[:, component].any():
            raise ValueError(f"pitch {pitch} must have a harmonic below {sample_rate / 2} Hz, got none")
    return _as_templates(w, None if n_lags is None else np.ones(n_lags))


def drum_templates(
    drums: Sequence[str] = ("kick", "snare", "hihat"),
    *,
    n_fft: int,
    sample_rate: float,
    n_lags: int | None = 8,
) -> Float[Array, "freq component ..."]:
    """Rough templates of common drums, to be refined by a fit: spectral bumps that fade over the lags.

    They only decide which component becomes which drum. Where recordings of the drums exist, use
    :func:`jaxsep.nmfd.learn_templates`.

    Args:
        drums: names among kick, snare, hihat, tom, cymbal.
        n_fft: window length of the spectrogram in samples.
        sample_rate: Hz.
        n_lags: frames in a template, over which it falls linearly to a tenth; None for templates without that
            axis.

    Returns:
        float32 templates (n_fft // 2 + 1, component, lag) or (n_fft // 2 + 1, component) of unit sum, nowhere
        zero.

    Raises:
        ValueError: no drums, or an unknown name.

    Example:
        >>> w = drum_templates(n_fft=2048, sample_rate=44100, n_lags=4)
        >>> w.shape, [int(k) for k in w.sum(axis=2).argmax(axis=0) * 44100 // 2048]
        ((1025, 3, 4), [64, 193, 9000])
    """
    unknown = [drum for drum in drums if drum not in _DRUM_BANDS]
    if unknown or not len(drums):
        raise ValueError(f"drums must be among {', '.join(_DRUM_BANDS)}, got {list(drums)}")
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    octave = np.log2(np.maximum(frequency, sample_rate / n_fft / 2))
    w = np.full((len(frequency), len(drums)), 1e-4)
    for component, drum in enumerate(drums):
        for centre, width, height in _DRUM_BANDS[drum]:
            w[:, component] += height * np.exp(-0.5 * ((octave - np.log2(centre)) / width) ** 2)
    return _as_templates(w, None if n_lags is None else np.linspace(1, 0.1, n_lags))


def note_activations(
    notes: Sequence[tuple[float, float, float]],
    *,
    pitches: Sequence[float],
    n_frames: int,
    hop_length: int,
    sample_rate: float,
    tolerance: float = 0.025,
) -> Float[Array, "component frame"]:
    """Activations that a score allows: 1 while a note of the component's pitch sounds, next to nothing else.

    Args:
        notes: (onset, duration, pitch) of each note, in seconds, seconds and as a MIDI number.
        pitches: the pitch of each component, as for :func:`pitched_templates`.
        n_frames: frames of the spectrogram.
        hop_length: samples between frames.
        sample_rate: Hz.
        tolerance: seconds by which a note is made longer at either end.

    Returns:
        float32 activations (component, frame). A note covers the frames
        ``round(t sample_rate / hop_length) - 1`` from its (widened) beginning to its end, as in the NMF
        toolbox: a window hears a note before its centre does.

    Raises:
        ValueError: a note whose pitch is not among `pitches`.

    Example:
        >>> grid = {"n_frames": 10, "hop_length": 100, "sample_rate": 1000}
        >>> h = note_activations([(0.5, 0.2, 69)], pitches=[69], **grid)
        >>> [int(frame) for frame in jnp.flatnonzero(h[0] == 1)]
        [4, 5, 6]

    References:
        J. Driedger, H. Grohganz, T. Prätzlich, S. Ewert, M. Müller: Score-informed audio decomposition and
        applications. ACM Multimedia 2013.
    """
    rows = {pitch: row for row, pitch in enumerate(pitches)}
    h = np.full((len(pitches), n_frames), _SILENT, np.float32)
    for onset, duration, pitch in notes:
        if pitch not in rows:
            raise ValueError(f"the pitch of every note must be among {list(pitches)}, got {pitch}")
        first = round((onset - tolerance) * sample_rate / hop_length) - 1
        last = round((onset + duration + tolerance) * sample_rate / hop_length) - 1
        h[rows[pitch], max(first, 0) : max(last + 1, 0)] = 1
    return jnp.asarray(h)


def drum_activations(
    onsets: Sequence[Sequence[float]],
    *,
    n_frames: int,
    hop_length: int,
    sample_rate: float,
    decay: float = 0.75,
) -> Float[Array, "component frame"]:
    """Activations of drums whose onsets are known: impulses that decay exponentially.

    Args:
        onsets: the onsets of each drum in seconds, one sequence per component.
        n_frames: frames of the spectrogram.
        hop_length: samples between frames.
        sample_rate: Hz.
        decay: what remains of an impulse one frame later, 0 to 1.

    Returns:
        float32 activations (component, frame), next to nothing before the first onset. An impulse stands at
        ``round(t sample_rate / hop_length) - 1``, as in the NMF toolbox: a window hears a stroke before its
        centre does.

    Example:
        >>> grid = {"n_frames": 4, "hop_length": 100, "sample_rate": 1000}
        >>> drum_activations([[0.2]], decay=0.5, **grid).round(3).tolist()
        [[0.0, 1.0, 0.5, 0.25]]

    References:
        C. Dittmar, M. Müller: Reverse engineering the Amen break. IEEE/ACM Transactions on Audio, Speech, and
        Language Processing 24(9), 2016.
    """
    h = np.full((len(onsets), n_frames), _SILENT, np.float32)
    for row, times in enumerate(onsets):
        frames = np.round(np.asarray(times, float) * sample_rate / hop_length).astype(int) - 1
        h[row, frames[(frames >= 0) & (frames < n_frames)]] = 1
    for frame in range(1, n_frames):
        h[:, frame] = np.maximum(h[:, frame], decay * h[:, frame - 1] + (1 - decay) * h[:, frame])
    return jnp.asarray(h)


def _as_templates(w: np.ndarray, envelope: np.ndarray | None) -> Float[Array, "freq component ..."]:
    """Spectra, times an envelope over lags if there is one, with unit sum."""
    if envelope is not None:
        w = w[:, :, None] * envelope
    return jnp.asarray(w / w.sum(axis=(0, *range(2, w.ndim)), keepdims=True), jnp.float32)
