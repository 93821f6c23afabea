"""Convolutive NMF: equal to libnmfd by its rule, monotone by ours; constraints and informed starts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsep import nmf, nmf_constraints, nmfd
from jaxsep.nmf import NMFState
from jaxsep.nmfd import NMFDState
from tests.compilations import compilations

LIBNMFD = np.load(Path(__file__).parent / "reference" / "data" / "nmf_libnmfd.npz")
# libnmfd adds 2^-52 to models and denominators of a spectrogram whose sum is 1: up to 1e-10 of a small entry.
EPS_EFFECT = 1e-8


def start(dtype=None):
    v, w, h = (jnp.asarray(LIBNMFD[name], dtype) for name in ("v", "w", "h"))
    return v / v.sum(), NMFDState(w, h)


def distance(got, expected):
    """Relative, norm-wise."""
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", ("both", "fix_w"))
def test_averaged_rule_equals_libnmfd(x64, name):
    v, state = start()
    end, _ = nmfd.fit(v, state, rule="averaged", n_steps=30, update_w=name == "both")
    w = LIBNMFD[f"nmfd_w_{name}"]
    # libnmfd scales fixed templates to unit sum as well, after the first step.
    got = end.w if name == "both" else end.w / end.w.sum(axis=(0, 2), keepdims=True)
    assert distance(got, w) < EPS_EFFECT
    if name == "both":
        assert distance(end.h, LIBNMFD["nmfd_h_both"]) < EPS_EFFECT


def test_model_is_the_sum_of_shifted_templates(x64):
    _, state = start()
    expected = np.zeros((21, 30))
    for lag in range(8):
        expected[:, lag:] += np.asarray(state.w)[:, :, lag] @ np.asarray(state.h)[:, : 30 - lag]
    np.testing.assert_allclose(nmfd.reconstruct(state), expected, rtol=1e-12)


def test_one_lag_is_ordinary_factorisation(x64):
    v, state = start()
    for beta in (0.0, 1.0, 2.0):
        convolutive, info = nmfd.fit(v, state._replace(w=state.w[..., :1]), beta=beta, n_steps=10)
        plain, plain_info = nmf.fit(v, NMFState(state.w[..., 0], state.h), beta=beta, n_steps=10)
        np.testing.assert_allclose(convolutive.w[..., 0], plain.w, rtol=1e-9)
        np.testing.assert_allclose(info.divergence, plain_info.divergence, rtol=1e-9)


@pytest.mark.parametrize(
    ("beta", "dtype"),
    [(-1.0, "float32"), (0.0, "float32"), (1.0, "float64"), (2.0, "float32"), (3.0, "float32")],
)
def test_multiplicative_rule_never_raises_the_divergence(beta, dtype):
    with jax.enable_x64(dtype == "float64"):
        v = jnp.asarray(LIBNMFD["v"], dtype) * 1e-5
        v = v.at[3].set(0).at[:, 7].set(0)
        state = nmfd.init(v, 2, key=jax.random.key(0), n_lags=5)
        state, info = nmfd.fit(v, state, beta=beta, n_steps=30)
        curve = np.asarray(info.divergence)
        rounding = 4 * jnp.finfo(v.dtype).eps * (curve[0] + v.size * float(v.mean()) ** beta)
        assert (np.diff(curve) <= rounding).all()
        assert curve[-1] < 0.95 * curve[0]
        assert all((x >= 0).all() for x in state)


def test_loudness_does_not_matter_to_the_penalties(x64):
    v, state = start()
    options = {"sparsity": 0.3, "decorrelation": 0.5, "n_steps": 8}
    for beta in (0.0, 1.0, 2.0):
        quiet, _ = nmfd.fit(v, state, beta=beta, **options)
        loud, _ = nmfd.fit(1024 * v, state._replace(h=1024 * state.h), beta=beta, **options)
        np.testing.assert_allclose(loud.w, quiet.w, rtol=1e-9)
        np.testing.assert_allclose(loud.h, 1024 * quiet.h, rtol=1e-9)


def test_penalties_do_what_they_say(x64):
    v, _ = start()
    v = v * 500
    state = nmfd.init(v, 3, key=jax.random.key(0))

    def sparseness(h):
        return float((h.sum() ** 2) / (h**2).sum())

    def similarity(w):
        w = w / jnp.linalg.norm(w, axis=0, keepdims=True)
        return float(jnp.einsum("fcl,fcm->", w, w))

    plain, _ = nmfd.fit(v, state)
    sparse, _ = nmfd.fit(v, state, sparsity=0.5)
    different, _ = nmfd.fit(v, state, decorrelation=300.0)
    assert sparseness(sparse.h) < sparseness(plain.h)
    assert similarity(different.w) < similarity(plain.w)
    np.testing.assert_allclose(sparse.w.sum(axis=(0, 2)), 1, rtol=1e-9)


@pytest.mark.parametrize("rule", ("multiplicative", "averaged"))
def test_fixed_factors_and_components_keep_every_bit(rule):
    v, state = start(jnp.float32)
    end, _ = nmfd.fit(v, state, rule=rule, n_steps=4, update_w=False)
    np.testing.assert_array_equal(end.w, state.w)
    end, _ = nmfd.fit(v, state, rule=rule, n_steps=4, update_h=False)
    np.testing.assert_array_equal(end.h, state.h)
    end, _ = nmfd.fit(
        v, state, rule=rule, n_steps=4, update_w=jnp.array([0.0, 1.0, 0.5]), update_h=jnp.array([1.0, 0, 1])
    )
    np.testing.assert_array_equal(end.w[:, 0], state.w[:, 0])
    np.testing.assert_array_equal(end.h[1], state.h[1])
    assert (end.w[:, 1:] != state.w[:, 1:]).any(axis=(0, 2)).all()


def test_batched_equals_looped_equals_vmap(x64):
    v, state = start()
    songs = jnp.stack([v, v[::-1]])
    batched, info = nmfd.fit(songs, state, n_steps=5)
    mapped, _ = jax.vmap(lambda v: nmfd.fit(v, state, n_steps=5))(songs)
    for i in range(2):
        looped, looped_info = nmfd.fit(songs[i], state, n_steps=5)
        np.testing.assert_allclose(batched.w[i], looped.w, rtol=1e-10)
        np.testing.assert_allclose(mapped.h[i], looped.h, rtol=1e-10)
        np.testing.assert_allclose(info.divergence[i], looped_info.divergence, rtol=1e-10)


def test_fit_is_repeated_steps(x64):
    v, state = start()
    for rule in ("multiplicative", "averaged"):
        end, _ = nmfd.fit(v, state, rule=rule, n_steps=2)
        twice = nmfd.step(v, nmfd.step(v, state, rule=rule), rule=rule)
        np.testing.assert_allclose(end.w, twice.w, rtol=1e-12)
        np.testing.assert_allclose(end.h, twice.h, rtol=1e-12)


@pytest.mark.parametrize("beta", (0.0, 1.0))
def test_degenerate_input_stays_finite(beta):
    for v in (jnp.zeros((4, 5)), jnp.ones((1, 1)), jnp.ones((4, 2)).at[1].set(0)):
        state, info = nmfd.fit(v, nmfd.init(v, 2, key=jax.random.key(0), n_lags=3), beta=beta, n_steps=5)
        assert all(jnp.isfinite(x).all() for x in (*state, info.divergence))


def test_init_is_as_loud_as_the_spectrogram():
    v, _ = start(jnp.float32)
    state = nmfd.init(jnp.stack([v, 10 * v]), 2, key=jax.random.key(0), n_lags=3)
    np.testing.assert_allclose(state.w.sum(axis=(1, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(
        state.h.sum(axis=1).mean(axis=1), v.sum(axis=0).mean() * jnp.array([1, 10]), rtol=1e-5
    )


def test_templates_are_learnt_from_examples(x64):
    truth = np.random.default_rng(4).random((21, 3)) ** 2
    strokes = np.zeros((1, 40))
    strokes[0, ::8] = 1
    example = nmfd.reconstruct(NMFDState(jnp.asarray(truth)[:, None], jnp.asarray(strokes)))
    learnt = nmfd.learn_templates([example, example], key=jax.random.key(0), n_lags=3, n_steps=100)
    assert learnt.shape == (21, 2, 3)
    assert distance(learnt[:, 0], truth / truth.sum()) < 0.1


def test_nothing_recompiles():
    v, state = start(jnp.float32)
    nmfd.fit(v, state, n_steps=2, constraint=nmf_constraints.Diagonality(3))
    with compilations() as again:
        nmfd.fit(v, state, n_steps=2, constraint=nmf_constraints.Diagonality(3))
    assert not [name for name in again if "fit" in name]


def test_penalties_can_be_traced():
    v, state = start(jnp.float32)

    def stepped(sparsity, decorrelation):
        return nmfd.step(v, state, sparsity=sparsity, decorrelation=decorrelation)

    expected, got = stepped(0.1, 0.2), jax.jit(stepped)(0.1, 0.2)
    np.testing.assert_allclose(got.w, expected.w, rtol=1e-5)  # the same operations, in another grouping


def test_bad_arguments_are_refused():
    v, state = start(jnp.float32)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="rule must be multiplicative or averaged, got 'fast'"):
        nmfd.fit(v, state, rule="fast")
    with pytest.raises(ValueError, match="averaged rule needs beta 1 and no penalties, got beta 2"):
        nmfd.fit(v, state, rule="averaged", beta=2.0)
    with pytest.raises(ValueError, match="penalties must be 0 or more, got -1"):
        nmfd.step(v, state, sparsity=-1.0)
    with pytest.raises(ValueError, match="21 bins, 30 frames"):
        nmfd.fit(v, state._replace(h=state.h[:2]))
    with pytest.raises(ValueError, match="3 and 2 dimensions"):
        nmfd.fit(v, state._replace(w=state.w[0]))
    with pytest.raises(ValueError, match="v must be finite and non-negative, got 1 NaN"):
        nmfd.fit(v.at[0, 0].set(jnp.nan), state)
    with pytest.raises(ValueError, match="n_lags must be 1 or more, got 2 and 0"):
        nmfd.init(v, 2, key=key, n_lags=0)
    with pytest.raises(ValueError, match="examples must hold one"):
        nmfd.learn_templates([], key=key)


def test_inputs_are_untouched():
    v, w, h = (LIBNMFD[name].copy() for name in ("v", "w", "h"))
    nmfd.fit(v, NMFDState(w, h), n_steps=2)
    for name, x in (("v", v), ("w", w), ("h", h)):
        np.testing.assert_array_equal(x, LIBNMFD[name])
