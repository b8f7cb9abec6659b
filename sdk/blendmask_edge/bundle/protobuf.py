"""The wire format of protobuf, as far as ONNX files use it: fields by number, without the onnx package.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from typing import Iterator, Tuple, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = Union[int, memoryview]


def fields(data: memoryview) -> Iterator[Tuple[int, int, Field]]:
    """Go through one message, nested ones unread, without a copy: number, wire type and value of each field.

    Raises:
        ValueError, IndexError: the bytes are not a message.
    """
    position, end = 0, len(data)
    while position < end:
        key = data[position]
        position += 1
        if key >= 0x80:
            key, position = varint(data, position - 1)
        wire = key & 7
        if wire == VARINT:
            number, position = varint(data, position)
            yield key >> 3, wire, number
            continue
        if wire == BYTES:
            size, position = varint(data, position)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"field type {wire}")
        if size > end - position:
            raise ValueError("it ends too early")
        yield key >> 3, wire, data[position : position + size]
        position += size


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


def packed_varints(data: memoryview) -> Iterator[int]:
    """Go through numbers that stand one behind the other.

    Raises:
        ValueError, IndexError: the last one does not end.
    """
    position = 0
    while position < len(data):
        value, position = varint(data, position)
        yield value


def signed(value: int) -> int:
    """Return an unsigned number of 64 bits as the integer that it stands for."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
