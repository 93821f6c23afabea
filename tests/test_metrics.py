import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsep import metrics, projection, projection_filters, sample_blocks

from .compilations import compilations
from .reference.make_metrics import CASES, DATA

SHORT = {"window": 600, "hop": 600, "filters_len": 16}


@pytest.fixture(scope="module")
def stored():
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture
def song(rng):
    """Three stereo sources of four frames and their noisy estimates."""
    references = rng.standard_normal((3, 2, 2500))
    estimates = references + 0.2 * references[[1, 2, 0]] + 0.1 * rng.standard_normal(references.shape)
    return references, estimates


def stack(scores):
    return np.stack(scores[:4])


# ---- BSSEval: museval's numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_scores_are_museval_s(stored, case):
    scores = metrics.bss_eval(stored["sound_references"], stored["sound_estimates"], **CASES[case])
    expected = stored[f"sound_{case}"]
    assert stack(scores).dtype == np.float64
    # White-ish noise makes well-conditioned systems: two double-precision solvers agree to nine digits.
    np.testing.assert_allclose(stack(scores), expected, rtol=0, atol=1e-8)
    permutation = np.broadcast_to(stored[f"sound_{case}_permutation"], scores.permutation.shape)
    np.testing.assert_array_equal(scores.permutation, permutation)


def test_a_silent_frame_is_skipped_as_museval_does_and_only_then_spoils_other_sources(stored):
    audio = stored["gap_references"], stored["gap_estimates"]
    expected = stored["gap_v4"]
    assert np.isnan(expected[:, :, 1]).all() and np.isfinite(expected[:, :, 0]).all()

    np.testing.assert_allclose(
        stack(metrics.bss_eval(*audio, **SHORT, silent="skip")), expected, rtol=0, atol=1e-8
    )
    alone = stack(metrics.bss_eval(*audio, **SHORT))
    assert np.isnan(alone[:, 1, 1]).all()
    assert np.isfinite(alone[:, [0, 2], 1]).all()
    zero = stack(metrics.bss_eval(*audio, **SHORT, silent="zero"))
    assert (zero[:, 1, 1] == 0).all()
    for scores in (alone, zero):
        elsewhere = np.isfinite(expected)
        np.testing.assert_allclose(scores[elsewhere], expected[elsewhere], rtol=0, atol=1e-8)


# ---- BSSEval: what must hold of any scores -----------------------------------------------------------------


def test_scores_do_not_depend_on_the_precision_setting_or_the_level(song):
    references, estimates = (x.astype(np.float32) for x in song)
    scores = stack(metrics.bss_eval(references, estimates, **SHORT))
    with jax.enable_x64(True):
        double = stack(metrics.bss_eval(references.astype(float), jnp.asarray(estimates, float), **SHORT))
    np.testing.assert_array_equal(scores, double)
    assert jnp.zeros(()).dtype == jnp.float32  # the caller's setting is as it was
    soft = stack(metrics.bss_eval(1e-5 * references.astype(float), 1e-5 * estimates.astype(float), **SHORT))
    np.testing.assert_allclose(soft, scores, rtol=0, atol=1e-8)


def test_inputs_are_untouched(song):
    before = [x.copy() for x in song]
    metrics.bss_eval(*song, **SHORT)
    for x, copy in zip(song, before, strict=True):
        np.testing.assert_array_equal(x, copy)


def test_the_truth_scores_without_limit(song):
    references, _ = song
    scores = metrics.bss_eval(references, references, **SHORT)
    assert np.isposinf(scores.sdr).all()
    assert (stack(scores)[1:] > 80).all()


def test_a_filtered_reference_has_only_filtering_distortion(song):
    references, _ = song
    taps = np.array([0.0, 0.5, 0.3, -0.2])
    filtered = np.apply_along_axis(lambda x: np.convolve(x, taps)[: len(x)], -1, references)
    # A whole-signal frame also sees the tail that the convolution was cut by.
    scores = metrics.bss_eval(references, filtered, window=math.inf, hop=math.inf, filters_len=4)
    assert (scores.sir > 40).all() and (scores.sar > 25).all()
    assert (scores.isr < 10).all()
    too_short = metrics.bss_eval(references, filtered, window=math.inf, hop=math.inf, filters_len=2)
    assert (too_short.sar < 15).all()  # two taps cannot follow: what they miss counts as artifacts


def test_nearly_dependent_references_lose_no_digits(rng):
    # Smoothed until the top of the band is empty: the correlations have eigenvalues beyond double precision.
    references = rng.standard_normal((2, 2, 6000))
    for _ in range(8):
        references[..., 1:] = references[..., 1:] + references[..., :-1]
    scores = metrics.bss_eval(references, references, window=2000, hop=2000, filters_len=32)
    assert scores.sar.min() > 200  # 150 dB is what uncorrected filters reach


@pytest.mark.parametrize("group", [8, 16])
def test_the_size_of_groups_does_not_show(song, monkeypatch, group):
    whole = stack(metrics.bss_eval(*song, **SHORT))
    for room in (projection, projection_filters):
        monkeypatch.setattr(room, "_GROUP", group)
    np.testing.assert_allclose(stack(metrics.bss_eval(*song, **SHORT)), whole, rtol=0, atol=1e-10)


def test_sources_in_another_order_score_the_same(song):
    scores = stack(metrics.bss_eval(*song, **SHORT))
    turned = stack(metrics.bss_eval(*(x[::-1, ::-1] for x in song), **SHORT))
    np.testing.assert_allclose(turned[:, ::-1], scores, rtol=0, atol=1e-9)


def test_the_permutation_is_found(song):
    references, estimates = song
    ordered = metrics.bss_eval(references, estimates, **SHORT)
    order = [2, 0, 1]
    found = metrics.bss_eval(references, estimates[order], **SHORT, compute_permutation=True)
    np.testing.assert_array_equal(found.permutation, np.argsort(order)[:, None].repeat(4, axis=1))
    np.testing.assert_allclose(stack(found), stack(ordered), rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    n_samples=st.integers(1, 400),
    window=st.one_of(st.integers(1, 500), st.just(math.inf)),
    hop=st.integers(1, 200),
    framewise=st.booleans(),
)
def test_any_length_window_and_hop(n_samples, window, hop, framewise):
    audio = np.random.default_rng(n_samples).standard_normal((2, 2, 1, n_samples))
    # Frames of the same length share their compilation; many lengths would take the test's time.
    if framewise and window < n_samples:
        hop = max(hop, n_samples // 3)
    scores = metrics.bss_eval(
        *audio, window=window, hop=hop, filters_len=4, framewise_filters=framewise, compute_permutation=True
    )
    n_frames = 1 if window >= n_samples else (n_samples - window) // hop + 1
    assert all(x.shape == (2, n_frames) for x in scores)
    assert not np.isnan(stack(scores)).any()


def test_one_source_one_channel_and_more_channels_than_two(rng):
    for shape in ((1, 1, 1300), (2, 3, 1300)):
        references = rng.standard_normal(shape)
        estimates = references + 0.1 * rng.standard_normal(shape)
        scores = metrics.bss_eval(references, estimates, **SHORT)
        np.testing.assert_allclose(scores.sdr, 20, atol=1)
        assert scores.sdr.shape == (shape[0], 2)
        assert (scores.sir > 200).all() == (shape[0] == 1)  # alone, nothing interferes


def test_a_second_song_of_another_length_compiles_nothing(rng):
    options = {"window": 300, "hop": 300, "filters_len": 16}
    long, longer = rng.standard_normal((2, 2, 1, 64 * 600)), rng.standard_normal((2, 2, 1, 64 * 900))
    metrics.bss_eval(*long, **options)
    with compilations() as compiled:
        metrics.bss_eval(*longer, **options)
    assert compiled == []


# ---- BSSEval: silence and copies ---------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["reference", "estimate"])
def test_a_source_silent_throughout_leaves_the_others_alone(song, which):
    references, estimates = (x.copy() for x in song)
    (references if which == "reference" else estimates)[1] = 0
    nan, zero, skip = (
        stack(metrics.bss_eval(references, estimates, **SHORT, silent=policy))
        for policy in ("nan", "zero", "skip")
    )
    assert np.isnan(nan[:, 1]).all() and np.isfinite(nan[:, [0, 2]]).all()
    assert (zero[:, 1] == 0).all()
    np.testing.assert_array_equal(skip, nan)
    np.testing.assert_array_equal(zero[:, [0, 2]], nan[:, [0, 2]])
    if which == "reference":
        # A silent reference spans nothing: the others score as if it were not there.
        pair = [0, 2]
        without = stack(metrics.bss_eval(references[pair], estimates[pair], **SHORT))
        np.testing.assert_allclose(nan[:, pair], without, rtol=0, atol=1e-8)


def test_silence_alone_is_defined(song):
    silence = np.zeros_like(song[0])
    assert np.isnan(stack(metrics.bss_eval(silence, silence, **SHORT))).all()
    permuted = metrics.bss_eval(silence, silence, **SHORT, compute_permutation=True, silent="zero")
    assert (stack(permuted) == 0).all()


def test_a_silent_frame_scores_no_isr_in_the_sources_version(stored):
    audio = stored["gap_references"], stored["gap_estimates"]
    scores = metrics.bss_eval(*audio, **SHORT, bsseval_sources_version=True, silent="zero")
    assert np.isnan(scores.isr).all()
    assert scores.sdr[1, 1] == 0


def test_identical_sources_are_scored(song):
    references, estimates = (x.copy() for x in song)
    references[1], estimates[1] = references[0], estimates[0]
    scores = metrics.bss_eval(references, estimates, **SHORT)
    assert not np.isnan(stack(scores)).any()
    np.testing.assert_allclose(stack(scores)[:, 0], stack(scores)[:, 1], rtol=0, atol=1e-6)
    # The copy spans nothing new: the other source scores as it does beside one of the two.
    pair = [0, 2]
    once = metrics.bss_eval(references[pair], estimates[pair], **SHORT)
    np.testing.assert_allclose(stack(scores)[:, 2], stack(once)[:, 1], rtol=0, atol=1e-4)


def test_a_pure_tone_is_scored(rng):
    # All delays of a tone span two dimensions: the normal equations have 2 of 64 eigenvalues.
    tone = np.sin(0.1 * np.arange(3000))[None, None]
    scores = metrics.bss_eval(
        tone, tone + 0.1 * rng.standard_normal(tone.shape), window=1000, hop=1000, filters_len=64
    )
    np.testing.assert_allclose(scores.sdr, 17, atol=1)
    assert not np.isnan(stack(scores)).any()


# ---- BSSEval: refusals -------------------------------------------------------------------------------------


def with_sample(x, value):
    x = x.copy()
    x[1, 0, 5] = value
    return x


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda r, e: ((r, e[..., :-1]), {}), ValueError, r"same shape.*2500\).*2499\)"),
        (lambda r, e: ((r[:2], e), {}), ValueError, r"same shape.*\(2, 2, 2500\).*\(3, 2, 2500\)"),
        (lambda r, e: ((r[0], e[0]), {}), ValueError, r"\(source, channel, time\), got shape \(2, 2500\)"),
        (lambda r, e: ((r[..., :0], e[..., :0]), {}), ValueError, r"at least one .* got shape \(3, 2, 0\)"),
        (lambda r, e: ((with_sample(r, np.nan), e), {}), ValueError, "finite references.*source 1"),
        (lambda r, e: ((r, with_sample(e, np.inf)), {}), ValueError, "finite estimates.*source 1"),
        (lambda r, e: ((r, e + 0j), {}), TypeError, "real estimates, got dtype complex128"),
        (lambda r, e: ((r, e), {"window": 0}), ValueError, "window.*at least one sample, got 0"),
        (lambda r, e: ((r, e), {"hop": -1}), ValueError, "hop.*at least one sample, got -1"),
        (lambda r, e: ((r, e), {"window": math.nan}), ValueError, "window.*got nan"),
        (lambda r, e: ((r, e), {"filters_len": 0}), ValueError, "filters_len.*at least one tap, got 0"),
        (lambda r, e: ((r, e), {"silent": "drop"}), ValueError, "'nan', 'skip', 'zero'.*got 'drop'"),
    ],
)
def test_bss_eval_says_what_it_expected(song, change, error, message):
    audio, options = change(*song)
    with pytest.raises(error, match=message):
        metrics.bss_eval(*audio, **options)


def test_bss_eval_refuses_to_be_jitted(song):
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(metrics.bss_eval)(*song)


def test_where_the_device_has_no_double_precision_the_host_computes(monkeypatch):
    assert sample_blocks.float64_device().platform in sample_blocks._FLOAT64_PLATFORMS
    monkeypatch.setattr(sample_blocks, "_FLOAT64_PLATFORMS", ())
    assert sample_blocks.float64_device() == jax.local_devices(backend="cpu")[0]


def test_groups_come_in_order_and_in_double_whatever_the_thread():
    def slow_first(number):
        time.sleep(0.1 * (number == 0))
        return jnp.full((), number)

    taken = []
    groups = (taken.append(number) or float(number) for number in range(7))
    values = sample_blocks.map_groups(slow_first, groups)
    assert np.asarray(next(values)) == 0 and len(taken) < 7  # groups wait for their turn
    rest = [np.asarray(value) for value in values]
    assert [int(value) for value in rest] == [1, 2, 3, 4, 5, 6]
    assert {value.dtype for value in rest} == {np.dtype("float64")}
    assert jnp.zeros(()).dtype == jnp.float32


# ---- SDR and SI-SDR ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [metrics.sdr, metrics.si_sdr])
def test_batched_looped_vmapped_and_jitted_agree(rng, function):
    audio = rng.standard_normal((2, 3, 4, 2, 50)).astype(np.float32)
    batched = function(*audio)
    assert batched.shape == (3, 4) and batched.dtype == jnp.float32
    looped = [[function(*audio[:, i, j]) for j in range(4)] for i in range(3)]
    for other in (looped, jax.vmap(jax.vmap(function))(*audio), jax.jit(function)(*audio)):
        np.testing.assert_allclose(np.asarray(other), batched, rtol=0, atol=1e-5)  # dB, of float32 sums


def test_sdr_is_its_formula_in_double(rng, x64):
    reference, estimate = rng.standard_normal((2, 3, 2, 100))
    expected = [
        10 * math.log10(((r**2).sum() + 1e-7) / (((r - e) ** 2).sum() + 1e-7))
        for r, e in zip(reference, estimate, strict=True)
    ]
    np.testing.assert_allclose(metrics.sdr(reference, estimate), expected, rtol=1e-12)


def test_si_sdr_ignores_gain_and_knows_orthogonal_noise(rng, x64):
    reference, noise = rng.standard_normal((2, 2, 1000))
    noise -= (noise * reference).sum() / (reference**2).sum() * reference
    noise *= 0.1 * np.linalg.norm(reference) / np.linalg.norm(noise)
    for gain in (1e-1, 1.0, -30.0):
        score = metrics.si_sdr(reference, gain * (reference + noise))
        np.testing.assert_allclose(score, 20.0, atol=1e-5)  # eps beside an energy of a tenth
    offset = metrics.si_sdr(reference + 5, reference + noise - 3, zero_mean=True)
    np.testing.assert_allclose(offset, 20.0, atol=0.05)  # the noise has a mean of its own
    assert metrics.si_sdr(reference + 5, reference + noise - 3) < 10


@pytest.mark.parametrize("function", [metrics.sdr, metrics.si_sdr])
def test_silence_has_finite_scores_and_gradients(rng, function):
    sound, silence = jnp.asarray(rng.standard_normal((2, 100)), jnp.float32), jnp.zeros((2, 100))
    assert function(silence, silence) == 0
    assert function(silence, sound) < -60
    assert function(sound, sound) > 60
    assert function(sound, silence) <= 1e-6
    for reference in (sound, silence):
        for estimate in (sound, silence):
            gradient = jax.grad(lambda e, r=reference: function(r, e))(estimate)
            assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("function", [metrics.sdr, metrics.si_sdr])
def test_sdr_says_what_it_expected(function):
    with pytest.raises(ValueError, match=r"same shape.*\(2, 9\) and \(2, 8\)"):
        function(jnp.ones((2, 9)), jnp.ones((2, 8)))
    with pytest.raises(ValueError, match=r"\(\.\.\., channel, time\), got \(9,\)"):
        function(jnp.ones(9), jnp.ones(9))
    with pytest.raises(TypeError, match="floating-point reference, got dtype int32"):
        function(jnp.ones((2, 9), int), jnp.ones((2, 9)))


def test_the_long_sum_of_a_song_is_accurate_in_single_precision(rng):
    reference = rng.standard_normal((2, 1_000_000)).astype(np.float32)
    estimate = reference + np.float32(0.01) * rng.standard_normal(reference.shape).astype(np.float32)
    error = reference.astype(float) - estimate
    expected = 10 * math.log10((reference.astype(float) ** 2).sum() / (error**2).sum())
    np.testing.assert_allclose(metrics.sdr(reference, estimate), expected, rtol=0, atol=1e-3)
