"""Saved weights: round trips in each stored type, whole files only, damaged files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxsep.config import OpenUnmixConfig
from jaxsep.io.checkpoint import load_weights, save_weights, saved_targets
from jaxsep.io.files import atomic_path, cache_dir
from jaxsep.io.variables import flatten, unflatten, variable_shapes

CONFIG = OpenUnmixConfig(n_fft=32, hop_length=8, hidden_size=6, n_layers=2, bandwidth=9000.0)


@pytest.fixture
def variables(rng):
    shapes = variable_shapes(CONFIG)
    return unflatten({path: rng.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()})


def largest_difference(one, other):
    one, other = flatten(one), flatten(other)
    assert one.keys() == other.keys()
    return max(float(np.abs(one[path] - other[path]).max()) for path in one)


def test_float32_round_trip_is_exact(tmp_path, variables):
    save_weights(tmp_path / "new" / "model", "vocals", variables, CONFIG, metadata={"licence": "CC0"})
    loaded = load_weights(tmp_path / "new" / "model", "vocals")
    assert largest_difference(loaded.variables, variables) == 0
    assert loaded.config == CONFIG and loaded.metadata == {"licence": "CC0"}
    assert saved_targets(tmp_path / "new" / "model") == ["vocals"]


def test_float16_keeps_eleven_bits_of_kernels(tmp_path, variables):
    save_weights(tmp_path, "vocals", variables, CONFIG, dtype="float16")
    loaded = flatten(load_weights(tmp_path, "vocals").variables)
    for path, array in flatten(variables).items():
        assert loaded[path].dtype == np.float32
        # Half a unit in the 11th bit; vectors are stored as they are.
        bound = 2.0**-11 * np.abs(array) + 1e-7 if path.endswith("kernel") else 0
        assert (np.abs(loaded[path] - array) <= bound).all(), path


def test_int8_is_within_half_a_step_of_each_output(tmp_path, variables):
    variables["params"]["fc2"]["kernel"][:, 1] = 0  # an output without weights
    variables["params"]["fc2"]["kernel"][:, 2] *= 1000
    save_weights(tmp_path, "vocals", variables, CONFIG, dtype="int8")
    loaded = flatten(load_weights(tmp_path, "vocals").variables)
    for path, array in flatten(variables).items():
        if not path.endswith("kernel"):
            assert np.array_equal(loaded[path], array)
            continue
        step = np.abs(array).max(axis=-2, keepdims=True) / 127
        assert (np.abs(loaded[path] - array) <= 0.5001 * step).all(), path
    stored = load_file(tmp_path / "vocals.safetensors")
    assert stored["params/lstm/layer_0/input_kernel"].dtype == np.int8
    assert stored["params/lstm/layer_0/input_kernel.scale"].shape == (2, 1, 12)


def test_saving_leaves_the_variables_alone(tmp_path, variables):
    kept = {path: array.copy() for path, array in flatten(variables).items()}
    for dtype in ("float32", "float16", "int8"):
        save_weights(tmp_path, "vocals", variables, CONFIG, dtype=dtype)
    assert all(np.array_equal(array, kept[path]) for path, array in flatten(variables).items())


def test_what_cannot_be_saved(tmp_path, variables):
    with pytest.raises(ValueError, match="dtype: expected float32, float16, int8; got 'int4'"):
        save_weights(tmp_path, "vocals", variables, CONFIG, dtype="int4")
    for target in ("", "../vocals", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="target: expected a plain name"):
            save_weights(tmp_path, target, variables, CONFIG)
    variables["params"]["fc1"]["kernel"][0, 0] = 1e6
    with pytest.raises(ValueError, match="expected weights that float16 can hold"):
        save_weights(tmp_path, "vocals", variables, CONFIG, dtype="float16")
    variables["params"]["fc1"]["kernel"][0, 0] = np.nan
    with pytest.raises(ValueError, match="params/fc1/kernel: expected finite numbers"):
        save_weights(tmp_path, "vocals", variables, CONFIG)
    del variables["batch_stats"]
    with pytest.raises(ValueError, match="got none for batch_stats/bn1/mean"):
        save_weights(tmp_path, "vocals", variables, CONFIG)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded(tmp_path, variables):
    with pytest.raises(FileNotFoundError, match=r"vocals\.json"):
        load_weights(tmp_path, "vocals")
    save_weights(tmp_path, "vocals", variables, CONFIG)
    weights, description = tmp_path / "vocals.safetensors", tmp_path / "vocals.json"
    good_weights, good_description = weights.read_bytes(), json.loads(description.read_text())

    for data in (b"", b"text", good_weights[:-5], b"\xff" * 100):
        weights.write_bytes(data)
        with pytest.raises(ValueError, match=r"vocals\.safetensors: damaged weights") as caught:
            load_weights(tmp_path, "vocals")
        assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"vocals\.safetensors"):
        load_weights(tmp_path, "vocals")
    weights.write_bytes(good_weights)

    for change, message in [
        ({"format_version": 99}, r"vocals\.json: expected format_version 1, got 99"),
        ({"config": {"hidden_sise": 6}}, "got also hidden_sise"),
        ({"config": CONFIG.to_json() | {"hidden_size": 8}}, r"expected shape \(\d+, 8\), got \(\d+, 6\)"),
        ({"config": None}, "expected a JSON object, got NoneType"),
        ({"metadata": [1]}, "expected a JSON object as metadata"),
    ]:
        description.write_text(json.dumps(good_description | change))
        with pytest.raises(ValueError, match=message):
            load_weights(tmp_path, "vocals")
    for text in ("", "[1]", "[" * 100_000):
        description.write_text(text)
        with pytest.raises(ValueError, match=r"vocals\.json: expected"):
            load_weights(tmp_path, "vocals")


def test_a_kernel_without_its_scale(tmp_path, variables):
    save_weights(tmp_path, "vocals", variables, CONFIG, dtype="int8")
    stored = load_file(tmp_path / "vocals.safetensors")
    del stored["params/fc1/kernel.scale"]
    save_file(stored, tmp_path / "vocals.safetensors")
    with pytest.raises(ValueError, match=r"damaged weights .*fc1/kernel"):
        load_weights(tmp_path, "vocals")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_atomic_path_leaves_the_old_file_when_it_ends_early(tmp_path, error):
    (tmp_path / "x").write_text("old")
    with pytest.raises(error), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half of the new")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_atomic_path_takes_names_as_long_as_the_system_allows(tmp_path):
    with atomic_path(tmp_path / ("x" * 255)) as temporary:
        temporary.write_text("new")
    assert (tmp_path / ("x" * 255)).read_text() == "new"


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSEP_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("JAXSEP_CACHE")
    assert cache_dir().name == "jaxsep" and cache_dir().is_absolute()
