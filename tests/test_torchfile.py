"""Weights files of PyTorch: both formats as PyTorch writes them, hostile and damaged files, and back."""

import io
import pickle
import struct
import sys
import types
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from jaxsep.config import OpenUnmixConfig
from jaxsep.io import torchfile
from jaxsep.io.statedict import config_fields, state_dict_from_variables, variables_from_state_dict
from jaxsep.io.torchfile import read_state_dict
from jaxsep.io.torchwriter import write_state_dict
from jaxsep.io.variables import check_variables, flatten, variable_shapes

DATA = Path(__file__).parent / "reference" / "data"
KINDS = ["zip", "stream"]
CONFIGS = {
    "stereo": OpenUnmixConfig.from_max_bin(5, n_fft=16, hop_length=4, hidden_size=6, n_layers=2),
    "mono": OpenUnmixConfig(
        n_channels=1, n_fft=8, hop_length=4, hidden_size=3, n_layers=1, bidirectional=False, bandwidth=None
    ),
}


def expected(group):
    with np.load(DATA / "tiny.npz") as arrays:
        names = [name for name in arrays.files if name.startswith(f"{group}/")]
        return {name.removeprefix(f"{group}/"): arrays[name] for name in names}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ["stereo", "mono", "odd"])
def test_reads_what_torch_wrote(group, kind):
    state, truth = read_state_dict(DATA / f"tiny-{group}-{kind}.pth"), expected(group)
    assert state.keys() == truth.keys()
    for name, array in truth.items():
        assert state[name].dtype == array.dtype, name
        assert state[name].shape == array.shape, name
        assert np.array_equal(state[name], array), name
        assert not state[name].flags.writeable or not state[name].size


@pytest.mark.parametrize("group", CONFIGS)
def test_variables_and_back(group):
    state, config = expected(group), CONFIGS[group]
    kept = {name: array.copy() for name, array in state.items()}
    variables, fields = variables_from_state_dict(state)
    assert fields == {
        "n_channels": config.n_channels,
        "hidden_size": config.hidden_size,
        "n_layers": config.n_layers,
        "bidirectional": config.bidirectional,
        "max_bin": config.max_bin,
        "n_bins": config.n_bins,
    }
    flat = flatten(variables)
    check_variables(flat, config)
    assert all(array.dtype == np.float32 for array in flat.values())
    back = state_dict_from_variables(variables, config)
    assert back.keys() == state.keys()
    assert all(np.array_equal(back[name], state[name]) for name in state if "num_batches" not in name)
    assert all(np.array_equal(state[name], kept[name]) for name in state)


def test_layout_of_the_variables():
    state = expected("stereo")
    variables, _ = variables_from_state_dict(state)
    params, layer = variables["params"], variables["params"]["lstm"]["layer_1"]
    assert np.array_equal(params["fc1"]["kernel"], state["fc1.weight"].T)
    assert np.array_equal(params["bn2"]["scale"], state["bn2.weight"])
    assert np.array_equal(variables["batch_stats"]["bn3"]["var"], state["bn3.running_var"])
    assert np.array_equal(layer["input_kernel"][1], state["lstm.weight_ih_l1_reverse"].T)
    assert np.array_equal(layer["recurrent_kernel"][0], state["lstm.weight_hh_l1"].T)
    assert np.array_equal(layer["recurrent_bias"][1], state["lstm.bias_hh_l1_reverse"])
    assert np.array_equal(params["output_mean"], state["output_mean"])


def test_other_types_become_float32_and_unknown_keys_are_ignored():
    state = {name: array.astype(np.float64) for name, array in expected("mono").items()}
    state["fc2.weight"] = state["fc2.weight"].astype(np.float16)
    variables, _ = variables_from_state_dict(state | {"stft.window": np.ones(3), "sample_rate": np.ones(1)})
    assert {array.dtype for array in flatten(variables).values()} == {np.dtype(np.float32)}


def test_missing_tensors_are_all_listed():
    state = expected("stereo")
    for name in ("bn1.running_var", "lstm.bias_hh_l1_reverse"):
        del state[name]
    with pytest.raises(ValueError, match=r"got none for .*bn1\.running_var") as caught:
        variables_from_state_dict(state)
    assert "lstm.bias_hh_l1_reverse" in str(caught.value)
    with pytest.raises(
        ValueError, match=r"got none for input_mean, output_mean, fc1\.weight, lstm\.weight_ih_l0"
    ):
        config_fields({"other": np.ones(3)})


def test_a_gap_between_layers_is_missing_tensors():
    state = expected("stereo")
    state["lstm.weight_ih_l99999999"] = state["lstm.weight_ih_l0"]
    with pytest.raises(ValueError, match=r"got none for lstm\.weight_ih_l2, "):
        variables_from_state_dict(state)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fc2.weight", lambda a: a[:, :-1], r"fc2\.weight: expected shape \(6, 12\), got \(6, 11\)"),
        ("bn3.bias", lambda a: a[:-1], r"bn3\.bias: expected shape \(18,\), got \(17,\)"),
        ("fc1.weight", lambda a: a[:, :-1], r"fc1\.weight: expected a multiple of input_mean's 5 bins"),
        ("fc1.weight", lambda a: a[0], r"fc1\.weight: expected 2 dimensions, got shape \(10,\)"),
        ("fc1.weight", lambda a: a[:5], "even number for a bidirectional LSTM, got 5"),
        ("bn1.weight", lambda a: a * np.nan, "bn1/scale: expected finite numbers, got NaN"),
        ("bn1.weight", lambda a: a.astype(np.float64) * 1e300, "bn1/scale: expected finite numbers"),
        ("output_mean", lambda a: a[:4], "max_bin: expected 1 to n_bins = 4, got 5"),
    ],
)
def test_tensors_that_do_not_fit(name, change, message):
    state = expected("stereo")
    state[name] = change(state[name])
    with pytest.raises(ValueError, match=message):
        variables_from_state_dict(state)


def test_variables_that_do_not_fit_their_configuration():
    variables, _ = variables_from_state_dict(expected("stereo"))
    with pytest.raises(ValueError, match="expected all arrays of the network"):
        state_dict_from_variables({"params": variables["params"]}, CONFIGS["stereo"])
    with pytest.raises(ValueError, match=r"expected only arrays of the network, got also .*layer_1"):
        state_dict_from_variables(variables, CONFIGS["mono"])
    wider = OpenUnmixConfig.from_max_bin(6, n_fft=16, hop_length=4, hidden_size=6, n_layers=2)
    with pytest.raises(ValueError, match=r"params/input_mean: expected shape \(6,\), got \(5,\)"):
        state_dict_from_variables(variables, wider)


def test_sizes_of_the_published_nets():
    sizes = {path: int(np.prod(shape)) for path, shape in variable_shapes(OpenUnmixConfig()).items()}
    # What sum(p.numel() for p in net.parameters()) says of umxhq's net in PyTorch.
    assert sum(n for path, n in sizes.items() if path.startswith("params")) == 8_893_348


def test_writes_a_file_that_reads_back(tmp_path):
    state = {name: array for name, array in expected("odd").items() if name != "bfloat16"}
    write_state_dict(tmp_path / "x.pth", state)
    back = read_state_dict(tmp_path / "x.pth")
    assert list(back) == list(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert np.array_equal(back[name], array)
    again = tmp_path / "y.pth"
    write_state_dict(again, state)
    assert again.read_bytes() == (tmp_path / "x.pth").read_bytes()


def test_writing_refuses_types_that_torch_lacks(tmp_path):
    with pytest.raises(ValueError, match="c: expected a type that PyTorch has, got complex64"):
        write_state_dict(tmp_path / "x.pth", {"c": np.ones(3, np.complex64)})
    assert not list(tmp_path.iterdir())


# -- files that torch would not write ------------------------------------------------------------------


def write_zip(path, pickled, members=(), *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in members:
            archive.writestr(f"archive/{name}", data)


class Tensor:
    """Pickles to what torch pickles a tensor to, with any numbers in it."""

    def __init__(self, offset=0, size=(2, 3), stride=(3, 1), numel=6, kind="FloatStorage", key="0"):
        self.storage = ("storage", kind, key, "cpu", numel)
        self.rest = (offset, size, stride, False, OrderedDict())


class Pickler(pickle._Pickler):
    """Writes names of modules that need not exist."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Tensor):
            _, kind, key, place, numel = obj.storage
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            self.save("storage")
            self.write(b"ctorch\n" + kind.encode() + b"\n")
            for item in (key, place, numel):
                self.save(item)
            self.write(b"tQ")
            for item in obj.rest:
                self.save(item)
            self.write(b"tR")
        else:
            super().save(obj, save_persistent_id)


def pickled(value):
    out = io.BytesIO()
    Pickler(out, 2).dump(value)
    return out.getvalue()


def test_big_endian_numbers(tmp_path):
    numbers = np.arange(6, dtype=">f4")
    write_zip(
        tmp_path / "x.pth", pickled({"a": Tensor()}), [("data/0", numbers.tobytes()), ("byteorder", b"big")]
    )
    assert np.array_equal(read_state_dict(tmp_path / "x.pth")["a"], np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(offset=1),
        Tensor(offset=-1),
        Tensor(size=(3, 3)),
        Tensor(stride=(4, 1)),
        Tensor(stride=(-3, 1)),
        Tensor(stride=(3,)),
        Tensor(size=(2, 3.0)),
        Tensor(size=(10**12, 10**12), stride=(0, 0)),  # a bomb: many numbers out of one
        Tensor(numel=7),
        Tensor(numel=10**15),
        Tensor(numel=-1),
        Tensor(kind="NoStorage"),
        Tensor(key="1"),
        Tensor(key="../data.pkl"),
    ],
    ids=lambda tensor: f"{tensor.storage}{tensor.rest[:3]}",
)
def test_tensors_stay_inside_their_storage(tmp_path, tensor):
    write_zip(tmp_path / "x.pth", pickled({"a": tensor}), [("data/0", bytes(24))])
    with pytest.raises(ValueError, match=r"x\.pth: "):
        read_state_dict(tmp_path / "x.pth")


def test_overlapping_members_do_not_fill_the_memory(tmp_path):
    path, inner = tmp_path / "x.pth", bytes(40_000)
    tensors = {key: Tensor(size=(10_000,), stride=(1,), numel=10_000, key=key) for key in "01"}
    twin = zipfile.ZipInfo("archive/data/1")
    twin.CRC, twin.compress_size, twin.file_size = zlib.crc32(inner), len(inner), len(inner)
    # The second member lies inside the first one.
    write_zip(path, pickled(tensors), [("data/0", twin.FileHeader(zip64=False) + inner)])
    with zipfile.ZipFile(path, "a") as archive:
        outer = archive.getinfo("archive/data/0")
        twin.header_offset = outer.header_offset + len(outer.FileHeader(zip64=False))
        archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(ValueError, match=r"x\.pth: .*(less data than the file has|Overlapped)"):
        read_state_dict(path)


class Exploit:
    def __reduce__(self):
        return (exec, ("import sys; sys.exploited = True",))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path, kind, nested):
    path = tmp_path / "x.pth"
    payload = pickle.dumps({"a": Exploit()} if nested else Exploit(), 2)
    if kind == "zip":
        write_zip(path, payload)
    else:
        head = [pickle.dumps(item, 2) for item in (torchfile._LEGACY_MAGIC, 1001, {"little_endian": True})]
        path.write_bytes(b"".join(head) + payload)
    with pytest.raises(ValueError, match=r"expected tensors and containers only, refused .*exec"):
        read_state_dict(path)
    path.write_bytes(payload)  # a bare pickle
    with pytest.raises(ValueError, match=r"x\.pth"):
        read_state_dict(path)
    assert not hasattr(sys, "exploited")


@pytest.mark.parametrize(
    "payload",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"cbuiltins\neval\n.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"ctorch\n_C.Storage\n.",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"ctorch.serialization\nload\n.",
        b"ctorch\nFloatStorage\n)R.",  # calls a storage type
        b"ctorch\nFloatStorage\n}X\x04\x00\x00\x00nameX\x01\x00\x00\x00xsb.",  # changes one
        b"ccollections\nOrderedDict\n(N}X\x0c\x00\x00\x00__setstate__Nst\x86b.",
        b"ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"(X\x03\x00\x00\x00urlX\x01\x00\x00\x00xtQ.",  # a persistent thing that is no storage
        b"r\xff\xff\xff\x7f.",  # a place in the memo far away
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # more bytes than any memory holds
        b"\x82\x01.",  # the extension registry
        b"(lp0\ng0\na.",  # a list that holds itself
        b"(" * 100_000 + b".",
        b".",
        b"",
    ],
    ids=range(19),
)
def test_odd_pickles_are_refused(tmp_path, payload):
    write_zip(tmp_path / "x.pth", payload if payload.startswith(b"\x80") else b"\x80\x02" + payload)
    before = dict(vars(torchfile._Name)), dict(vars(torchfile._Dict))
    with pytest.raises(ValueError, match=r"x\.pth: ") as caught:
        read_state_dict(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert (dict(vars(torchfile._Name)), dict(vars(torchfile._Dict))) == before


def test_archives_that_torch_would_not_write(tmp_path):
    path, data = tmp_path / "x.pth", ("data/0", bytes(24))
    write_zip(path, pickled({"a": Tensor()}), [data], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="expected an uncompressed archive"):
        read_state_dict(path)
    write_zip(path, pickled({"a": Tensor()}), [data, ("byteorder", b"middle")])
    with pytest.raises(ValueError, match="expected the byte order little or big, got b'middle'"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")
    with pytest.raises(ValueError, match=r"one data\.pkl, got 0"):
        read_state_dict(path)
    write_zip(path, pickled([1, 2]))
    with pytest.raises(ValueError, match="expected a dict of tensors, got list"):
        read_state_dict(path)
    write_zip(path, pickled({"a": 1}))
    with pytest.raises(ValueError, match="got one without any"):
        read_state_dict(path)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_one_line_whatever_the_damage(tmp_path, kind, rng):
    whole, path = (DATA / f"tiny-odd-{kind}.pth").read_bytes(), tmp_path / "x.pth"
    for length in range(0, len(whole) - 8, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"x\.pth"):
            read_state_dict(path)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            read_state_dict(path)
        except ValueError as error:
            assert "\n" not in str(error) and "x.pth" in str(error)
            refused += 1
    assert refused > 100


def test_other_files(tmp_path):
    for name, data in {"empty": b"", "text": b"hello world\n" * 9, "zeros": bytes(999)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: expected a PyTorch weights file, got something else"):
            read_state_dict(tmp_path / name)
    with pytest.raises(ValueError, match="got a folder"):
        read_state_dict(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        read_state_dict(tmp_path / "missing")


def test_stream_with_a_shortened_storage(tmp_path):
    whole = (DATA / "tiny-mono-stream.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="numbers in a storage, got only"):
        read_state_dict(tmp_path / "x.pth")
    at = whole.rindex(struct.pack("<q", 5))
    (tmp_path / "x.pth").write_bytes(whole[:at] + struct.pack("<q", 2**60) + whole[at + 8 :])
    with pytest.raises(ValueError, match="got a shorter file"):
        read_state_dict(tmp_path / "x.pth")


# -- side by side with the originals -------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("group", CONFIGS)
def test_torch_and_openunmix_load_what_we_write(tmp_path, monkeypatch, group):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    model = pytest.importorskip("openunmix.model")
    config = CONFIGS[group]
    variables, _ = variables_from_state_dict(expected(group))
    write_state_dict(tmp_path / "x.pth", state_dict_from_variables(variables, config))
    state = torch.load(tmp_path / "x.pth", weights_only=True)
    net = model.OpenUnmix(
        nb_bins=config.n_bins,
        nb_channels=config.n_channels,
        hidden_size=config.hidden_size,
        nb_layers=config.n_layers,
        unidirectional=not config.bidirectional,
        max_bin=config.max_bin,
    )
    net.load_state_dict(state, strict=True)
    for name, array in expected(group).items():
        if "num_batches" not in name:
            assert np.array_equal(net.state_dict()[name].numpy(), array)


@pytest.mark.reference
def test_torch_loads_every_type_we_write(tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: array for name, array in expected("odd").items() if name != "bfloat16"}
    write_state_dict(tmp_path / "x.pth", state)
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(loaded) == list(state)
    assert all(np.array_equal(loaded[name].numpy(), array) for name, array in state.items())
