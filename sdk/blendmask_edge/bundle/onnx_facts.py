"""Facts of an ONNX file for the preflight check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterator, Mapping, Optional, Sequence

from blendmask_edge.bundle.onnx_file import (
    FLOAT16,
    INT8,
    INT32,
    ITEM_BYTES,
    UINT8,
    Node,
    OnnxFile,
    Tensor,
    read_onnx_file,
)
from blendmask_edge.errors import BundleError

_ZERO_POINTS = {UINT8: "uint8", INT8: "int8", INT32: "int32"}


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
    weight_bytes: size of the tensors of the file.
    """

    opset: int
    operators: Mapping[str, int]
    uint8_readers: FrozenSet[str]
    custom: FrozenSet[str]
    largest_top_k: Optional[int]
    zero_points: FrozenSet[str]
    int32_dequantized: bool
    holds_half: bool
    weight_bytes: int


def read_onnx(data: bytes) -> OnnxFacts:
    """Read the facts of an ONNX file.

    Raises:
        BundleError: the bytes are not an ONNX model.
    """
    try:
        graph = read_onnx_file(data)
        if "" not in graph.opsets:
            raise BundleError("it names no opset")
        return _facts(graph)
    except BundleError as error:
        raise BundleError(f"The graph is not a valid ONNX file ({error}). Build the bundle again.") from error


def _facts(graph: OnnxFile) -> OnnxFacts:
    constants = _constants(graph)
    pixels = [entry.name for entry in graph.inputs if entry.dtype == UINT8]
    names = [*map(_counted_name, graph.nodes), *("Input(uint8)" for _ in pixels)]
    return OnnxFacts(
        opset=graph.opsets[""],
        operators=dict(Counter(names)),
        uint8_readers=frozenset(node.operator for node in graph.nodes if not set(pixels).isdisjoint(node.inputs)),
        custom=frozenset(node.operator for node in graph.nodes if node.domain),
        largest_top_k=_largest_top_k(graph.nodes, constants),
        zero_points=frozenset(_zero_points(graph.nodes, constants)),
        int32_dequantized=any(tensor.dtype == INT32 for tensor in _read(graph.nodes, 0, constants, "DequantizeLinear")),
        holds_half=any(tensor.dtype == FLOAT16 for tensor in constants.values()),
        weight_bytes=sum(tensor.count * ITEM_BYTES.get(tensor.dtype, 4) for tensor in constants.values()),
    )


def _constants(graph: OnnxFile) -> Dict[str, Tensor]:
    """Return the tensors of the file by name, those of Constant operators too."""
    tensors = {tensor.name: tensor for tensor in graph.constants}
    for node in graph.nodes:
        value = node.attributes.get("value")
        if node.operator == "Constant" and isinstance(value, Tensor) and node.outputs:
            tensors[node.outputs[0]] = value
    return tensors


def _counted_name(node: Node) -> str:
    if node.operator == "ScatterND" and node.attributes.get("reduction", b"none") != b"none":
        return "ScatterND(reduction)"
    return node.operator


def _largest_top_k(nodes: Sequence[Node], constants: Mapping[str, Tensor]) -> Optional[int]:
    counts = [tensor.values() for tensor in _read(nodes, 1, constants, "TopK")]
    return max((value for values in counts for value in values), default=None)


def _zero_points(nodes: Sequence[Node], constants: Mapping[str, Tensor]) -> Iterator[str]:
    for tensor in _read(nodes, 2, constants, "QuantizeLinear", "DequantizeLinear"):
        yield _ZERO_POINTS.get(tensor.dtype, "other")
        if tensor.dtype in _ZERO_POINTS and any(tensor.values()):
            yield "nonzero"


def _read(nodes: Sequence[Node], place: int, constants: Mapping[str, Tensor], *operators: str) -> Iterator[Tensor]:
    """Go through the constants that such operators read at a place."""
    for node in nodes:
        if node.operator in operators and len(node.inputs) > place and node.inputs[place] in constants:
            yield constants[node.inputs[place]]
