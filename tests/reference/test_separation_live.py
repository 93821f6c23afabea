"""Whole songs against open-unmix itself, with the same random weights."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxsep import cli, load_separator, separate
from tests.reference import umx

pytestmark = [pytest.mark.reference, pytest.mark.slow]

MIX = Path(__file__).parents[2] / "examples" / "mix.flac"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, umx.random_model(folder)


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    audio, _ = soundfile.read(MIX, dtype="float32")
    # Exactly silent bins become 1+0j in open-unmix; a floor far below hearing keeps them apart.
    noise = 1e-5 * np.random.default_rng(0).standard_normal(audio.shape)
    return (audio + noise).T.astype(np.float32)


@pytest.mark.parametrize("window", [300, 0])
@pytest.mark.parametrize("n_iters", [0, 1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_stems_equal_open_unmix(model, music, n_iters, window, residual):
    folder, nets = model
    expected = umx.separate(nets, music, n_iters=n_iters, window=window, residual=residual)
    stems = separate(
        music,
        44100,
        separator=load_separator(folder),
        n_iters=n_iters,
        window=window,
        residual=residual,
    )
    # 1e-4 of full scale: rounding of float32, which EM magnifies where the covariance is close to singular.
    assert np.abs(np.stack(list(stems.values())) - expected).max() < 1e-4


def test_command_line_equals_open_unmix(model, music, tmp_path):
    folder, nets = model
    song = tmp_path / "song.wav"
    soundfile.write(song, music.T, 44100, subtype="FLOAT")
    options = ["--clip", "none", "--subtype", "FLOAT", "--outdir", str(tmp_path), "--quiet"]
    assert cli.main(["separate", str(song), "--model", str(folder), *options]) == 0
    expected = umx.separate(nets, music, n_iters=1, window=300)
    for target, stem in zip(nets, expected, strict=True):
        got, rate = soundfile.read(tmp_path / "song" / f"{target}.wav", dtype="float32")
        assert rate == 44100
        assert np.abs(got.T - stem).max() < 1e-4
