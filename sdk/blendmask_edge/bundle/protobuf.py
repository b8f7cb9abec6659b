"""The wire format of protobuf, as far as ONNX files use it: fields by number, without the onnx package.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from typing import Iterator, Tuple, Union

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = Union[int, memoryview]


def fields(data: memoryview) -> Iterator[Tuple[int, Field]]:
    """Go through one message: the number and the value of each field, nested messages unread, without a copy.

    Raises:
        ValueError, IndexError: the bytes are no message.
    """
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        value, position = _field(data, position, key & 7)
        yield key >> 3, value


def varint(data: memoryview, position: int) -> Tuple[int, int]:
    """Return the number that starts at `position`, unsigned, and the position after it.

    Raises:
        ValueError, IndexError: there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")


def _field(data: memoryview, position: int, kind: int) -> Tuple[Field, int]:
    if kind == _VARINT:
        return varint(data, position)
    if kind == _BYTES:
        size, position = varint(data, position)
    elif kind in (_FIXED64, _FIXED32):
        size = 8 if kind == _FIXED64 else 4
    else:
        raise ValueError(f"field type {kind}")
    if position + size > len(data):
        raise ValueError("it ends too early")
    return data[position : position + size], position + size
