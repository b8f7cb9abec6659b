"""Pickles of arrays and plain containers, read without running any of their code.

detectron2 writes `.pkl` files of NumPy arrays, and its `.pth` files may hold some. Each global that such a file refers
to is replaced by a builder of this module; every other one is refused. Only the arguments of NumPy's own constructors
are taken, never the constructors: a forged dtype can make these read outside their buffer.

An instance of `RestrictedPickle` serves as the `pickle_module` of `torch.load`.
"""

from __future__ import annotations

import codecs
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_RECONSTRUCT = tuple(f"numpy.{core}.multiarray" for core in ("core", "_core"))
_FROM_BUFFER = tuple(f"numpy.{core}.numeric" for core in ("core", "_core"))


class ForbiddenGlobalError(pickle.UnpicklingError):
    """A pickle refers to something other than arrays and plain containers."""


class _Dtype:
    """A number's type, from the arguments and the state that `numpy.dtype` is pickled with."""

    def __init__(self, name: str, *_: Any) -> None:
        if str(name).lstrip("<>=|") not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of {name!r}: only numbers are read")
        self.dtype = np.dtype(str(name))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self.dtype = self.dtype.newbyteorder(order if order in ("<", ">", "=", "|") else "=")


class _Array:
    """An array, filled by the state that it is pickled with."""

    def __init__(self, *_: Any) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, data = state[-4:]
        self.array = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: str = "C") -> NDArray[Any]:
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if not isinstance(dtype, _Dtype) or math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise pickle.UnpicklingError(f"an array of shape {shape} with {len(raw)} bytes of numbers")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str = "C") -> _Array:
    result = _Array()
    result.array = _filled(data, dtype, shape, order)
    return result


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return _filled(data, dtype, ())[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoded as {encoding!r}")
    return codecs.encode(text, "latin1")


def _bytes(*content: Any) -> bytes:
    if content and not isinstance(content[0], (bytes, bytearray, list, str)):
        raise pickle.UnpicklingError("bytes of a given size")
    return _encode(*content) if content and isinstance(content[0], str) else bytes(*content[:1])


class _Builder:
    """A function that a pickle can call and not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a builder of arrays is changed")


_BUILTINS: dict[str, Callable[..., Any]] = {
    "set": set, "frozenset": frozenset, "bytearray": _bytes, "bytes": _bytes,
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, "_reconstruct"): _Array for module in _RECONSTRUCT},
    **{(module, "scalar"): _scalar for module in _RECONSTRUCT},
    **{(module, "_frombuffer"): _from_buffer for module in _FROM_BUFFER},
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _BUILTINS.items()},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class _Unpickler(pickle._Unpickler):
    """Python's own reader, whose memory follows the objects: that in C takes a list as long as the largest index."""

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        super().__init__(file, **{**options, "encoding": "latin1"})  # as Python 2 wrote its texts

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise ForbiddenGlobalError(f"{module}.{name}")
        return _Builder(_KNOWN[module, name])


class RestrictedPickle:
    """The pickle module that `torch.load` uses."""

    Unpickler = _Unpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: IO[bytes], **options: Any) -> Any:
        """Read one object."""
        return _Unpickler(file, **options).load()


def as_tensors(content: Any) -> Any:
    """The containers with each array as a tensor of its own; what stands in several places is converted once."""
    return _converted(content, {})


def _converted(content: Any, done: dict[int, Any]) -> Any:
    if isinstance(content, Mapping):
        if id(content) not in done:
            done[id(content)] = {key: _converted(value, done) for key, value in content.items()}
        return done[id(content)]
    return torch.from_numpy(_native(content.array)) if isinstance(content, _Array) else content


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(array.dtype.newbyteorder("="), copy=False)
