"""Weights files of PyTorch, written with NumPy alone."""

import os
import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

from jaxsep.io.files import atomic_path
from jaxsep.io.torchfile import STORAGE_DTYPES

__all__ = ["write_state_dict"]


def write_state_dict(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a PyTorch weights file, which ``torch.load(path, weights_only=True)`` reads.

    Args:
        path: the file to write, in PyTorch's zip format; it appears whole or not at all.
        state: arrays of type float64, float32, float16, int64, int32, int16, int8, uint8 or bool.

    Raises:
        ValueError: an array of another type.
        OSError: the file cannot be written.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            # A fixed date, so that equal weights make equal files.
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", (1980, 1, 1, 0, 0, 0)), data)

        add("data.pkl", _pickled(arrays))
        add("byteorder", b"little")
        for index, array in enumerate(arrays.values()):
            add(f"data/{index}", array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        add("version", b"3\n")


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an ordered dict of tensors, opcode by opcode: the names in it need no import."""
    kinds = {np.dtype(dtype): kind for kind, dtype in STORAGE_DTYPES.items() if dtype != "bfloat16"}
    out = [pickle.PROTO + b"\x02", _global("collections OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE]
    out.append(pickle.MARK)
    for index, (name, array) in enumerate(arrays.items()):
        if array.dtype not in kinds:
            raise ValueError(f"{name}: expected a type that PyTorch has, got {array.dtype}")
        strides = [step // array.itemsize for step in array.strides]
        out += [
            _text(name),
            _global("torch._utils _rebuild_tensor_v2"),
            pickle.MARK,
            *(pickle.MARK, _text("storage"), _global(f"torch {kinds[array.dtype]}")),
            *(_text(str(index)), _text("cpu"), _integer(array.size), pickle.TUPLE, pickle.BINPERSID),
            _integer(0),
            *(pickle.MARK, *map(_integer, array.shape), pickle.TUPLE),
            *(pickle.MARK, *map(_integer, strides), pickle.TUPLE),
            pickle.NEWFALSE,  # needs no gradient
            *(_global("collections OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE),  # has no hooks
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    return b"".join([*out, pickle.SETITEMS, pickle.STOP])


def _global(names: str) -> bytes:
    module, name = names.split()
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data
