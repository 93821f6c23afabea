"""Beta-divergence NMF: equal to scikit-learn and torchnmf, monotone, and safe at the edges."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxsep import nmf, row_blocks
from jaxsep.nmf import NMFState
from jaxsep.nmf_restarts import fit_restarts
from tests.compilations import compilations

SKLEARN = np.load(Path(__file__).parent / "reference" / "data" / "nmf_sklearn.npz")
BETAS = (2.0, 1.0, 0.0, 0.5, 1.5, 3.0, -1.0)
N_STEPS = 50


def start(dtype=None):
    v, w, h = (jnp.asarray(SKLEARN[name], dtype) for name in ("v", "w", "h"))
    return v, NMFState(w, h)


def distance(got, expected):
    """Relative, norm-wise."""
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def quiet_spectrogram():
    """Like real magnitudes: decades of range, zeros, low level, a silent bin and a silent frame."""
    rng = np.random.default_rng(3)
    v = 1e-4 * rng.gamma(0.3, size=(40, 5)) ** 2 @ rng.gamma(0.3, size=(5, 30)) ** 2
    v = v * rng.gamma(1.0, size=v.shape)
    v[v < 1e-9], v[7], v[:, 11] = 0, 0, 0
    return v


@pytest.mark.parametrize("beta", BETAS)
def test_equals_sklearn_in_float64(x64, beta):
    v, state = start()
    end, info = nmf.fit(v, state, beta=beta, n_steps=N_STEPS)
    assert distance(end.w, SKLEARN[f"sklearn_w_{beta}"]) < 1e-8
    assert distance(end.h, SKLEARN[f"sklearn_h_{beta}"]) < 1e-8
    assert info.divergence.shape == (N_STEPS,)
    assert info.n_steps == N_STEPS


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.0))
def test_equals_sklearn_in_float32(beta):
    # 50 steps of float32 rounding move the factors; the quality of the factorisation must not suffer.
    v, state = start(jnp.float32)
    end, info = nmf.fit(v, state, beta=beta, n_steps=N_STEPS)
    reference = nmf.divergence(
        v, jnp.asarray(SKLEARN[f"sklearn_w_{beta}"] @ SKLEARN[f"sklearn_h_{beta}"], v.dtype), beta=beta
    )
    assert end.w.dtype == end.h.dtype == info.divergence.dtype == jnp.float32
    assert abs(info.divergence[-1] / reference - 1) < 0.01


@pytest.mark.parametrize("beta", BETAS)
def test_equals_torchnmf(x64, beta):
    # torchnmf adds the float32 rounding unit, 1.2e-7, to models, numerators and denominators.
    v, state = start()
    end, _ = nmf.fit(v, state, beta=beta, n_steps=N_STEPS)
    product = SKLEARN[f"torchnmf_w_{beta}"] @ SKLEARN[f"torchnmf_h_{beta}"]
    assert distance(nmf.reconstruct(end), product) < 1e-4


@pytest.mark.parametrize("beta", BETAS[:4])
def test_penalties_equal_sklearn(x64, beta):
    v, state = start()
    end, _ = nmf.fit(v, state, beta=beta, n_steps=N_STEPS, alpha_w=1e-3, alpha_h=2e-3, l1_ratio=0.3)
    assert distance(end.w, SKLEARN[f"penalised_w_{beta}"]) < 1e-8
    assert distance(end.h, SKLEARN[f"penalised_h_{beta}"]) < 1e-8


def test_one_penalty_serves_both_factors(x64):
    v, state = start()
    one = nmf.step(v, state, alpha_w=1e-2)
    two = nmf.step(v, state, alpha_w=1e-2, alpha_h=1e-2)
    none = nmf.step(v, state)
    np.testing.assert_array_equal(one.h, two.h)
    assert distance(one.h, np.asarray(none.h)) > 1e-3


@pytest.mark.parametrize("fill", ("nndsvd", "nndsvda"))
def test_nndsvd_equals_sklearn(x64, fill):
    v, _ = start()
    state = nmf.init(v, 4, key=jax.random.key(0), strategy=fill)
    # Both decompositions are randomised; subspace iterations leave 1e-10 or so.
    np.testing.assert_allclose(state.w, SKLEARN[f"{fill}_w"], atol=1e-8)
    np.testing.assert_allclose(state.h, SKLEARN[f"{fill}_h"], atol=1e-8)


@pytest.mark.parametrize("strategy", ("random", "uniform", "nndsvda", "nndsvdar"))
def test_starts_are_nonnegative_and_as_loud_as_the_spectrogram(strategy):
    v, _ = start(jnp.float32)
    batch = jnp.stack([v, 100 * v])
    state = nmf.init(batch, 3, key=jax.random.key(1), strategy=strategy)
    assert state.w.shape == (2, 33, 3)
    assert state.h.shape == (2, 3, 26)
    assert (state.w >= 0).all()
    assert (state.h >= 0).all()
    loudness = nmf.reconstruct(state).mean(axis=(-2, -1)) / batch.mean(axis=(-2, -1))
    # The fill of "nndsvda" is the mean in both factors: its product goes with the square of the level.
    assert (loudness > 0.3).all()
    assert (loudness < (1.5 if strategy != "nndsvda" else 1e4)).all()
    if strategy in ("nndsvda", "nndsvdar"):
        assert (state.w > 0).all()
        assert (state.h > 0).all()


@pytest.mark.parametrize(
    ("beta", "dtype"),
    [
        *((beta, "float32") for beta in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)),
        (-1.0, "float64"),
        (1.0, "float64"),
    ],
)
def test_divergence_never_rises_on_a_quiet_spectrogram(quiet_spectrogram, beta, dtype):
    with jax.enable_x64(dtype == "float64"):
        v = jnp.asarray(quiet_spectrogram, dtype)
        state = nmf.init(v, 4, key=jax.random.key(0))
        state, info = nmf.fit(v, state, beta=beta, n_steps=60)
        curve = np.asarray(info.divergence)
        # The divergence is a sum of v.size terms of either sign; its rounding follows their size, not its
        # own. Each term rounds by a few eps, relative to the level to the power beta for ordinary and to the
        # start for extreme betas.
        rounding = 4 * jnp.finfo(v.dtype).eps * (curve[0] + v.size * float(v.mean()) ** beta)
        assert np.isfinite(curve).all()
        assert (np.diff(curve) <= rounding).all()
        assert curve[-1] < 0.9 * curve[0]
        assert (state.w >= 0).all()
        assert (state.h >= 0).all()


@pytest.mark.parametrize("beta", (-1.0, 1.0, 2.0))
def test_loudness_does_not_matter(quiet_spectrogram, beta):
    v = jnp.asarray(quiet_spectrogram, jnp.float32)
    state = nmf.init(v, 3, key=jax.random.key(0))
    gain = 2.0**12  # a power of two: rounding is the same at both levels
    quiet, _ = nmf.fit(v, state, beta=beta, n_steps=10)
    loud, _ = nmf.fit(gain * v, state._replace(h=gain * state.h), beta=beta, n_steps=10)
    np.testing.assert_allclose(loud.w, quiet.w, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(loud.h / gain, quiet.h, rtol=1e-4, atol=1e-7 * float(quiet.h.max()))


@pytest.mark.parametrize("beta", (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0))
def test_divergence_is_the_textbook_formula(x64, rng, beta):
    v, v_hat = rng.random((2, 6, 5)) + 0.1
    if beta == 1:
        expected = v * np.log(v / v_hat) - v + v_hat
    elif beta == 0:
        expected = v / v_hat - np.log(v / v_hat) - 1
    else:
        expected = (v**beta + (beta - 1) * v_hat**beta - beta * v * v_hat ** (beta - 1)) / (beta * (beta - 1))
    np.testing.assert_allclose(nmf.divergence(v, v_hat, beta=beta), expected.sum(), rtol=1e-12)
    assert nmf.divergence(v, v, beta=beta) < 1e-12


@pytest.mark.parametrize("beta", (-1.0, 0.0, 1.0, 1.5))
def test_divergence_is_defined_at_zero(beta):
    zeros, ones = jnp.zeros((3, 4)), jnp.ones((3, 4))
    mixed = ones.at[1].set(0.0)
    for v, v_hat in ((zeros, zeros), (mixed, mixed)):
        assert abs(float(nmf.divergence(v, v_hat, beta=beta))) < 1e-5
    for v, v_hat in ((zeros, ones), (ones, zeros), (mixed, ones)):
        value = nmf.divergence(v, v_hat, beta=beta)
        assert jnp.isfinite(value)
        assert value > 0


@pytest.mark.parametrize("beta", (0.0, 1.0))
@pytest.mark.parametrize(
    "case", ("zeros", "zero rows and columns", "one by one", "more components than frames")
)
def test_degenerate_input_stays_finite(case, beta):
    v = {
        "zeros": jnp.zeros((4, 5)),
        "zero rows and columns": jnp.ones((4, 5)).at[1].set(0).at[:, 2].set(0),
        "one by one": jnp.full((1, 1), 3.0),
        "more components than frames": jnp.arange(1.0, 9.0).reshape(4, 2),
    }[case]
    state, info = nmf.fit(v, nmf.init(v, 3, key=jax.random.key(0)), beta=beta, n_steps=20)
    for x in (*state, info.divergence):
        assert jnp.isfinite(x).all()
    np.testing.assert_allclose(nmf.reconstruct(state)[v == 0], 0, atol=1e-5)


def test_a_silent_component_stays_silent():
    v, state = start(jnp.float32)
    silent = NMFState(state.w.at[:, 0].set(0), state.h.at[1].set(0))
    for beta in (0.0, 1.0, 2.0):
        end = nmf.step(v, silent, beta=beta)
        assert not end.w[:, 0].any()
        assert not end.h[1].any()
        assert all(jnp.isfinite(x).all() for x in end)


@pytest.mark.parametrize("beta", (0.0, 2.0))
def test_fixed_factors_and_components_keep_every_bit(beta):
    v, state = start(jnp.float32)
    options = {"beta": beta, "n_steps": 8}
    end, _ = nmf.fit(v, state, update_w=False, **options)
    np.testing.assert_array_equal(end.w, state.w)
    assert (end.h != state.h).any()
    end, _ = nmf.fit(v, state, update_h=False, **options)
    np.testing.assert_array_equal(end.h, state.h)
    assert (end.w != state.w).any()
    end, _ = nmf.fit(
        v, state, update_w=jnp.array([0.0, 1, 0.5, 0]), update_h=jnp.array([1.0, 0, 1, 1]), **options
    )
    np.testing.assert_array_equal(end.w[:, jnp.array([0, 3])], state.w[:, jnp.array([0, 3])])
    np.testing.assert_array_equal(end.h[1], state.h[1])
    assert (end.w[:, 1:3] != state.w[:, 1:3]).any(axis=0).all()


def test_degrees_of_zero_and_one_are_false_and_true():
    v, state = start(jnp.float32)
    for flag in (False, True):
        by_flag, _ = nmf.fit(v, state, update_w=flag, n_steps=5)
        by_degree, _ = nmf.fit(v, state, update_w=jnp.full(4, float(flag)), n_steps=5)
        for a, b in zip(by_flag, by_degree, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("timing", (1.0, 4.0))
def test_semi_fixed_components_follow_the_schedule(x64, timing):
    v, state = start()
    n_steps, expected = 6, state
    for i in range(n_steps):
        moved = nmf.step(v, expected, update_h=False)
        share = ((i + 1) / n_steps) ** timing
        expected = expected._replace(w=share * moved.w + (1 - share) * state.w)
        expected = nmf.step(v, expected, update_w=False)
    end, _ = nmf.fit(v, state, update_w=jnp.full(4, 0.5), adapt_timing=timing, n_steps=n_steps)
    np.testing.assert_allclose(end.w, expected.w, rtol=1e-12)
    np.testing.assert_allclose(end.h, expected.h, rtol=1e-12)


def test_fit_is_repeated_steps_and_measures_after_each(x64):
    v, state = start()
    end, info = nmf.fit(v, state, beta=0.5, n_steps=7)
    expected, curve = state, []
    for _ in range(7):
        expected = nmf.step(v, expected, beta=0.5)
        curve.append(nmf.divergence(v, nmf.reconstruct(expected), beta=0.5))
    np.testing.assert_allclose(end.w, expected.w, rtol=1e-12)
    np.testing.assert_allclose(end.h, expected.h, rtol=1e-12)
    np.testing.assert_allclose(info.divergence, curve, rtol=1e-12)


@pytest.mark.parametrize("tol", (None, 0.0))
def test_measuring_rarely_changes_only_the_curve(x64, tol):
    v, state = start()
    every, dense = nmf.fit(v, state, n_steps=11)
    rarely, sparse = nmf.fit(v, state, n_steps=11, tol=tol, divergence_every=4)
    np.testing.assert_allclose(rarely.w, every.w, rtol=1e-12)
    first = nmf.divergence(v, nmf.reconstruct(state))
    d = dense.divergence
    expected = [first] * 3 + [d[3]] * 4 + [d[7]] * 3 + [d[10]]
    np.testing.assert_allclose(sparse.divergence[-1], d[-1], rtol=1e-12)
    if tol is None:
        np.testing.assert_allclose(sparse.divergence, expected, rtol=1e-12)


def test_tolerance_stops_each_problem_by_itself(x64):
    v, state = start()
    batch = jnp.stack([v, nmf.reconstruct(state)])  # the second is solved before the first step
    end, info = nmf.fit(batch, state, n_steps=300, tol=1e-3)
    assert 1 < info.n_steps[0] < 300
    assert info.n_steps[1] == 1
    first = nmf.divergence(v, nmf.reconstruct(state))
    last = int(info.n_steps[0])
    curve = info.divergence[0]
    np.testing.assert_array_equal(curve[last - 1 :], curve[-1])
    assert curve[last - 2] - curve[last - 1] <= 1e-3 * first < curve[last - 3] - curve[last - 2]
    plain, _ = nmf.fit(v, state, n_steps=last)
    np.testing.assert_allclose(end.w[0], plain.w, rtol=1e-12)


def test_no_steps_return_the_start():
    v, state = start(jnp.float32)
    for tol in (None, 0.1):
        end, info = nmf.fit(v, state, n_steps=0, tol=tol)
        np.testing.assert_array_equal(end.w, state.w)
        assert info.divergence.shape == (0,)
        assert info.n_steps == 0


@pytest.mark.parametrize(
    "options", ({"tol": 1e-3}, {"update_w": jnp.array([[1.0, 0, 0.5, 1], [1, 1, 1, 0]])})
)
def test_batched_equals_looped_equals_vmap(x64, options):
    v, state = start()
    v = jnp.stack([v, v[::-1] + 0.1])
    state = NMFState(jnp.stack([state.w, 2 * state.w]), jnp.stack([state.h, state.h[:, ::-1]]))
    options = {"n_steps": 12, **options}
    per_item = {k: options.pop(k) for k in ("update_w",) if k in options}
    batched, info = nmf.fit(v, state, **options, **per_item)
    mapped, mapped_info = jax.vmap(lambda v, s, p: nmf.fit(v, s, **options, **p))(v, state, per_item)
    curves = info.divergence, mapped_info.divergence
    for i in range(2):
        item, item_options = jax.tree.map(lambda x, i=i: x[i], (state, per_item))
        looped, looped_info = nmf.fit(v[i], item, **options, **item_options)
        for a, b, c in zip(
            (*batched, curves[0]), (*mapped, curves[1]), (*looped, looped_info.divergence), strict=True
        ):
            np.testing.assert_allclose(a[i], c, rtol=1e-10)
            np.testing.assert_allclose(b[i], c, rtol=1e-10)
        assert info.n_steps[i] == mapped_info.n_steps[i] == looped_info.n_steps


def test_leading_dims_broadcast(x64):
    v, state = start()
    starts = NMFState(jnp.stack([state.w, 2 * state.w, state.w**2])[:, None], state.h)
    songs = jnp.stack([v, v[::-1]])
    end, info = nmf.fit(songs, starts, n_steps=4)
    assert end.w.shape == (3, 2, 33, 4)
    assert end.h.shape == (3, 2, 4, 26)
    assert info.divergence.shape == (3, 2, 4)
    one, _ = nmf.fit(songs[1], NMFState(starts.w[2, 0], state.h), n_steps=4)
    np.testing.assert_allclose(end.w[2, 1], one.w, rtol=1e-10)


def test_the_accelerator_branch_computes_the_same(x64, monkeypatch):
    v, state = start()
    songs = jnp.stack([v, v[::-1]])
    starts = NMFState(jnp.stack([state.w, 2 * state.w, state.w**2])[:, None], state.h)
    expected, _ = nmf.fit(songs, starts, n_steps=5)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, cpu, default: default(*a))
    got, _ = nmf.fit(songs, starts, n_steps=5, divergence_every=2)  # another setting: traced anew
    np.testing.assert_allclose(got.w, expected.w, rtol=1e-10)
    np.testing.assert_allclose(got.h, expected.h, rtol=1e-10)


def test_restarts_keep_the_best_per_song(x64):
    v, _ = start()
    songs = jnp.stack([v, v[::-1] ** 2])
    key = jax.random.key(5)
    state, info = fit_restarts(songs, 3, key=key, n_restarts=4, n_steps=6, beta=2.0)
    finals = []
    for one in jax.random.split(key, 4):
        _, one_info = nmf.fit(songs, nmf.init(songs, 3, key=one), n_steps=6, beta=2.0)
        finals.append(one_info.divergence[:, -1])
    np.testing.assert_allclose(info.divergence[:, -1], np.min(finals, axis=0), rtol=1e-10)
    np.testing.assert_allclose(
        nmf.divergence(songs, nmf.reconstruct(state), beta=2.0), info.divergence[:, -1], rtol=1e-10
    )


def test_gradients_match_finite_differences(x64):
    v, state = start()

    def loss(v, w):
        end, info = nmf.fit(v, NMFState(w, state.h), n_steps=3)
        return info.divergence[-1] + (end.w**2).sum()

    check_grads(loss, (v[:5], state.w[:5]), order=1, modes=("rev",), rtol=1e-5)


def test_gradients_are_finite_at_zeros():
    v = jnp.ones((4, 5)).at[1].set(0).at[:, 2].set(0)
    state = nmf.init(v, 2, key=jax.random.key(0))
    for beta in (0.0, 2.0):
        gradient = jax.grad(
            lambda w, b=beta: nmf.fit(v, state._replace(w=w), beta=b, n_steps=3)[1].divergence[-1]
        )(state.w)
        assert jnp.isfinite(gradient).all()


def test_a_constraint_is_applied_before_each_step(x64):
    v, state = start()

    def constraint(state, step, n_steps):
        return state._replace(h=state.h * (1 + step / n_steps))

    expected = state
    for i in range(3):
        expected = nmf.step(v, constraint(expected, i, 3))
    end, _ = nmf.fit(v, state, n_steps=3, constraint=constraint)
    np.testing.assert_allclose(end.h, expected.h, rtol=1e-12)


def test_inputs_are_untouched():
    v, w, h = (SKLEARN[name].copy() for name in ("v", "w", "h"))
    nmf.fit(v, NMFState(w, h), n_steps=2)
    for name, x in (("v", v), ("w", w), ("h", h)):
        np.testing.assert_array_equal(x, SKLEARN[name])


def test_integers_become_float32():
    v = np.arange(12).reshape(3, 4)
    state, _ = nmf.fit(v, nmf.init(v, 2, key=jax.random.key(0)), n_steps=2)
    assert state.w.dtype == jnp.float32


def test_nothing_recompiles():
    v, state = start(jnp.float32)
    settings = {"n_steps": 3, "tol": 0.1, "alpha_w": 0.1}
    nmf.fit(v, state, **settings)
    with compilations() as again:
        nmf.fit(v + 1, state, **settings)
        nmf.fit(v, state, **settings | {"tol": 0.2, "alpha_w": 0.3})
    assert not [name for name in again if "fit" in name]


@pytest.mark.parametrize("beta", (1.0, 0.5))
def test_blocks_of_rows_change_nothing(x64, monkeypatch, beta):
    v, state = start()
    expected = nmf.step(v, state, beta=beta)
    for rows in (11, 7):  # with and without a remainder of 33 rows
        monkeypatch.setattr(row_blocks, "_rows_in_a_block", lambda v, rows=rows: rows)
        end, info = nmf.fit(v, state, beta=beta, n_steps=1, adapt_timing=float(rows), divergence_every=rows)
        np.testing.assert_allclose(end.w, expected.w, rtol=1e-12)
        np.testing.assert_allclose(end.h, expected.h, rtol=1e-12)
        final = nmf.divergence(v, nmf.reconstruct(expected), beta=beta)
        np.testing.assert_allclose(info.divergence[-1], final, rtol=1e-12)


@settings(deadline=None, max_examples=4, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.sampled_from([0.0, 1.0, 2.0]))
def test_any_size(n_freq, n_frames, n_components, beta):
    v = jnp.arange(n_freq * n_frames, dtype=jnp.float32).reshape(n_freq, n_frames)
    state = nmf.init(v, n_components, key=jax.random.key(0))
    end = jax.jit(nmf.step, static_argnames="beta")(v, state, beta=beta)
    assert nmf.reconstruct(end).shape == v.shape
    assert all(jnp.isfinite(x).all() and (x >= 0).all() for x in end)


@pytest.mark.parametrize("bad", (np.nan, -1.0, np.inf))
@pytest.mark.parametrize("name", ("v", "w", "h"))
def test_bad_values_are_refused_at_the_door(bad, name):
    v, state = start(jnp.float32)
    arrays = {"v": v, "w": state.w, "h": state.h}
    arrays[name] = arrays[name].at[1, 2].set(bad)
    with pytest.raises(
        ValueError,
        match=rf"{name} must be finite and non-negative, got .* of {v.size if name == 'v' else ''}",
    ):
        nmf.fit(arrays["v"], NMFState(arrays["w"], arrays["h"]), n_steps=1)


def test_bad_arguments_are_refused():
    v, state = start(jnp.float32)
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="real magnitude spectrogram, got complex64"):
        nmf.fit(v + 1j, state)
    with pytest.raises(ValueError, match=r"got \(26,\)"):
        nmf.fit(v[0], state)
    with pytest.raises(ValueError, match=r"\(33, 4\) and \(4, 26\), got \(32, 4\)"):
        nmf.fit(v, state._replace(w=state.w[1:]))
    with pytest.raises(ValueError, match="2 dimensions"):
        nmf.fit(v, state._replace(h=state.h[0]))
    with pytest.raises(ValueError, match="v_hat"):
        nmf.divergence(v, v[1:])
    with pytest.raises(ValueError, match="n_steps must be 0 or more, got -1"):
        nmf.fit(v, state, n_steps=-1)
    with pytest.raises(ValueError, match="divergence_every must be 1 or more, got 0"):
        nmf.fit(v, state, divergence_every=0)
    with pytest.raises(ValueError, match="tol must be None or 0 or more"):
        nmf.fit(v, state, tol=-0.1)
    with pytest.raises(ValueError, match=r"update_w must be .* \(\.\.\., 4\), got shape \(3,\)"):
        nmf.fit(v, state, update_w=jnp.ones(3))
    with pytest.raises(ValueError, match="update_h must be within 0"):
        nmf.fit(v, state, update_h=jnp.full(4, 2.0))
    with pytest.raises(ValueError, match="l1_ratio within 0 and 1"):
        nmf.fit(v, state, alpha_w=0.1, l1_ratio=2.0)
    with pytest.raises(ValueError, match="n_components must be 1 or more, got 0"):
        nmf.init(v, 0, key=key)
    with pytest.raises(ValueError, match="strategy must be one of random"):
        nmf.init(v, 2, key=key, strategy="best")
    with pytest.raises(ValueError, match="at most 26 components"):
        nmf.init(v, 30, key=key, strategy="nndsvd")
    with pytest.raises(ValueError, match="n_restarts must be 1 or more, got 0"):
        fit_restarts(v, 2, key=key, n_restarts=0)
    with pytest.raises(ValueError, match="n_steps must be 1 or more, got 0"):
        fit_restarts(v, 2, key=key, n_restarts=1, n_steps=0)
    with pytest.raises(ValueError, match="adapt_timing must be above 0 and finite, got 0"):
        nmf.fit(v, state, adapt_timing=0.0)
    with pytest.raises(ValueError, match=r"one bin and frame or more, got \(33, 0\)"):
        nmf.fit(v[:, :0], state._replace(h=state.h[:, :0]))
    with pytest.raises(ValueError, match="v must be finite and non-negative"):
        nmf.init(-v, 2, key=key)


@pytest.mark.parametrize("beta", (2.0, 1.0, 0.5))
def test_extra_memory_is_at_most_four_spectrograms(beta):
    v = jax.ShapeDtypeStruct((2049, 1294), jnp.float32)
    state = NMFState(jax.ShapeDtypeStruct((2049, 32), v.dtype), jax.ShapeDtypeStruct((32, 1294), v.dtype))
    program = jax.jit(lambda v, state: nmf.fit(v, state, beta=beta, n_steps=4)).lower(v, state).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 4 * 4 * 2049 * 1294


def test_importing_loads_jax_and_nothing_heavier():
    code = (
        "import sys, jax; before = set(sys.modules); import jaxsep.nmf, jaxsep.nmfd, jaxsep.masking;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "tensorflow", "flax", "scipy", "sklearn", "librosa", "optax", "matplotlib"):
        assert repr(heavy) not in loaded, loaded
