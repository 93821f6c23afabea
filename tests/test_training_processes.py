"""Runs of training that are killed, or that have many devices or hosts: each in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a run; what one has compiled serves the others."""
    cache = tmp_path_factory.mktemp("compiled")
    running = []

    def start(output, *arguments, flags="") -> subprocess.Popen:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": flags,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.training_child", str(output), *map(str, arguments)]
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Outcome(NamedTuple):
    losses: np.ndarray  # (epoch, 2): training and validation
    songs: list[str]  # the loss of songs before the first step, digit by digit
    devices: int


def finish(process) -> Outcome:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    lines = [line.split() for line in output.splitlines()]
    losses = np.array([[float(word) for word in words[1:]] for words in lines if words[0] == "loss"])
    (songs,) = (words[1:] for words in lines if words[0] == "songs")
    (devices,) = (int(words[1]) for words in lines if words[0] == "devices")
    return Outcome(losses, songs, devices)


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """A run on one device that nothing happens to, and its weights."""
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = finish(start(folder))
    assert (outcome.devices, outcome.losses.shape) == (1, (5, 2))
    return outcome, load_file(folder / "vocals.safetensors")


def assert_near(made: Outcome, expected: Outcome) -> None:
    """The same numbers, but for the order in which devices add them up."""
    np.testing.assert_allclose(made.losses[:, 0], expected.losses[:, 0], rtol=1e-5)
    # Adam makes whole steps of the rounding of gradients that are zero in truth. They move input_mean, which a batch's
    # own statistics undo and running ones do not quite.
    np.testing.assert_allclose(made.losses[:, 1], expected.losses[:, 1], rtol=2e-2)
    assert made.songs == expected.songs


def test_killed_five_times_it_ends_in_the_same_weights(start, undisturbed, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(5):
        process = start(tmp_path, "--slow", 0.05)
        for _ in range(rng.integers(1, 8)):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcome = finish(start(tmp_path))
    np.testing.assert_array_equal(outcome.losses, undisturbed[0].losses)
    weights = load_file(tmp_path / "vocals.safetensors")
    assert weights.keys() == undisturbed[1].keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, undisturbed[1][name], err_msg=name)


def test_eight_devices_are_one(start, undisturbed, tmp_path):
    outcome = finish(start(tmp_path, flags="--xla_force_host_platform_device_count=8"))
    assert outcome.devices == 8
    assert_near(outcome, undisturbed[0])


def test_two_hosts_are_one(start, undisturbed, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    hosts = [start(tmp_path, "--hosts", 2, "--host", host, "--port", port) for host in range(2)]
    for outcome in [finish(host) for host in hosts]:
        assert outcome.devices == 2
        assert_near(outcome, undisturbed[0])
