"""Nets that hear a song more than once: the result of the whole-file computation, and what it is good for."""

from itertools import pairwise

import numpy as np
import pytest

from jaxsep import filtering, hearing, passes, rendering
from jaxsep.blocks import Block
from jaxsep.config import SeparationConfig
from jaxsep.io import zoo
from jaxsep.separation import Separator, load_separator, separate
from tests.compilations import compilations
from tests.models import tiny_folder
from tests.test_passes import NETS, STEREO, WINDOW, jit_apply, jit_istft, jit_stft, song, stems_of

SIZES = {"n_fft": STEREO.n_fft, "hop_length": STEREO.hop_length}
MODELS = {"drums": NETS["first"], "vocals": NETS["second"]}
SEPARATOR = Separator(MODELS)


def magnitudes(target, audio):
    return np.asarray(jit_apply(MODELS[target].variables, np.abs(jit_stft(audio, **SIZES)), STEREO))


def filtered(v, audio, window, n_iters):
    x = np.asarray(jit_stft(audio, **SIZES))
    step = window or x.shape[-1]
    parts = [slice(start, start + step) for start in range(0, x.shape[-1], step)]
    stems = np.concatenate(
        [filtering.wiener(v[..., part], x[..., part], n_iters=n_iters) for part in parts], axis=-1
    )
    return np.asarray(jit_istft(stems, length=audio.shape[-1], **SIZES))


def whole_file(audio, n_hearings, window, n_iters):
    v = np.stack([magnitudes(target, audio) for target in MODELS])
    stems = filtered(v, audio, window, n_iters)
    for _ in range(1, n_hearings):
        v = np.stack([v[0], magnitudes("vocals", (audio + stems[1]) / 2)])
        stems = filtered(v, audio, window, n_iters)
    return stems


@pytest.mark.parametrize("n_hearings", [1, 2, 3])
@pytest.mark.parametrize("window", [WINDOW, 0])
# At 160 samples the last window has one frame, of which EM makes a singular covariance: rounding grows 500-fold.
@pytest.mark.parametrize(("n_samples", "n_iters"), [(33, 1), (160, 0), (397, 1)])
def test_the_net_of_vocals_hears_the_mean_of_the_song_and_its_stem(n_hearings, window, n_samples, n_iters):
    audio = song(n_samples)
    made = stems_of(SEPARATOR, audio, n_iters=n_iters, window=window, hearings=n_hearings)
    expected = whole_file(audio, n_hearings, window, n_iters)
    # Single precision, once a hearing, on stems of about full scale.
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6 * n_hearings * scale)
    if n_hearings > 1:
        once = stems_of(SEPARATOR, audio, n_iters=n_iters, window=window)
        assert np.abs(made - once).max() > 1e-4


def test_stems_of_some_sources_are_those_among_all():
    config = SeparationConfig(window=WINDOW, n_iters=1)
    audio = song(397)[None]
    v = tuple(np.abs(jit_stft(audio, **SIZES))[None] * share for share in (0.2, 0.3, 0.5))
    block = Block(audio, v[0].shape[-1], audio.shape[-1], True)
    estimate = rendering.Estimate(block, jit_stft(audio, **SIZES), v)

    def stems(**options):
        return np.concatenate(list(rendering.render([estimate], config, **SIZES, **options)), axis=-1)

    np.testing.assert_allclose(stems(kept=(2, 0)), stems()[:, [2, 0]], rtol=0, atol=1e-6)


def test_nets_joined_and_alone_agree(monkeypatch):
    audio = song(397)
    expected = stems_of(SEPARATOR, audio, window=WINDOW, hearings=2)
    monkeypatch.setattr(passes.jax, "default_backend", lambda: "gpu")
    joined = Separator(MODELS)
    assert len(joined.stacks) == 1
    monkeypatch.undo()
    made = stems_of(joined, audio, window=WINDOW, hearings=2)
    np.testing.assert_allclose(made, expected, rtol=0, atol=4e-6)


def test_channels_beyond_those_of_the_nets_are_heard_in_groups():
    audio = song(397, 6)
    made = stems_of(SEPARATOR, audio, window=WINDOW, hearings=2, n_iters=0)
    pairs = [
        stems_of(SEPARATOR, audio[n : n + 2], window=WINDOW, hearings=2, n_iters=0) for n in range(0, 6, 2)
    ]
    np.testing.assert_allclose(made, np.concatenate(pairs, axis=1), rtol=0, atol=4e-6)


def test_without_a_voice_nothing_is_heard_again():
    nets = Separator(NETS)
    audio = song(397)
    np.testing.assert_array_equal(
        stems_of(nets, audio, window=WINDOW, hearings=2), stems_of(nets, audio, window=WINDOW)
    )


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"consistency": True}, {"adaptation": 2}])
def test_silence_stays_silent_and_stems_are_as_long_as_the_song(options):
    made = stems_of(SEPARATOR, np.zeros((2, 397), np.float32), window=WINDOW, hearings=2, **options)
    np.testing.assert_array_equal(made, np.zeros((2 + options.get("residual", False), 2, 397)))


def test_second_song_of_another_length_compiles_nothing_and_audio_is_untouched():
    stems_of(SEPARATOR, song(397), window=WINDOW, hearings=2)
    audio = song(1000)
    before = audio.copy()
    with compilations() as compiled:
        stems_of(SEPARATOR, audio, window=WINDOW, hearings=2)
    assert compiled == []
    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize("n_hearings", [1, 2, 3])
@pytest.mark.parametrize("n_samples", [1, 160, 700])
@pytest.mark.parametrize("targets", [("drums", "vocals"), ("speech", "vocals")])
def test_progress_goes_from_0_to_1(targets, n_hearings, n_samples):
    steps, separator = [], Separator(dict(zip(targets, NETS.values(), strict=True)))
    stems_of(separator, song(n_samples), window=WINDOW, hearings=n_hearings, progress=steps.append)
    assert len(steps) >= 3 * n_hearings
    assert steps[0] > 0 and steps[-1] == 1
    assert all(before < after for before, after in pairwise(steps))


def test_a_song_and_what_is_found_must_be_as_long():
    block = Block(np.ones((1, 2, 4), np.float32), 1, 4, True)
    forward = hearing.brought_forward(lambda: iter([block, block]), lambda: iter([block]))
    with pytest.raises(ValueError, match="shorter"):
        list(forward())


def test_separators_hear_as_often_as_their_model_asks():
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 60000)).astype(np.float32)
    whole = load_separator()
    assert whole.hearings == 2
    assert load_separator(targets=["vocals"]).hearings == 1  # one target is no model of the mixture
    asked = separate(noise, 44100, separator=whole)
    as_said = separate(noise, 44100, separator=whole, hearings=2)
    once = separate(noise, 44100, separator=whole, hearings=1)
    for name in asked:
        np.testing.assert_array_equal(asked[name], as_said[name])
    assert np.abs(asked["vocals"] - once["vocals"]).max() > 1e-4
    assert np.abs(sum(asked.values()) - noise).max() < 1e-3


@pytest.mark.parametrize(("times", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_what_is_no_number_of_times_is_refused(tmp_path, times, error):
    networks = zoo.resolve(tiny_folder(tmp_path / "model")).networks
    with pytest.raises(error, match="hearings: expected an int of at least 1"):
        Separator(networks, hearings=times)
    with pytest.raises(error, match="hearings: expected an int of at least 1"):
        SeparationConfig(hearings=times)
