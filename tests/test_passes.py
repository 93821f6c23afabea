"""Separation block by block: the result of the whole-file computation, for any song."""

from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxsep
from jaxsep import filtering, openunmix, passes, stft
from jaxsep.config import OpenUnmixConfig, SeparationConfig
from jaxsep.io.checkpoint import Weights
from jaxsep.io.variables import unflatten, variable_shapes
from jaxsep.separation import Separator
from tests.compilations import compilations

DATA = np.load(Path(__file__).parent / "reference" / "data" / "separation.npz")

# The sizes are those of tests/reference/make_openunmix.py: a block of 10 frames is 160 samples.
STEREO = OpenUnmixConfig.from_max_bin(20, n_fft=64, hop_length=16, hidden_size=6, n_layers=2)
CAUSAL = OpenUnmixConfig(
    n_channels=1, n_fft=64, hop_length=16, hidden_size=4, n_layers=2, bidirectional=False, bandwidth=None
)
WINDOW = 10


def stored(target):
    prefix = f"{target}/"
    names = [key for key in DATA.files if key.startswith(prefix)]
    return Weights(unflatten({name.removeprefix(prefix): DATA[name] for name in names}), STEREO, {})


def random_net(config, seed):
    rng = np.random.default_rng(seed)
    arrays = {
        path: 0.3 + 0.7 * rng.random(shape) if path.endswith("var") else 0.4 * rng.standard_normal(shape)
        for path, shape in variable_shapes(config).items()
    }
    return Weights(unflatten({path: a.astype(np.float32) for path, a in arrays.items()}), config, {})


NETS = {target: stored(target) for target in ("first", "second")}
CAUSAL_NETS = {f"net {seed}": random_net(CAUSAL, seed) for seed in range(2)}
BIDIRECTIONAL, UNIDIRECTIONAL = Separator(NETS), Separator(CAUSAL_NETS)


def stems_of(separator, audio, *, n_pieces=3, progress=None, **options):
    """All of a song's stems, the song handed over in a few pieces."""
    pieces = separator.stream(
        lambda: np.array_split(audio, n_pieces, axis=-1),
        n_channels=len(audio),
        config=SeparationConfig(**options),
        n_samples=audio.shape[-1],
        progress=progress,
    )
    return np.concatenate(list(pieces), axis=-1)


jit_stft = jax.jit(stft.stft, static_argnames=("n_fft", "hop_length"))
jit_istft = jax.jit(stft.istft, static_argnames=("n_fft", "hop_length", "length"))
jit_apply = jax.jit(openunmix.apply, static_argnames="config")


def whole_file(separator, audio, *, window=WINDOW, **options):
    """The stems of audio of as many channels as the nets have, all at once."""
    sizes = {"n_fft": separator.config.n_fft, "hop_length": separator.config.hop_length}
    x = jit_stft(audio, **sizes)
    nets = NETS if separator is BIDIRECTIONAL else CAUSAL_NETS
    magnitudes = [jit_apply(net.variables, np.abs(x), separator.config) for net in nets.values()]
    magnitudes, x, step = np.stack(magnitudes), np.asarray(x), window or x.shape[-1]
    windows = [slice(start, start + step) for start in range(0, x.shape[-1], step)]
    stems = [filtering.wiener(magnitudes[..., w], x[..., w], **options) for w in windows]
    return jit_istft(np.concatenate(stems, axis=-1), length=audio.shape[-1], **sizes)


def expected_of(separator, audio, **options):
    """What the blocks should give: groups of channels, the last one filled up with copies of its last."""
    size, n_channels = separator.config.n_channels, len(audio)
    padded = audio[np.minimum(np.arange(-(-n_channels // size) * size), n_channels - 1)]
    starts = range(0, len(padded), size)
    groups = [whole_file(separator, padded[start : start + size], **options) for start in starts]
    stems = np.concatenate(groups, axis=1)
    last = stems[:, n_channels - 1 :].mean(axis=1, keepdims=True)
    return np.concatenate([stems[:, : n_channels - 1], last], axis=1)


def song(n_samples, n_channels=2, seed=0):
    return (0.3 * np.random.default_rng(seed).standard_normal((n_channels, n_samples))).astype(np.float32)


@pytest.mark.parametrize(
    ("separator", "n_channels", "options"),
    [
        (BIDIRECTIONAL, 2, {"n_iters": 1}),
        (BIDIRECTIONAL, 2, {"n_iters": 2, "window": 7, "residual": True}),
        (BIDIRECTIONAL, 2, {"n_iters": 1, "window": 0, "softmask": True}),
        (BIDIRECTIONAL, 1, {"n_iters": 0}),
        (BIDIRECTIONAL, 3, {"n_iters": 0, "softmask": True, "residual": True}),
        (BIDIRECTIONAL, 6, {"n_iters": 1, "softmask": True}),
        (UNIDIRECTIONAL, 1, {"n_iters": 1, "residual": True}),
        (UNIDIRECTIONAL, 3, {"n_iters": 2}),
    ],
)
def test_blocks_give_the_stems_of_the_whole_file(separator, n_channels, options):
    options = {"window": WINDOW, **options}
    audio = song(397, n_channels)
    made = stems_of(separator, audio, **options)
    expected = expected_of(separator, audio, **options)
    assert made.dtype == np.float32
    assert made.shape == (2 + options.get("residual", False), n_channels, 397) == expected.shape
    assert np.abs(expected).max() > 0.1
    # Single precision, on stems of about full scale.
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(("n_iters", "residual"), [(0, False), (1, False), (2, True)])
def test_stems_equal_those_of_open_unmix(n_iters, residual):
    audio = DATA["audio"].astype(np.float32)
    made = stems_of(BIDIRECTIONAL, audio, n_iters=n_iters, residual=residual, window=WINDOW)
    # The reference is in double precision, this in single.
    np.testing.assert_allclose(made, DATA[f"stems/{n_iters}/{residual}"], rtol=0, atol=1e-5)


# One sample; less than half a window; ends around a block's last frame (144) and last sample (160).
@pytest.mark.parametrize("n_samples", [1, 20, 33, 143, 144, 145, 159, 160, 161, 305])
@pytest.mark.parametrize("separator", [BIDIRECTIONAL, UNIDIRECTIONAL])
def test_any_length(separator, n_samples):
    # Without EM the filter's window does not matter: blocks of 10 frames and one block of all are the same.
    audio = song(n_samples, 2, seed=n_samples)
    made = stems_of(separator, audio, n_iters=0, window=WINDOW)
    expected = stems_of(separator, audio, n_iters=0, window=0)
    assert made.shape == (2, 2, n_samples) and np.isfinite(made).all()
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6 * max(1.0, np.abs(expected).max()))


def test_pieces_do_not_matter():
    audio = song(397)
    expected = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW)
    for n_pieces in (1, 2, 60):
        made = stems_of(BIDIRECTIONAL, audio, n_pieces=n_pieces, n_iters=1, window=WINDOW)
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("window", [WINDOW, 0])
def test_the_length_need_not_be_known(window):
    audio = song(397)
    config = SeparationConfig(n_iters=1, window=window)
    pieces = BIDIRECTIONAL.stream(lambda: [audio], n_channels=2, config=config)
    expected = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=window)
    np.testing.assert_array_equal(np.concatenate(list(pieces), axis=-1), expected)


def test_nets_joined_and_alone_agree(monkeypatch):
    # On an accelerator, nets of equal shape run as one; elsewhere each by itself.
    audio = song(397)
    assert [stack.targets for stack in BIDIRECTIONAL.stacks] == [("first",), ("second",)]
    expected = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW)
    monkeypatch.setattr(passes.jax, "default_backend", lambda: "gpu")
    joined = Separator(NETS)
    assert [stack.targets for stack in joined.stacks] == [("first", "second")]
    monkeypatch.undo()
    made = stems_of(joined, audio, n_iters=1, window=WINDOW)
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-6)


def test_second_song_of_another_length_compiles_nothing():
    options = {"n_iters": 1, "window": WINDOW}
    stems_of(BIDIRECTIONAL, song(100), **options)  # a song of one block
    with compilations() as compiled:
        for n_samples in (1, 397, 145, 1000):
            stems_of(BIDIRECTIONAL, song(n_samples), **options)
    assert compiled == []


def test_consistent_stems_sum_to_the_mixture():
    audio = song(397)
    made = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW, consistency=True)
    # Exact but for the rounding of a sum of stems.
    np.testing.assert_allclose(made.sum(axis=0), audio, rtol=0, atol=1e-6)
    # What is missing is shared out equally.
    plain = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW)
    shares = made - plain
    np.testing.assert_allclose(shares[0], shares[1], rtol=0, atol=1e-6)


def test_filtered_stems_nearly_sum_to_the_mixture():
    def heard(model):  # in every bin: what no net claims is in no stem
        params = model.variables["params"]
        everywhere = params | {"output_mean": params["output_mean"] + np.float32(10)}
        return model._replace(variables=model.variables | {"params": everywhere})

    separator = Separator({target: heard(model) for target, model in NETS.items()})
    audio = song(397)
    missing = audio - stems_of(separator, audio, n_iters=1, window=WINDOW).sum(axis=0)
    assert np.sum(missing**2) < 1e-4 * np.sum(audio**2)  # -40 dB


@pytest.mark.parametrize("options", [{"n_iters": 1}, {"n_iters": 2, "residual": True, "consistency": True}])
def test_silence_stays_silent(options):
    made = stems_of(BIDIRECTIONAL, np.zeros((2, 397), np.float32), window=WINDOW, **options)
    np.testing.assert_array_equal(made, 0)


def test_silence_within_a_song_stays_silent():
    audio = song(700)
    audio[:, 150:450] = 0
    made = stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW)
    np.testing.assert_array_equal(made[..., 150 + 64 : 450 - 64], 0)


def test_a_lone_target_is_filtered_against_the_rest():
    alone = Separator({"first": NETS["first"]})
    audio = song(397)
    made = stems_of(alone, audio, n_iters=1, window=WINDOW)
    beside = stems_of(alone, audio, n_iters=1, window=WINDOW, residual=True)
    assert made.shape == (1, 2, 397)
    np.testing.assert_allclose(made[0], beside[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_samples", [1, 144, 150, 160, 700])
def test_progress_goes_from_0_to_1(n_samples):
    steps = []
    stems_of(BIDIRECTIONAL, song(n_samples), n_iters=1, window=WINDOW, progress=steps.append)
    assert len(steps) >= 3
    assert steps[0] > 0 and steps[-1] == 1
    assert all(before < after for before, after in pairwise(steps))


def test_audio_is_untouched():
    audio = song(397)
    before = audio.copy()
    stems_of(BIDIRECTIONAL, audio, n_iters=1, window=WINDOW, consistency=True)
    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize("shape", [(397,), (3, 397)])
def test_separate_at_the_nets_rate_is_the_stream(shape):
    audio = song(397, 3)[:1].reshape(397) if len(shape) == 1 else song(397, 3)
    made = jaxsep.separate(audio, 44100, separator=BIDIRECTIONAL, n_iters=0, window=WINDOW)
    expected = stems_of(BIDIRECTIONAL, np.atleast_2d(audio), n_iters=0, window=WINDOW)
    assert list(made) == ["first", "second"]
    for stem, other in zip(made.values(), expected, strict=True):
        np.testing.assert_array_equal(stem, other)


def test_separate_at_another_rate_keeps_rate_and_length():
    time = np.arange(4001) / 22050
    audio = 0.3 * np.sin(2 * np.pi * 440 * time)[None]
    made = jaxsep.separate(audio, 22050, separator=BIDIRECTIONAL, n_iters=0, residual=True, window=WINDOW)
    assert list(made) == ["first", "second", "residual"]
    total = sum(made.values())
    assert total.shape == (1, 4001) and total.dtype == np.float32
    # The residual completes the mixture: the way there and back costs the resampler's ripple only.
    np.testing.assert_allclose(total[0, 200:-200], audio[0, 200:-200], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("audio", "options", "error", "message"),
    [
        (np.zeros((2, 9), np.int16), {}, TypeError, "floating-point audio with full scale ±1, got int16"),
        (np.zeros((2, 0), np.float32), {}, ValueError, r"at least one sample, got shape \(2, 0\)"),
        (np.zeros((1, 2, 9), np.float32), {}, ValueError, r"\(channel, time\).*got shape \(1, 2, 9\)"),
        (np.zeros((9000, 2), np.float32), {}, ValueError, r"got shape \(9000, 2\)"),
        (np.full((2, 9), np.nan, np.float32), {}, ValueError, "finite audio, got NaN or infinity"),
        (np.zeros((2, 9), np.float32), {"n_iters": -1}, ValueError, "n_iters: expected .* 0, got -1"),
        (np.zeros((2, 9), np.float32), {"window": 1.5}, TypeError, "window: expected an int .*got 1.5"),
        (np.zeros((2, 9), np.float32), {"niter": 1}, TypeError, "niter"),
    ],
)
def test_separate_refuses(audio, options, error, message):
    with pytest.raises(error, match=message):
        jaxsep.separate(audio, 44100, separator=BIDIRECTIONAL, **options)


def test_nets_must_go_together():
    other = NETS["first"]._replace(
        config=OpenUnmixConfig.from_max_bin(20, n_fft=64, hop_length=32, hidden_size=6, n_layers=2)
    )
    with pytest.raises(ValueError, match="hop_length = 16, got 32 for 'other'"):
        Separator({"first": NETS["first"], "other": other})
    with pytest.raises(ValueError, match="at least one target, got none"):
        Separator({})
