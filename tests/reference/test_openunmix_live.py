"""Torch and open-unmix themselves beside jaxsep, on fresh random nets and sizes nearer to real ones."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxsep import openunmix, stft
from jaxsep.config import OpenUnmixConfig, SeparationConfig
from jaxsep.io.checkpoint import Weights
from jaxsep.io.variables import unflatten
from jaxsep.separation import Separator

torch = pytest.importorskip("torch")
make_stft = pytest.importorskip("tests.reference.make_stft")
make_openunmix = pytest.importorskip("tests.reference.make_openunmix")

pytestmark = pytest.mark.reference


def config_of(sizes, n_fft, hop_length):
    channels, _, max_bin, hidden_size, n_layers, bidirectional = sizes
    return OpenUnmixConfig.from_max_bin(
        max_bin,
        n_channels=channels,
        n_fft=n_fft,
        hop_length=hop_length,
        hidden_size=hidden_size,
        n_layers=n_layers,
        bidirectional=bidirectional,
    )


def variables_of(net, dtype):
    arrays = make_openunmix.variables(net.state_dict())
    return unflatten({path: array.astype(dtype) for path, array in arrays.items()})


@pytest.mark.parametrize(("n_fft", "hop_length"), [(4096, 1024), (2047, 512), (2048, 700)])
@pytest.mark.parametrize("center", [True, False])
def test_stft_and_istft(x64, rng, n_fft, hop_length, center):
    audio = rng.standard_normal((2, 20_000))
    sizes = {"n_fft": n_fft, "hop_length": hop_length}
    expected = make_stft.forward(audio, center=center, **sizes)
    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 1e-6)):
        made = stft.stft(audio.astype(dtype), center=center, **sizes)
        np.testing.assert_allclose(made, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    if center:
        changed = expected * rng.random(expected.shape)
        for length in (None, 19_000):
            signal = make_stft.inverse(changed, length=length, **sizes)
            made = stft.istft(changed, length=length, **sizes)
            np.testing.assert_allclose(made, signal, rtol=0, atol=1e-13 * np.abs(signal).max())


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_net(x64, rng, channels, bidirectional, n_layers):
    sizes = (channels, 129, 90, 32, n_layers, bidirectional)
    net = make_openunmix.openunmix(sizes, seed=channels)
    magnitude, truth = rng.gamma(1.0, 1.0, (2, 2, channels, 129, 40))
    expected = make_openunmix.run(net, magnitude, truth)
    config, prefix = config_of(sizes, 256, 64), "variables/"
    # As they were before the step: float32, exactly, since they were drawn so.
    before = {key: array.astype(np.float64) for key, array in expected.items() if key.startswith(prefix)}
    variables = unflatten({key.removeprefix(prefix): array for key, array in before.items()})
    made = jax.jit(partial(openunmix.apply, config=config))(variables, magnitude)
    np.testing.assert_allclose(made, expected["eval"], rtol=0, atol=1e-12 * expected["eval"].max())
    train = jax.jit(partial(openunmix.apply_train, config=config, dropout=0.0))
    made, batch_stats = train(variables, magnitude, key=jax.random.key(0))
    np.testing.assert_allclose(made, expected["train"], rtol=0, atol=1e-11 * expected["train"].max())
    for norm, stats in batch_stats.items():
        for name, array in stats.items():
            path = f"after/batch_stats/{norm}/{name}"
            np.testing.assert_allclose(array, expected[path], rtol=1e-12, atol=1e-13)


def test_first_draw(x64):
    # The two libraries' draws have the same spread, part by part.
    sizes = (2, 129, 90, 64, 3, True)
    torch.manual_seed(0)
    net = make_openunmix.OpenUnmix(129, 2, 64, 3, max_bin=90)
    theirs = make_openunmix.variables(net.state_dict())
    ours = jax.jit(partial(openunmix.init, config_of(sizes, 256, 64)))(key=jax.random.key(0))
    for path, array in theirs.items():
        made = ours
        for name in path.split("/"):
            made = made[name]
        made = np.asarray(made)
        assert made.shape == array.shape, path
        if "kernel" in path or "lstm" in path:
            tolerance = 5 * np.sqrt(0.4 / array.size)  # five standard errors of a ratio of two spreads
            assert abs(made.std() / array.std() - 1) < tolerance, path
            assert abs(made).max() / abs(array).max() == pytest.approx(1, abs=0.1), path
        else:
            np.testing.assert_array_equal(made, array, err_msg=path)


@pytest.mark.parametrize(
    ("n_iters", "window", "options"),
    [(0, 30, {}), (1, 30, {}), (1, 0, {}), (2, 30, {"residual": True}), (1, 30, {"softmask": True})],
)
def test_separation(rng, n_iters, window, options):
    sizes = (2, 257, 180, 32, 3, True)
    config = config_of(sizes, 512, 128)
    nets = {f"target {seed}": make_openunmix.openunmix(sizes, seed) for seed in range(4)}
    audio = (0.3 * rng.standard_normal((2, 10_001))).astype(np.float32)
    expected = make_openunmix.separate(
        nets, audio.astype(np.float64), 512, 128, niter=n_iters, wiener_win_len=window, **options
    )
    separator = Separator(
        {target: Weights(variables_of(net, np.float32), config, {}) for target, net in nets.items()}
    )
    settings = SeparationConfig(n_iters=n_iters, window=window, **options)
    pieces = separator.stream(lambda: [audio], n_channels=2, config=settings, n_samples=audio.shape[-1])
    made = np.concatenate(list(pieces), axis=-1)
    # Single precision against double, on stems of several times full scale.
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
