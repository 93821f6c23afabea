"""A logarithmic frequency axis: straight lines stay where they belong, pitch becomes place."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep.log_frequency import log_frequencies, log_frequency
from jaxsep.nmf_informed import hz_to_midi, midi_to_hz, pitched_templates


def test_it_interpolates_between_bins(x64, rng):
    v = rng.random((2, 65, 3))
    got = log_frequency(v, sample_rate=16000, bins_per_octave=7, lowest=50.0)
    hertz = log_frequencies(sample_rate=16000, bins_per_octave=7, lowest=50.0)
    assert hertz[-1] < 8000 and len(hertz) == got.shape[-2]
    for song in range(2):
        for frame in range(3):
            expected = np.interp(hertz, np.arange(65) * 125.0, v[song, :, frame])
            np.testing.assert_allclose(got[song, :, frame], expected, rtol=1e-12)


def test_an_octave_is_a_shift():
    w = pitched_templates([60, 72], n_fft=8192, sample_rate=44100, n_harmonics=4)
    low, high = log_frequency(w, sample_rate=44100, bins_per_octave=12).T
    assert int(high.argmax()) - int(low.argmax()) in (11, 12, 13)  # bands are as wide as a bin


def test_integers_become_float32_and_pitch_has_an_inverse():
    assert log_frequency(np.ones((9, 2), int), sample_rate=8000).dtype == jnp.float32
    for pitch in (21.0, 69.0, 100.5):
        assert hz_to_midi(midi_to_hz(pitch)) == pytest.approx(pitch)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"got 0 and 32\.7"):
        log_frequencies(sample_rate=8000, bins_per_octave=0)
    with pytest.raises(ValueError, match="below half the sample rate, got 36 and 5000 Hz of 8000"):
        log_frequency(jnp.ones((9, 2)), sample_rate=8000, lowest=5000)
    with pytest.raises(ValueError, match=r"two bins or more, got \(1, 2\)"):
        log_frequency(jnp.ones((1, 2)), sample_rate=8000)
    with pytest.raises(ValueError, match="hertz must be above 0, got 0"):
        hz_to_midi(0)
