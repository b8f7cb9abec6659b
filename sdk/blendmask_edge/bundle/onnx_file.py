"""Read an ONNX file from its protobuf fields, without the onnx package: nodes, tensors and inputs, nothing copied.

Only fields that an exported graph has are taken (onnx.proto3), each in the wire type that ONNX gives it and, unless it
is a list, once: another parser would pass over the rest, or keep the last of two, and so read another graph.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from blendmask_edge.bundle.protobuf import BYTES, FIXED32, VARINT, Field, fields, packed_varints, signed
from blendmask_edge.errors import BundleError

MAX_FIELDS = 2**17
"""Fields of all messages together; graphs of the released models hold some ten thousand."""
MAX_ENTRIES = 2**14
"""Entries of one list, such as the nodes."""
MAX_NAME_BYTES = 2**12
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16 = 1, 2, 3, 6, 7, 9, 10
ITEM_BYTES = {FLOAT: 4, UINT8: 1, INT8: 1, INT32: 4, INT64: 8, BOOL: 1, FLOAT16: 2}
"""Bytes of one element of the types that an exported graph has."""
_STRUCT_CODES = {FLOAT: "f", UINT8: "B", INT8: "b", INT32: "i", INT64: "q", BOOL: "?", FLOAT16: "e"}
_LIST = -1
"""A field that may occur more than once; numbers in it may be packed."""

_FIELDS: Dict[str, Dict[int, Tuple[int, ...]]] = {
    "ModelProto": {
        1: (VARINT,), 2: (BYTES,), 3: (BYTES,), 4: (BYTES,), 5: (VARINT,), 6: (BYTES,), 7: (BYTES,),
        8: (_LIST, BYTES), 14: (_LIST, BYTES),
    },
    "OperatorSetIdProto": {1: (BYTES,), 2: (VARINT,)},
    "GraphProto": {
        1: (_LIST, BYTES), 2: (BYTES,), 5: (_LIST, BYTES), 10: (BYTES,), 11: (_LIST, BYTES), 12: (_LIST, BYTES),
        13: (_LIST, BYTES), 14: (_LIST, BYTES), 16: (_LIST, BYTES),
    },
    "NodeProto": {
        1: (_LIST, BYTES), 2: (_LIST, BYTES), 3: (BYTES,), 4: (BYTES,), 5: (_LIST, BYTES), 6: (BYTES,), 7: (BYTES,),
        9: (_LIST, BYTES),
    },
    "AttributeProto": {
        1: (BYTES,), 2: (FIXED32,), 3: (VARINT,), 4: (BYTES,), 5: (BYTES,), 7: (_LIST, FIXED32, BYTES),
        8: (_LIST, VARINT, BYTES), 9: (_LIST, BYTES), 13: (BYTES,), 20: (VARINT,),
    },
    "TensorProto": {
        1: (_LIST, VARINT, BYTES), 2: (VARINT,), 4: (_LIST, FIXED32, BYTES), 5: (_LIST, VARINT, BYTES),
        7: (_LIST, VARINT, BYTES), 8: (BYTES,), 9: (BYTES,), 12: (BYTES,), 14: (VARINT,), 16: (_LIST, BYTES),
    },
    "ValueInfoProto": {1: (BYTES,), 2: (BYTES,), 3: (BYTES,), 4: (_LIST, BYTES)},
    "TypeProto": {1: (BYTES,), 6: (BYTES,)},
    "TypeProto.Tensor": {1: (VARINT,), 2: (BYTES,)},
    "TensorShapeProto": {1: (_LIST, BYTES)},
    "TensorShapeProto.Dimension": {1: (VARINT,), 2: (BYTES,), 3: (BYTES,)},
    "TensorAnnotation": {1: (BYTES,), 2: (_LIST, BYTES)},
    "StringStringEntryProto": {1: (BYTES,), 2: (BYTES,)},
}  # fmt: skip
"""Fields of each message: number, and the wire types it may have."""
_TO_CHECK = {
    ("ModelProto", 14): "StringStringEntryProto",
    ("GraphProto", 13): "ValueInfoProto",
    ("GraphProto", 14): "TensorAnnotation",
    ("GraphProto", 16): "StringStringEntryProto",
    ("NodeProto", 9): "StringStringEntryProto",
    ("TensorProto", 16): "StringStringEntryProto",
    ("ValueInfoProto", 4): "StringStringEntryProto",
    ("ValueInfoProto", 2): "TypeProto",
    ("TypeProto", 1): "TypeProto.Tensor",
    ("TypeProto.Tensor", 2): "TensorShapeProto",
    ("TensorShapeProto", 1): "TensorShapeProto.Dimension",
    ("TensorAnnotation", 2): "StringStringEntryProto",
}
"""Messages that are not read here wherever they occur. A runtime reads them, so they must be sound."""
_EXTERNAL = "a tensor in another file (external data)"
_SUBGRAPH = "a graph inside an operator (If, Loop, Scan)"
_NAMED = {
    ("ModelProto", 20): "training information",
    ("ModelProto", 25): "functions",
    ("GraphProto", 15): "a sparse tensor",
    ("AttributeProto", 6): _SUBGRAPH,
    ("AttributeProto", 11): _SUBGRAPH,
    ("AttributeProto", 22): "a sparse tensor",
    ("AttributeProto", 23): "a sparse tensor",
    ("TensorProto", 13): _EXTERNAL,
    ("TensorProto", 14): _EXTERNAL,
}
"""Names of the fields that most often occur where they are not allowed."""
_UNREADABLE = (ValueError, IndexError, TypeError, KeyError, struct.error)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file; its values are decoded when they are asked for, since weights are large.

    dtype: number of ONNX's TensorProto.DataType.   shape: sizes, outermost first.
    raw: the values as little-endian bytes, None where they stand as `numbers`.
    numbers: parts of the list of values otherwise: numbers, or bytes that hold several.
    """

    name: str
    dtype: int
    shape: Tuple[int, ...]
    raw: Optional[memoryview]
    numbers: Tuple[Field, ...]

    @property
    def count(self) -> int:
        """Number of elements that the shape states."""
        total = 1
        for size in self.shape:
            total *= size
        return total

    @property
    def stored(self) -> int:
        """Number of elements that the file holds; -1 where the bytes are not a whole number of them."""
        if self.raw is not None:
            size = ITEM_BYTES[self.dtype]
            return len(self.raw) // size if len(self.raw) % size == 0 and not self.numbers else -1
        if self.dtype == FLOAT:
            total = sum(map(_byte_count, self.numbers))
            return total // 4 if total % 4 == 0 else -1
        return sum(map(_varint_count, self.numbers))

    def values(self) -> Tuple[Any, ...]:
        """Return the elements as numbers.

        Raises:
            BundleError: the bytes are not those of `count` elements.
        """
        if self.dtype not in ITEM_BYTES or self.count != self.stored:
            raise BundleError(f"the tensor {self.name!r} does not hold the values that its shape states")
        try:
            return self._decoded()
        except _UNREADABLE as error:
            raise BundleError(f"the tensor {self.name!r} holds no values of its type ({error})") from error

    def _decoded(self) -> Tuple[Any, ...]:
        if self.raw is not None:
            return struct.unpack(f"<{self.count}{_STRUCT_CODES[self.dtype]}", self.raw)
        if self.dtype == FLOAT:
            packed = b"".join(bytes(part) for part in self.numbers)
            return struct.unpack(f"<{self.count}f", packed)
        values = tuple(map(signed, _numbers(self.numbers)))
        return values if self.dtype != FLOAT16 else tuple(map(_half, values))


Attribute = Union[int, float, bytes, Tensor, Tuple[int, ...], Tuple[float, ...], Tuple[bytes, ...], None]


@dataclass(frozen=True)
class Node:
    """One operator: what it is and what it reads and writes, by name; an input left out is the empty name.

    name: of the node itself, empty where it has none.
    """

    operator: str
    domain: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Input:
    """An input or output of the graph; a size is None where it is left open, the shape where none is stated."""

    name: str
    dtype: int
    shape: Optional[Tuple[Optional[int], ...]]


@dataclass(frozen=True)
class OnnxFile:
    """The content of an ONNX file.

    ir_version: of the file format.   opsets: version by domain of operators; ONNX's own is "".
    nodes: in the order in which they run.   constants: tensors of the file.
    """

    ir_version: int
    opsets: Mapping[str, int]
    nodes: Tuple[Node, ...]
    constants: Tuple[Tensor, ...]
    inputs: Tuple[Input, ...]
    outputs: Tuple[Input, ...]


def read_onnx_file(data: bytes) -> OnnxFile:
    """Read an ONNX file.

    Raises:
        BundleError: the bytes are not an ONNX file, or hold a field that exported graphs do not have: subgraphs,
            functions, external data, or more than `MAX_FIELDS` fields.
    """
    try:
        return _Reader().model(memoryview(data))
    except _UNREADABLE as error:
        raise BundleError(f"it is not an ONNX file ({error})") from error


Message = Dict[int, Any]


class _Reader:
    """Reads messages and counts their fields."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def model(self, data: memoryview) -> OnnxFile:
        model = self._message("ModelProto", data)
        graph = self._message("GraphProto", model[7]) if 7 in model else {}
        opsets = [self._message("OperatorSetIdProto", entry) for entry in model.get(8, ())]
        return OnnxFile(
            ir_version=model.get(1, 0),
            opsets=dict(_once([(_domain(entry, 1), signed(entry.get(2, 0))) for entry in opsets], "opset")),
            nodes=tuple(map(self._node, graph.get(1, ()))),
            constants=tuple(map(self._tensor, graph.get(5, ()))),
            inputs=tuple(map(self._input, graph.get(11, ()))),
            outputs=tuple(map(self._input, graph.get(12, ()))),
        )

    def _node(self, data: memoryview) -> Node:
        node = self._message("NodeProto", data)
        attributes = _once([self._attribute(part) for part in node.get(5, ())], "attribute")
        inputs, outputs = (tuple(map(_utf8, node.get(number, ()))) for number in (1, 2))
        return Node(_text(node, 4), _domain(node, 7), inputs, outputs, dict(attributes), _text(node, 3))

    def _attribute(self, data: memoryview) -> Tuple[str, Attribute]:
        message = self._message("AttributeProto", data)
        name, held = _text(message, 1), [number for number in (2, 3, 4, 5, 7, 8, 9) if number in message]
        if len(held) > 1:
            raise ValueError(f"the attribute {name!r} has two values")
        return name, self._value(message, held[0]) if held else None

    def _value(self, message: Message, number: int) -> Attribute:
        value = message[number]
        if number == 5:
            return self._tensor(value)
        if number == 2:
            return float(struct.unpack("<f", value)[0])
        if number == 3:
            return signed(value)
        if number == 8:
            return tuple(map(signed, _numbers(value)))
        if number == 7:
            packed = b"".join(map(bytes, value))
            return struct.unpack(f"<{len(packed) // 4}f", packed)
        return bytes(value) if number == 4 else tuple(map(bytes, value))

    def _tensor(self, data: memoryview) -> Tensor:
        tensor = self._message("TensorProto", data)
        dtype = tensor.get(2, 0)
        numbers = [(number, tensor[number]) for number in (4, 5, 7) if number in tensor]
        own = {FLOAT: 4, INT64: 7}.get(dtype, 5)
        if any(number != own for number, _ in numbers):
            raise ValueError("a tensor holds values of another type than it states")
        shape = tuple(map(signed, _numbers(tensor.get(1, ()))))
        return Tensor(_text(tensor, 8), dtype, shape, tensor.get(9), tuple(numbers[0][1]) if numbers else ())

    def _input(self, data: memoryview) -> Input:
        info = self._message("ValueInfoProto", data)
        outer = self._message("TypeProto", info[2]) if 2 in info else {}
        tensor = self._message("TypeProto.Tensor", outer[1]) if 1 in outer else {}
        shape = self._message("TensorShapeProto", tensor[2]).get(1, ()) if 2 in tensor else None
        sizes = None if shape is None else tuple(map(self._size, shape))
        return Input(_text(info, 1), tensor.get(1, 0), sizes)

    def _size(self, data: memoryview) -> Optional[int]:
        dimension = self._message("TensorShapeProto.Dimension", data)
        return signed(dimension[1]) if 1 in dimension else None

    def _message(self, kind: str, data: memoryview) -> Message:
        """Split one message into its fields by number: lists as lists, nested messages as bytes."""
        allowed, message = _FIELDS[kind], {}  # type: Dict[int, Tuple[int, ...]], Message
        for number, wire, value in fields(data):
            self._left -= 1
            if self._left < 0:
                raise BundleError(f"it holds more than {MAX_FIELDS} fields, more than any exported graph")
            wires = allowed.get(number, ())
            if wire not in wires:
                _refuse_field(kind, number)
            if (kind, number) in _TO_CHECK and isinstance(value, memoryview):
                self._message(_TO_CHECK[kind, number], value)
            if wires[0] == _LIST:
                entries = message.setdefault(number, [])
                entries.append(value)
                if len(entries) > MAX_ENTRIES:
                    raise BundleError(f"a {kind} of it holds more than {MAX_ENTRIES} entries in field {number}")
            elif number in message:
                raise ValueError(f"{kind} has field {number} twice")
            else:
                message[number] = value
        if kind == "TensorProto" and message.get(14, 0) != 0:
            _refuse_field(kind, 14)
        return message


def _refuse_field(kind: str, number: int) -> None:
    name = _NAMED.get((kind, number), f"field {number} of {kind}")
    raise BundleError(f"it holds {name}, which no exported graph does")


def _once(pairs: List[Tuple[str, Any]], kind: str) -> List[Tuple[str, Any]]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"it names an {kind} twice")
    return pairs


def _text(message: Message, number: int) -> str:
    return _utf8(message[number]) if number in message else ""


def _utf8(data: memoryview) -> str:
    if len(data) > MAX_NAME_BYTES:
        raise ValueError(f"a name has {len(data)} bytes, at most {MAX_NAME_BYTES} are allowed")
    return str(data, "utf-8")


def _domain(message: Message, number: int) -> str:
    """Return a domain of operators; ONNX's own has two names."""
    name = _text(message, number)
    return "" if name == "ai.onnx" else name


def _numbers(parts: Any) -> Iterator[int]:
    for part in parts:
        if isinstance(part, int):
            yield part
        else:
            yield from packed_varints(part)


def _byte_count(part: Field) -> int:
    return 0 if isinstance(part, int) else len(part)


_CONTINUED = bytes(range(0x80, 0x100))
_PIECE = 2**16


def _varint_count(part: Field) -> int:
    """Return how many numbers are packed into the bytes: as many as there are bytes that end one."""
    if isinstance(part, int):
        return 1
    pieces = (part[start : start + _PIECE] for start in range(0, len(part), _PIECE))
    return sum(len(bytes(piece).translate(None, _CONTINUED)) for piece in pieces)


def _half(bits: int) -> float:
    return float(struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0])
