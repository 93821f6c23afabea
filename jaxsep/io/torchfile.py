"""Weights files of PyTorch, read with NumPy alone; nothing in a file is ever run.

A ``.pth`` file is a pickle that describes tensors, and their bytes. Since PyTorch 1.6 both lie in an
uncompressed zip archive, before that one after the other in a stream.
"""

import io
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["STORAGE_DTYPES", "read_state_dict"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# NumPy's names of the types by PyTorch's.
STORAGE_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Storage(NamedTuple):
    """A run of numbers in the file, which a tensor looks at."""

    key: str
    dtype: str  # a value of STORAGE_DTYPES
    size: int  # of the whole run
    first: int = 0  # the part of it that is meant
    length: int | None = None


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(ValueError):
    """The pickle asks for something that has no place among weights."""


class _Name:
    """What a name in the pickle stands for; nothing the pickle does to it has an effect."""

    __slots__ = ("_call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None = None) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        if self._call is None:
            raise _Refused(f"refused to call {self.name}")
        return self._call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"refused to change {self.name}")

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"refused to change {self.name}")


class _Dict(dict[Any, Any]):
    """An ordered dict that forgets the attributes (`_metadata`) a pickle wants to give it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    size, stride = tuple(size), tuple(stride)
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise _Refused("a tensor without a proper storage, offset, size and stride")
    if len(size) != len(stride):
        raise _Refused(f"a tensor with {len(size)} sizes and {len(stride)} strides")
    return _Tensor(storage, offset, size, stride)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("collections", "OrderedDict"): lambda items=(): _Dict(items),
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Knows tensors and containers, and no other name.

    Made of the unpickler written in Python: the one in C sets memory aside for whatever position in its
    memo a damaged file names, up to 32 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _Name(f"{module}.{name}", _ALLOWED[module, name])
        if module in ("torch", "torch.cuda") and name in STORAGE_DTYPES:
            return _Name(name)
        raise _Refused(f"expected tensors and containers only, refused {module}.{name}")

    def persistent_load(self, saved: Any) -> _Storage:
        if not (isinstance(saved, tuple) and len(saved) in (5, 6) and saved[0] == "storage"):
            raise _Refused("expected only storages outside the pickle, got something else")
        _, kind, key, _, size, *view = saved
        if not isinstance(kind, _Name) or kind.name not in STORAGE_DTYPES:
            raise _Refused("a storage of unknown type")
        if not isinstance(key, str) or type(size) is not int or size < 0:
            raise _Refused("a storage without a proper key and size")
        storage = _Storage(key, STORAGE_DTYPES[kind.name], size)
        if view and view[0] is not None:
            _, first, length = view[0]
            if not all(type(n) is int and n >= 0 for n in (first, length)):
                raise _Refused("a storage's part without a proper place and length")
            storage = storage._replace(first=first, length=length)
        return storage


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch weights file by name.

    Args:
        path: a file in the zip format or in the older stream format.

    Returns:
        Read-only arrays in the file's own types; bfloat16 as float32. Values that are no tensors are
        left out.

    Raises:
        OSError: the file is missing or may not be read.
        ValueError: it is no weights file, is damaged, or names anything but tensors and containers.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: expected a PyTorch weights file, got a folder")
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            saved, load = _read_zip(file) if start == b"PK\x03\x04" else _read_stream(file)
            if not isinstance(saved, dict):
                raise _Refused(f"expected a dict of tensors, got {type(saved).__name__}")
            state = {
                name: _as_array(value, load)
                for name, value in saved.items()
                if isinstance(name, str) and isinstance(value, _Tensor)
            }
        except _Refused as error:
            raise ValueError(f"{path}: {error}") from None
        # The pickle of a damaged file can end in nearly any exception, and so can the zip reader.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{path}: damaged PyTorch weights file ({reason})") from None
    if not state:
        raise ValueError(f"{path}: expected a dict of tensors, got one without any")
    return state


_Load = Callable[[_Storage], np.ndarray]


def _read_zip(file: io.BufferedReader) -> tuple[Any, _Load]:
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise _Refused(f"expected an archive with one data.pkl, got {len(names)}")
    root = names[0].removesuffix("data.pkl")
    order = _member(archive, root + "byteorder") if root + "byteorder" in archive.namelist() else b"little"
    if order not in (b"little", b"big"):
        raise _Refused(f"expected the byte order little or big, got {order!r}")
    loaded: dict[str, bytes] = {}
    # Members of an archive may overlap; without a limit a small file could fill the memory.
    room = os.fstat(file.fileno()).st_size

    def load(storage: _Storage) -> np.ndarray:
        nonlocal room
        if storage.key not in loaded:
            data = _member(archive, f"{root}data/{storage.key}")
            room -= len(data)
            if room < 0:
                raise _Refused("expected less data than the file has bytes, got more")
            loaded[storage.key] = data
        return _numbers(loaded[storage.key], storage, "<" if order == b"little" else ">")

    return _Unpickler(io.BytesIO(_member(archive, names[0])), encoding="utf-8").load(), load


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of the archive. PyTorch stores them as they are; a compressed one might be a bomb."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise _Refused(f"expected an uncompressed archive, got {name} compressed")
    return archive.read(name)


def _read_stream(file: io.BufferedReader) -> tuple[Any, _Load]:
    if file.peek(1)[:1] != pickle.PROTO or _Unpickler(file).load() != _LEGACY_MAGIC:
        raise _Refused("expected a PyTorch weights file, got something else")
    if (protocol := _Unpickler(file).load()) != _LEGACY_PROTOCOL:
        raise _Refused(f"expected the protocol {_LEGACY_PROTOCOL}, got {protocol!r}")
    _Unpickler(file).load()  # about the machine that wrote it; the numbers are little-endian on any
    saved = _Unpickler(file, encoding="utf-8").load()
    keys = _Unpickler(file).load()
    dtypes = {storage.key: storage.dtype for storage in _storages(saved)}
    data: dict[str, bytes] = {}
    for key in keys:
        if key not in dtypes:
            raise _Refused(f"a storage {key!r} that no tensor uses")
        (count,) = struct.unpack("<q", file.read(8))
        n_bytes = count * _item_bytes(dtypes[key])
        if not 0 <= n_bytes <= os.fstat(file.fileno()).st_size:
            raise _Refused(f"expected {n_bytes} bytes of numbers, got a shorter file")
        data[key] = file.read(n_bytes)
    return saved, lambda storage: _numbers(data[storage.key], storage, "<")


def _storages(saved: Any) -> Iterator[_Storage]:
    """Every storage in a nest of containers."""
    pending, seen = [saved], set()
    while pending:
        item = pending.pop()
        if isinstance(item, _Storage):
            yield item
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))  # a pickle can hold a list that holds itself
            pending.extend(item.values() if isinstance(item, dict) else item)


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(data: bytes, storage: _Storage, order: str) -> np.ndarray:
    """The bytes of a storage as an array of one dimension."""
    if len(data) < storage.size * _item_bytes(storage.dtype):
        raise _Refused(f"expected {storage.size} numbers in a storage, got only {len(data)} bytes")
    if storage.dtype == "bfloat16":
        # The upper half of a float32.
        halves = np.frombuffer(data, order + "u2", storage.size)
        numbers = (halves.astype(np.uint32) << 16).view(np.float32)
    else:
        stored = np.frombuffer(data, np.dtype(storage.dtype).newbyteorder(order), storage.size)
        numbers = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if storage.length is not None:
        if storage.first + storage.length > storage.size:
            raise _Refused("a part of a storage reaches beyond its end")
        numbers = numbers[storage.first : storage.first + storage.length]
    return numbers


def _as_array(tensor: _Tensor, load: _Load) -> np.ndarray:
    """A view of the tensor's storage, checked to stay inside it."""
    numbers = load(tensor.storage)
    if 0 in tensor.size:
        return np.zeros(tensor.size, numbers.dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if last >= len(numbers) or math.prod(tensor.size) > len(numbers):
        raise _Refused(f"a tensor of shape {tensor.size} reaches beyond its {len(numbers)} numbers")
    strides = tuple(step * numbers.itemsize for step in tensor.stride)
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.size, strides, subok=False, writeable=False
    )
