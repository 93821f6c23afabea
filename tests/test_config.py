"""Settings: what is derived, what is refused, and the trip through JSON."""

import json

import pytest

from jaxsep.config import OpenUnmixConfig, TrainingConfig


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "bandwidth", "max_bin"),
    [
        (44100.0, 4096, 16000.0, 1487),  # umx, umxhq, umxl
        (16000.0, 1024, 16000.0, 513),  # umxse: beyond half the rate, all bins
        (44100.0, 4096, None, 2049),
        (8000.0, 8, 2000.0, 3),  # a bin exactly on the edge is kept
        (8000.0, 8, 1999.0, 2),
    ],
)
def test_max_bin(sample_rate, n_fft, bandwidth, max_bin):
    config = OpenUnmixConfig(sample_rate=sample_rate, n_fft=n_fft, hop_length=1, bandwidth=bandwidth)
    assert config.max_bin == max_bin


@pytest.mark.parametrize("sample_rate", [44100.0, 48000.0, 22050.0])
@pytest.mark.parametrize("n_fft", [2, 15, 1000])
def test_every_max_bin_has_a_bandwidth(sample_rate, n_fft):
    for max_bin in range(1, n_fft // 2 + 2):
        config = OpenUnmixConfig.from_max_bin(max_bin, n_fft=n_fft, hop_length=1, sample_rate=sample_rate)
        assert config.max_bin == max_bin


def test_json_round_trip():
    config = OpenUnmixConfig(n_channels=1, hidden_size=7, bidirectional=False, bandwidth=None)
    assert OpenUnmixConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert OpenUnmixConfig.from_json({}) == OpenUnmixConfig()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"hidden_size": 511}, ValueError, "even number for a bidirectional LSTM, got 511"),
        ({"hidden_size": "512"}, TypeError, "hidden_size: expected an int"),
        ({"n_layers": 0}, ValueError, "n_layers: expected an int of at least 1, got 0"),
        ({"n_channels": True}, TypeError, "n_channels"),
        ({"hop_length": 5000}, ValueError, "at most n_fft = 4096, got 5000"),
        ({"sample_rate": 0.0}, ValueError, "sample_rate: expected a positive number, got 0"),
        ({"sample_rate": float("nan")}, ValueError, "sample_rate"),
        ({"bandwidth": -1.0}, ValueError, "bandwidth: expected a positive number"),
        ({"bidirectional": 1}, TypeError, "bidirectional: expected True or False, got 1"),
        ({"hiden_size": 512, "x": 1}, ValueError, "got also hiden_size, x"),
        ([1], TypeError, "expected a JSON object, got list"),
    ],
)
def test_refuses(values, error, message):
    with pytest.raises(error, match=message):
        OpenUnmixConfig.from_json(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filtered": 1.5}, "filtered: expected a number from 0 to 1, got 1.5"),
        ({"optimizer": "sgd"}, "optimizer: expected one of adam, muon; got 'sgd'"),
    ],
)
def test_refuses_trainings(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig.from_json(values)


def test_from_max_bin_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match="expected 1 to n_bins = 2049, got 2050"):
        OpenUnmixConfig.from_max_bin(2050)
