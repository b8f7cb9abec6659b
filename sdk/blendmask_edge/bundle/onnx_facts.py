"""Facts of an ONNX file for the preflight check, read from its protobuf fields without the onnx package.

Only the top-level graph is read: a deployable graph has no subgraphs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple

from blendmask_edge.bundle.protobuf import Field, fields, varint
from blendmask_edge.errors import BundleError

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}
_CODES = {"uint8": "B", "int8": "b", "int32": "i", "int64": "q"}
_UINT8 = 2
_STANDARD = ("", "ai.onnx")
_UNREADABLE = (ValueError, IndexError, KeyError, TypeError, struct.error, UnicodeDecodeError)

Message = Dict[int, List[Any]]


@dataclass(frozen=True)
class OnnxFacts:
    """Facts of one graph.

    opset: version of the standard operators.
    operators: how often each occurs; a ScatterND that reduces counts as "ScatterND(reduction)", a uint8 input of the
        graph as "Input(uint8)".
    uint8_readers: operators that take a uint8 input of the graph.
    custom: names of operators outside the ONNX standard.
    largest_top_k: the largest K of a TopK whose K is constant; None without one.
    zero_points: types and signs of the zero points of Q/DQ pairs: "int8", "uint8", "nonzero".
    int32_dequantized: whether a DequantizeLinear takes an INT32 tensor, as biases in ONNX Runtime's default.
    holds_half: whether a weight or scale is FP16.
    """

    opset: int
    operators: Mapping[str, int]
    uint8_readers: FrozenSet[str]
    custom: FrozenSet[str]
    largest_top_k: Optional[int]
    zero_points: FrozenSet[str]
    int32_dequantized: bool
    holds_half: bool


@dataclass(frozen=True)
class _Constant:
    """A tensor of the file; its values are decoded when they are asked for, since weights are large."""

    kind: str
    tensor: Message

    def values(self) -> Tuple[int, ...]:
        """Return the values of an integer tensor."""
        raw = self.tensor.get(9)
        if raw is None:
            return tuple(_packed(self.tensor.get(7 if self.kind == "int64" else 5, [])))
        code = _CODES[self.kind]
        return struct.unpack(f"<{len(raw[0]) // struct.calcsize(code)}{code}", raw[0])


@dataclass(frozen=True)
class _Node:
    operator: str
    domain: str
    inputs: Tuple[str, ...]
    attributes: Mapping[str, Message]


def read_onnx(data: bytes) -> OnnxFacts:
    """Read the facts of an ONNX file.

    Raises:
        BundleError: the bytes are not an ONNX model.
    """
    try:
        model = _parse(memoryview(data))
        graph = _parse(model[7][0])
        nodes = [_node(_parse(field)) for field in graph.get(1, [])]
        constants = dict(_constants(graph, nodes))
        return OnnxFacts(
            opset=_opset(model),
            operators=_count(graph, nodes),
            uint8_readers=frozenset(_readers(nodes, _uint8_inputs(graph))),
            custom=frozenset(node.operator for node in nodes if node.domain not in _STANDARD),
            largest_top_k=_largest_top_k(nodes, constants),
            zero_points=frozenset(_zero_points(nodes, constants)),
            int32_dequantized=any(_is_int32_dequantized(node, constants) for node in nodes),
            holds_half=any(constant.kind == "float16" for constant in constants.values()),
        )
    except _UNREADABLE as error:
        raise BundleError(f"The graph is not a valid ONNX file ({error}). Build the bundle again.") from error


def _opset(model: Message) -> int:
    for field in model[8]:
        entry = _parse(field)
        if _text(entry, 1) in _STANDARD:
            return int(entry[2][0])
    raise ValueError("it names no opset")


def _node(message: Message) -> _Node:
    attributes = [_parse(field) for field in message.get(5, [])]
    inputs = tuple(str(field, "utf-8") for field in message.get(1, []))
    named = {_text(attribute, 1): attribute for attribute in attributes}
    return _Node(_text(message, 4), _text(message, 7), inputs, named)


def _constants(graph: Message, nodes: List[_Node]) -> Iterator[Tuple[str, _Constant]]:
    for field in graph.get(5, []):
        tensor = _parse(field)
        yield _text(tensor, 8), _constant(tensor)
    for node, field in zip(nodes, graph.get(1, [])):
        if node.operator == "Constant" and 5 in node.attributes.get("value", {}):
            yield _text(_parse(field), 2), _constant(_parse(node.attributes["value"][5][0]))


def _constant(tensor: Message) -> _Constant:
    return _Constant(_TYPES.get(tensor.get(2, [0])[0], "other"), tensor)


def _packed(fields: List[Field]) -> Iterator[int]:
    for field in fields:
        if isinstance(field, int):
            yield field
            continue
        position = 0
        while position < len(field):
            value, position = varint(field, position)
            yield value


def _count(graph: Message, nodes: List[_Node]) -> Dict[str, int]:
    counts: Dict[str, int] = {}
    for name in [*map(_counted_name, nodes), *("Input(uint8)" for _ in _uint8_inputs(graph))]:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _counted_name(node: _Node) -> str:
    if node.operator == "ScatterND" and "reduction" in node.attributes:
        return "ScatterND(reduction)" if _text(node.attributes["reduction"], 4) != "none" else node.operator
    return node.operator


def _uint8_inputs(graph: Message) -> List[str]:
    inputs = [_parse(field) for field in graph.get(11, [])]
    return [_text(value, 1) for value in inputs if _element_type(value) == _UINT8]


def _element_type(value: Message) -> int:
    tensor = _parse(_parse(value[2][0])[1][0])
    return int(tensor[1][0])


def _readers(nodes: List[_Node], names: List[str]) -> Iterator[str]:
    return (node.operator for node in nodes if any(name in node.inputs for name in names))


def _largest_top_k(nodes: List[_Node], constants: Mapping[str, _Constant]) -> Optional[int]:
    counts = [constants[node.inputs[1]].values() for node in nodes if _has_constant(node, 1, constants, "TopK")]
    return max((value for values in counts for value in values), default=None)


def _zero_points(nodes: List[_Node], constants: Mapping[str, _Constant]) -> Iterator[str]:
    for node in nodes:
        for operator in ("QuantizeLinear", "DequantizeLinear"):
            if _has_constant(node, 2, constants, operator):
                constant = constants[node.inputs[2]]
                yield constant.kind
                if constant.kind in _CODES and any(constant.values()):
                    yield "nonzero"


def _is_int32_dequantized(node: _Node, constants: Mapping[str, _Constant]) -> bool:
    return _has_constant(node, 0, constants, "DequantizeLinear") and constants[node.inputs[0]].kind == "int32"


def _has_constant(node: _Node, place: int, constants: Mapping[str, _Constant], operator: str) -> bool:
    return node.operator == operator and len(node.inputs) > place and node.inputs[place] in constants


def _text(message: Message, number: int) -> str:
    return str(message[number][0], "utf-8") if number in message else ""


def _parse(data: memoryview) -> Message:
    """Split one protobuf message into its fields by number, nested ones unread."""
    message: Message = {}
    for number, value in fields(data):
        message.setdefault(number, []).append(value)
    return message
