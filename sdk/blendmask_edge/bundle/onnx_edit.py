"""Change the nodes of an ONNX file and leave everything else as it is, without the onnx package.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Sequence, Tuple, Union

from blendmask_edge.bundle.protobuf import BYTES, VARINT, fields

_GRAPH = 7
_NODES, _SHAPES = 1, 13
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5
_INTEGER = 2
"""AttributeProto.AttributeType of one integer."""


@dataclass(frozen=True)
class EditedNode:
    """A node of the file with other inputs or outputs, by its place in the file."""

    number: int
    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class CastNode:
    """A new node that casts `source` to a type, by ONNX's number, as `target`."""

    source: str
    target: str
    dtype: int


def with_nodes(data: bytes, nodes: Iterable[Union[EditedNode, CastNode]]) -> bytes:
    """Return an ONNX file whose nodes are `nodes`, in this order; stated shapes of tensors between are dropped.

    Args:
        data: an ONNX file that `read_onnx_file` reads.
        nodes: nodes of the file, edited or not, and casts.
    """
    model: List[bytes] = []
    for number, wire, value in fields(memoryview(data)):
        content = _graph(value, nodes) if number == _GRAPH and isinstance(value, memoryview) else value
        model.append(_field(number, wire, content))
    return b"".join(model)


def _graph(data: memoryview, nodes: Iterable[Union[EditedNode, CastNode]]) -> bytes:
    parts = list(fields(data))
    old = [value for number, _, value in parts if number == _NODES and isinstance(value, memoryview)]
    others = [_field(*part) for part in parts if part[0] not in (_NODES, _SHAPES)]
    written = (_cast(node) if isinstance(node, CastNode) else _edited(old[node.number], node) for node in nodes)
    return b"".join([*(_field(_NODES, BYTES, node) for node in written), *others])


def _edited(data: memoryview, node: EditedNode) -> bytes:
    names = [(_INPUT, name) for name in node.inputs] + [(_OUTPUT, name) for name in node.outputs]
    rest = (_field(*part) for part in fields(data) if part[0] not in (_INPUT, _OUTPUT))
    return b"".join([*(_text(number, name) for number, name in names), *rest])


def _cast(node: CastNode) -> bytes:
    attribute = b"".join([_text(1, "to"), _field(3, VARINT, node.dtype), _field(20, VARINT, _INTEGER)])
    names: Tuple[Tuple[int, str], ...] = (
        (_INPUT, node.source), (_OUTPUT, node.target), (_NAME, node.target), (_OPERATOR, "Cast"),
    )  # fmt: skip
    return b"".join([*(_text(number, text) for number, text in names), _field(_ATTRIBUTE, BYTES, attribute)])


def _text(number: int, text: str) -> bytes:
    return _field(number, BYTES, text.encode())


def _field(number: int, wire: int, value: Union[int, bytes, memoryview]) -> bytes:
    key = _varint(number << 3 | wire)
    if isinstance(value, int):
        return key + _varint(value)
    return b"".join([key, _varint(len(value)) if wire == BYTES else b"", value])


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
