"""Soft constraints and informed starts: equal to the NMF toolbox's where that is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import nmf, nmf_informed
from jaxsep.nmf import NMFState
from jaxsep.nmf_constraints import (
    Chain,
    Diagonality,
    Mosaic,
    PercussiveActivations,
    Smoothness,
    diagonal_sum,
    exponential_decay,
    percussiveness,
)
from jaxsep.nmfd import NMFDState
from tests.test_nmfd import EPS_EFFECT, LIBNMFD, distance

MOSAIC = {
    "plain": Mosaic(polyphony=5, length=10),
    "sparse": Mosaic(polyphony=3, length=7, neighbourhood=(1, 7)),
    "cross": Mosaic(polyphony=4, length=4, every=3, neighbourhood=(3, 3)),
}


@pytest.mark.parametrize("beta", (1.0, 2.0))
@pytest.mark.parametrize("name", MOSAIC)
def test_mosaic_equals_libnmfd(x64, name, beta):
    state = NMFState(jnp.asarray(LIBNMFD["templates"]), jnp.asarray(LIBNMFD["activations"]))
    end, _ = nmf.fit(
        LIBNMFD["v"],
        state,
        beta=beta,
        n_steps=20,
        update_w=False,
        constraint=MOSAIC[name],
        divergence_every=20,
    )
    cost = {1.0: "KLDiv", 2.0: "EucDist"}[beta]
    assert distance(end.h, LIBNMFD[f"mosaic_{name}_{cost}"]) < EPS_EFFECT


def test_diagonality_equals_libnmfd(x64):
    state = NMFState(jnp.zeros((2, 12)), jnp.asarray(LIBNMFD["activations"]))
    np.testing.assert_allclose(Diagonality(5)(state, 0, 1).h, LIBNMFD["diagonality"], rtol=1e-12)


def test_percussive_activations_equal_libnmfd(x64):
    state = NMFDState(jnp.asarray(LIBNMFD["w"]), jnp.asarray(LIBNMFD["h"]))
    shaped = PercussiveActivations(size=7, decay=0.75)(state, 0, 1)
    np.testing.assert_allclose(shaped.h, LIBNMFD["percussive"], rtol=1e-12)
    np.testing.assert_array_equal(shaped.w, state.w)


def test_decay_equals_libnmfd_and_differs_per_component(x64):
    h = jnp.asarray(LIBNMFD["h"])
    np.testing.assert_allclose(exponential_decay(h, 0.6), LIBNMFD["nema"], rtol=1e-12)
    each = exponential_decay(h, jnp.array([0.0, 0.6, 1.0]))
    np.testing.assert_allclose(each[0], h[0], rtol=1e-12)
    np.testing.assert_allclose(each[1], LIBNMFD["nema"][1], rtol=1e-12)
    assert (jnp.diff(each[2]) >= -1e-6).all()
    assert (exponential_decay(h, 0.9) >= h).all()


def test_percussiveness_is_a_share():
    w = jnp.zeros((4, 3)).at[0, 0].set(2.0).at[3, 1].set(1.0)
    np.testing.assert_allclose(percussiveness(w), [1, 0, 0.5])
    np.testing.assert_allclose(percussiveness(w[..., None], w_ndim=3), [1, 0, 0.5])


def test_chain_applies_in_order():
    state = NMFState(jnp.ones((2, 6)), jnp.zeros((6, 9)).at[2, 4].set(1.0))
    chained = Chain((Diagonality(3), Smoothness(3)))(state, 0, 1)
    assert not chained.h.any()  # single impulses do not survive a median
    chained = Chain((Smoothness(1), Diagonality(3)))(state, 0, 1)
    np.testing.assert_array_equal(chained.h, diagonal_sum(state.h, 3))


def test_constraints_work_on_a_batch():
    v = jnp.asarray(LIBNMFD["v"], jnp.float32)
    state = NMFState(jnp.asarray(LIBNMFD["templates"], v.dtype), jnp.asarray(LIBNMFD["activations"], v.dtype))
    songs = jnp.stack([v, v[:, ::-1]])
    options = {"update_w": False, "n_steps": 6, "constraint": MOSAIC["sparse"]}
    batched, _ = nmf.fit(songs, state, **options)
    mapped, _ = jax.vmap(lambda v: nmf.fit(v, state, **options))(songs)
    looped, _ = nmf.fit(songs[1], state, **options)
    np.testing.assert_allclose(batched.h[1], looped.h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mapped.h[1], looped.h, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Diagonality(0), "length must be 1 or more, got 0"),
        (lambda: Smoothness(0), "size must be 1"),
        (lambda: PercussiveActivations(3, decay=2.0), "decay must be within 0 and 1, got 2"),
        (lambda: Mosaic(polyphony=0), "polyphony must be 1"),
        (lambda: Mosaic(neighbourhood=(2, 3)), r"odd numbers, got \(2, 3\)"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pitched_templates_equal_libnmfd():
    w = nmf_informed.pitched_templates([60, 64], n_fft=2048, sample_rate=44100, n_harmonics=12)
    np.testing.assert_allclose(w, LIBNMFD["combs"], atol=1e-9)


def test_pitched_templates_leave_out_what_is_above_the_last_bin():
    w = nmf_informed.pitched_templates([69, 120], n_fft=512, sample_rate=16000, n_lags=2)
    assert w.shape == (257, 2, 2)
    np.testing.assert_allclose(w.sum(axis=(0, 2)), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="pitch 130 must have a harmonic below 4000"):
        nmf_informed.pitched_templates([130], n_fft=512, sample_rate=8000)
    with pytest.raises(ValueError, match="got none"):
        nmf_informed.pitched_templates([], n_fft=512, sample_rate=8000)


GRID = {"n_frames": 90, "hop_length": 512, "sample_rate": 44100}


def test_note_activations_equal_libnmfd():
    notes = [(0.1, 0.2, 60), (0.3, 0.3, 64), (0.6, 0.2, 60)]
    h = nmf_informed.note_activations(notes, pitches=[60, 64], **GRID)
    np.testing.assert_allclose(h, LIBNMFD["notes"], atol=1e-7)


def test_drum_activations_equal_libnmfd():
    h = nmf_informed.drum_activations([[0.1, 0.6], [0.3]], decay=0.75, **GRID)
    np.testing.assert_allclose(h, LIBNMFD["strokes"], atol=1e-7)


def test_events_beyond_the_spectrogram_are_cut():
    h = nmf_informed.note_activations(
        [(0.0, 0.01, 60), (0.9, 9.0, 60), (50.0, 1.0, 60)], pitches=[60], **GRID
    )
    assert h[0, 0] == h[0, -1] == 1
    assert h[0, 40] < 1e-9
    h = nmf_informed.drum_activations([[0.0, 50.0]], **GRID)
    assert h.max() < 1e-9
    with pytest.raises(ValueError, match=r"among \[60\], got 61"):
        nmf_informed.note_activations([(0.0, 1.0, 61)], pitches=[60], **GRID)


def test_drum_templates_have_names():
    w = nmf_informed.drum_templates(["hihat", "kick"], n_fft=1024, sample_rate=44100, n_lags=None)
    assert w.shape == (513, 2)
    assert (w > 0).all()
    assert w[:, 0].argmax() > w[:, 1].argmax()
    with pytest.raises(ValueError, match=r"among kick, .* got \['bell'\]"):
        nmf_informed.drum_templates(["bell"], n_fft=1024, sample_rate=44100)
