"""Adaptation to the song: what it learns from repetition, and what it must leave alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import adaptation, filtering
from jaxsep.adaptation import adapt
from jaxsep.blocks import Block
from jaxsep.config import SeparationConfig
from jaxsep.io import zoo
from jaxsep.rendering import Estimate
from jaxsep.separation import Separator, load_separator, separate
from tests.compilations import compilations
from tests.models import tiny_folder

N_FREQ, N_FRAMES = 65, 80
# The order of sums differs, and up to 50 multiplicative updates carry its rounding on; what the model leaves
# unexplained is a difference of magnitudes of 1 or so, whose rounding is all there is of a faint voice.
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}


def song(seed=0, n_channels=2):
    """STFTs of a voice and of two instruments of two spectra each, and their sum."""
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(0, 1, (N_FREQ, N_FRAMES)) ** 4]
    for _ in range(2):
        w, h = rng.uniform(0, 1, (N_FREQ, 2)) ** 4, rng.uniform(0, 1, (2, N_FRAMES)) ** 4
        parts.append(2 * w @ h)
    phases = np.exp(2j * np.pi * rng.uniform(size=(3, n_channels, N_FREQ, N_FRAMES)))
    sources = np.stack(parts)[:, None] * phases
    return sources, sources.sum(axis=0)


def error(estimates, sources):
    return [
        float(np.sum(np.abs(e - s) ** 2) / np.sum(np.abs(s) ** 2))
        for e, s in zip(estimates, sources, strict=True)
    ]


def test_repetition_mends_what_the_nets_confuse():
    sources, x = song()
    rng = np.random.default_rng(1)
    v = np.abs(sources) * np.exp(0.7 * rng.standard_normal(sources.shape))  # wrong by a factor of two
    before = error(filtering.wiener(v, x), sources)
    after = error(filtering.wiener(adapt(v, x, repeats=(False, True, True)), x), sources)
    assert all(now < then for now, then in zip(after, before, strict=True))


def test_a_voice_that_the_nets_hardly_hear_is_found_in_what_nothing_explains():
    sources, x = song()
    v = np.abs(sources)
    v[0] *= 0.2  # the net is shy of it
    y = np.asarray(filtering.wiener(v, x))
    made = np.asarray(filtering.wiener(adapt(v, x, repeats=(False, True, True)), x))
    shy, heard, true = (np.sum(np.abs(z[0]) ** 2) for z in (y, made, sources))
    assert shy < 0.9 * heard and heard < 1.05 * true
    assert error(made, sources)[0] < 0.8 * error(y, sources)[0]


def test_what_nothing_explains_is_no_voice_where_none_is_heard():
    sources, x = song()
    v = np.abs(sources)
    v[0, :, :, : N_FRAMES // 2] = 0
    made = np.asarray(adapt(v, x, repeats=(False, True, True)))
    assert not made[0, :, :, : N_FRAMES // 2].any()


@pytest.fixture(params=["float32", "float64"])
def close(request):
    """Compare arrays, to the rounding of the precision that everything in the test is computed in."""
    with jax.enable_x64(request.param == "float64"):
        exact = {"rtol": 1e-10, "atol": 1e-12}
        yield partial(np.testing.assert_allclose, **(exact if request.param == "float64" else ROUNDING))


def test_batched_is_looped_is_vmapped(close):
    songs = [song(seed) for seed in range(3)]
    v = jnp.asarray(np.stack([np.abs(sources) ** 1.2 for sources, _ in songs]))
    x = jnp.asarray(np.stack([mixture for _, mixture in songs]))
    repeats = (False, True, True)
    batched = adapt(v, x, repeats=repeats)
    looped = jnp.stack([adapt(*one, repeats=repeats) for one in zip(v, x, strict=True)])
    vmapped = jax.vmap(lambda v, x: adapt(v, x, repeats=repeats))(v, x)
    close(batched, looped)
    close(batched, vmapped)


def test_the_divergence_never_rises():
    rng = np.random.default_rng(0)
    v, offset = rng.uniform(0, 2, (2, N_FREQ, N_FRAMES)) ** 3
    w, h = rng.uniform(0.1, 1, (N_FREQ, 4)), rng.uniform(0.1, 1, (4, N_FRAMES))
    divergences = []
    with jax.enable_x64(True):
        for n_steps in range(12):
            made = adaptation._factorise(
                *map(jnp.asarray, (v, w, h)), offset=jnp.asarray(offset), n_steps=n_steps
            )
            model = np.asarray(made[0] @ made[1]) + offset
            divergences.append(float(np.sum(v * np.log((v + 1e-12) / model) - v + model)))
    assert np.all(np.diff(divergences) <= 0) and divergences[-1] < 0.9 * divergences[0]


def test_inputs_are_left_and_nothing_recompiles():
    sources, x = song()
    v = np.abs(sources)
    kept = v.copy(), x.copy()
    first = adapt(v, x, repeats=[False, True, True])
    with compilations() as compiled:
        again = adapt(v, x, repeats=[False, True, True])
    assert not compiled
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(v, kept[0])
    np.testing.assert_array_equal(x, kept[1])


@pytest.mark.parametrize("level", [1e-4, 1e3])
def test_loudness_changes_nothing(close, level):
    sources, x = song()
    v = np.abs(sources) ** 1.2
    quiet = adapt(v, x, repeats=(False, True, True))
    louder = adapt(level * v, level * x, repeats=(False, True, True))
    close(louder / level, quiet)


@jax.enable_x64(True)
def test_silence_stays_silent_and_frames_of_it_change_nothing_but_themselves():
    sources, x = song()
    v = np.abs(sources)
    silent = adapt(np.zeros_like(v), np.zeros_like(x), repeats=(False, True, True))
    assert not np.any(silent)
    v[..., 40:], x[..., 40:] = 0, 0
    made = np.asarray(adapt(v, x, repeats=(False, True, True)))
    assert not made[..., 40:].any()
    alone = adapt(v[..., :40], x[..., :40], repeats=(False, True, True))
    # Silence is 1e-9 to the factorisation.
    np.testing.assert_allclose(made[..., :40], alone, rtol=1e-6)


@pytest.mark.parametrize("repeats", [(False, False, False), (True, True, True)])
def test_all_or_none_may_repeat(repeats):
    sources, x = song()
    v = np.abs(sources)
    made = np.asarray(adapt(v, x, repeats=repeats))
    assert np.isfinite(made).all() and (made >= 0).all()
    if not any(repeats):
        np.testing.assert_allclose(made, v, rtol=1e-6)


def test_one_channel_of_magnitudes_stands_for_all():
    sources, x = song()
    v = np.abs(sources[:, :1])
    one = adapt(v, x, repeats=(False, True, True))
    both = adapt(np.repeat(v, 2, axis=1), x, repeats=(False, True, True))
    assert one.shape == v.shape
    np.testing.assert_allclose(np.broadcast_to(one, both.shape), both, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": (True, True)}, "as many as sources, 3"),
        ({"repeats": (False, True, True), "n_steps": 0}, "at least 1"),
    ],
)
def test_bad_input(options, message):
    sources, x = song()
    with pytest.raises(ValueError, match=message):
        adapt(np.abs(sources), x, **options)


@pytest.mark.parametrize(("steps", "error"), [(-1, ValueError), (2.5, TypeError), (True, TypeError)])
def test_separators_refuse_what_is_no_number_of_steps(tmp_path, steps, error):
    networks = zoo.resolve(tiny_folder(tmp_path / "model")).networks
    with pytest.raises(error, match="adaptation: expected an int of at least 0"):
        Separator(networks, adaptation=steps)
    with pytest.raises(error, match="adaptation: expected an int of at least 0"):
        SeparationConfig(adaptation=steps)


def test_separators_adapt_as_their_model_asks():
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 60000)).astype(np.float32)
    whole = load_separator()
    assert whole.adaptation > 0
    assert load_separator(targets=["drums", "bass"]).adaptation == 0  # they are no model of the mixture
    asked = separate(noise, 44100, separator=whole)
    as_said = separate(noise, 44100, separator=whole, adaptation=whole.adaptation)
    without = separate(noise, 44100, separator=whole, adaptation=0)
    for name in asked:
        np.testing.assert_array_equal(asked[name], as_said[name])
        assert np.abs(asked[name] - without[name]).max() > 1e-4
    sums = sum(asked.values())
    # As without adaptation: expectation maximisation shares all of the mixture out.
    assert np.abs(sums - noise).max() < 1e-3


def test_what_fills_the_last_block_up_is_no_part_of_the_song():
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 330 * 1024)).astype(np.float32)
    separator = load_separator()
    stems = separate(noise, 44100, separator=separator)
    padded = np.pad(noise, [(0, 0), (0, 200 * 1024)])
    longer = separate(padded, 44100, separator=separator)
    assert all(np.isfinite(stem).all() for stem in (*stems.values(), *longer.values()))
    assert np.abs(sum(stems.values()) - noise).max() < 1e-3
    assert np.abs(sum(longer.values()) - padded).max() < 1e-3


@jax.enable_x64(True)
def test_windows_do_not_depend_on_the_filter_s(monkeypatch):
    monkeypatch.setattr(adaptation, "WINDOW", 32)
    sources, x = song()
    block = Block(np.zeros((1, 2, 1)), 70, 0, True)
    whole = Estimate(block, jnp.asarray(x)[None], (jnp.asarray(np.abs(sources))[:, None],))
    (made,) = adaptation.adapted([whole], repeats=(False, True, True), n_steps=5, n_iters=1)
    for begin, end in ((0, 32), (32, 64), (64, 70)):
        v, part = np.abs(sources)[..., begin:end], x[..., begin:end]
        alone = adapt(v, part, repeats=(False, True, True), n_steps=5)
        # The silence that fills the last window up is 1e-9 to the factorisation.
        np.testing.assert_allclose(made.magnitudes[0][:, 0, ..., begin:end], alone, rtol=1e-6)
    assert not made.magnitudes[0][..., 70:].any()
