"""Let what is not quantized run in FP16, by casts in the graph, where TensorRT takes all precisions from the graph.

TensorRT 11 has no FP16 flag: layers outside INT8 would run in FP32. The rounding, the weights, the ranges and the INT8
convolutions stay as they are. These stay in float32, too:

- `boxes` and `scores`, what leads to them from the convolution on that predicts them, or from the features that the
  product of boxes at the candidates reads, and what follows from boxes, such as overlaps: half has a step of 1 beyond
  1024 pixels, areas overflow it, and the order of candidates must stay;
- what leads to a QuantizeLinear, or follows an INT8 convolution as its activation, since TensorRT fuses it into INT8
  kernels.

All other matrix products, such as those of suppression and masks, run in half, and so do all other convolutions.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Union

from blendmask_edge.bundle.onnx_edit import CastNode, EditedNode, with_nodes
from blendmask_edge.bundle.onnx_file import FLOAT, FLOAT16, Node, OnnxFile, read_onnx_file

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PREDICTORS = _CONVOLUTIONS | {"Gemm"}
_PRODUCTS = _PREDICTORS | {"MatMul"}
_ACTIVATIONS = {"Relu", "Clip"}
_ROUNDS = {"QuantizeLinear", "DequantizeLinear"}
_NOT_FLOAT = {
    "QuantizeLinear", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not", "Shape",
    "ArgMax", "NonZero",
}  # fmt: skip
_EXACT_OUTPUTS = ("boxes", "scores")
_GEOMETRY = "boxes"
_PARAMETERS = {"Resize": (1, 2)}
"""Inputs that are float32 whatever the others are."""


def half_remainder(graph: bytes) -> bytes:
    """Return an ONNX file with casts to half around the layers that are not quantized.

    Inputs and outputs keep their names and types.

    Args:
        graph: an exported graph, quantized or float.

    Raises:
        BundleError: the bytes are not an ONNX file.
    """
    file = read_onnx_file(graph)
    tensors = _Tensors(file)
    return with_nodes(graph, _Writer(file, tensors, _in_half(file, tensors)).nodes())


class _Tensors:
    """Which tensors are float, who makes and who reads them."""

    def __init__(self, file: OnnxFile) -> None:
        self.floats: Set[str] = {tensor.name for tensor in file.constants if tensor.dtype == FLOAT}
        self.floats.update(entry.name for entry in file.inputs if entry.dtype == FLOAT)
        self.dequantized: Set[str] = set()
        self.makers: Dict[str, int] = {}
        self.readers: Dict[str, List[int]] = {}
        for number, node in enumerate(file.nodes):
            self.floats.update(name for place, name in enumerate(node.outputs) if self._is_float(node, place))
            self.makers.update(dict.fromkeys(node.outputs, number))
            if node.operator == "DequantizeLinear":
                self.dequantized.update(node.outputs)
            for name in node.inputs:
                self.readers.setdefault(name, []).append(number)

    def _is_float(self, node: Node, place: int) -> bool:
        if node.operator in _NOT_FLOAT or (node.operator == "TopK" and place):
            return False
        if node.operator == "Cast":
            return node.attributes.get("to") == FLOAT
        if node.operator == "DequantizeLinear":
            return True
        return node.inputs[1 if node.operator == "Where" else 0] in self.floats

    def float_inputs(self, node: Node) -> List[str]:
        """Return the inputs of a node whose precision follows that of the node."""
        fixed = _PARAMETERS.get(node.operator, ())
        return [name for place, name in enumerate(node.inputs) if name in self.floats and place not in fixed]


def _in_half(file: OnnxFile, tensors: _Tensors) -> Set[int]:
    """Return the numbers of the nodes that run in half."""
    exact = _leading_to(_EXACT_OUTPUTS, file, tensors, last=_PREDICTORS)
    exact |= _following(_leading_to([_GEOMETRY], file, tensors), file, tensors)
    exact |= _leading_to([n.inputs[0] for n in file.nodes if n.operator == "QuantizeLinear"], file, tensors)
    exact |= {n for n, node in enumerate(file.nodes) if _is_activation_of_int8(node, file, tensors)}
    half = {number for number, node in enumerate(file.nodes) if number not in exact and _computes(node, tensors)}
    for number in sorted(half, reverse=True):
        node = file.nodes[number]
        readers = [reader for name in node.outputs for reader in tensors.readers.get(name, ())]
        if node.operator not in _PRODUCTS and readers and half.isdisjoint(readers):
            half.discard(number)
    return half


def _computes(node: Node, tensors: _Tensors) -> bool:
    """Whether a node has a float precision of its own; INT8 products have that of their kernels."""
    is_rounding = node.operator in _ROUNDS or (node.operator == "Cast" and node.outputs[0] not in tensors.floats)
    is_float = bool(tensors.float_inputs(node)) or not tensors.floats.isdisjoint(node.outputs)
    return is_float and not is_rounding and not _is_int8(node, tensors)


def _is_int8(node: Node, tensors: _Tensors) -> bool:
    return node.operator in _PRODUCTS and tensors.dequantized.issuperset(node.inputs[:2])


def _is_activation_of_int8(node: Node, file: OnnxFile, tensors: _Tensors) -> bool:
    maker = tensors.makers.get(node.inputs[0]) if node.operator in _ACTIVATIONS else None
    return maker is not None and _is_int8(file.nodes[maker], tensors)


def _leading_to(
    names: Iterable[str], file: OnnxFile, tensors: _Tensors, last: FrozenSet[str] = frozenset()
) -> Set[int]:
    """Return the nodes whose float results lead to tensors, back to products and rounding.

    Products are left out, but for those of the operators `last`; of a Gemm, what leads to it belongs to it, too.
    """
    numbers: Set[int] = set()
    waiting = list(names)
    while waiting:
        number = tensors.makers.get(waiting.pop())
        if number is None or number in numbers:
            continue
        node = file.nodes[number]
        if node.operator in last:
            numbers.add(number)
        if node.operator in _PRODUCTS | _ROUNDS and not (node.operator == "Gemm" and node.operator in last):
            continue
        numbers.add(number)
        waiting += tensors.float_inputs(node)
    return numbers


def _following(numbers: Set[int], file: OnnxFile, tensors: _Tensors) -> Set[int]:
    """Return the nodes that compute on float results of nodes, up to products."""
    reached: Set[int] = set()
    waiting = [name for number in numbers for name in file.nodes[number].outputs if name in tensors.floats]
    while waiting:
        for number in tensors.readers.get(waiting.pop(), ()):
            node = file.nodes[number]
            if number not in reached and node.operator not in _PRODUCTS:
                reached.add(number)
                waiting += [name for name in node.outputs if name in tensors.floats]
    return reached


class _Writer:
    """Puts casts where a tensor is read in another precision than it is made in, each once."""

    def __init__(self, file: OnnxFile, tensors: _Tensors, half: Set[int]) -> None:
        self._file = file
        self._tensors = tensors
        self._half = half
        self._outputs = {entry.name for entry in file.outputs}
        self._names: Dict[str, Dict[int, str]] = {name: {FLOAT: name} for name in tensors.floats}
        self._written: List[Union[EditedNode, CastNode]] = []

    def nodes(self) -> Sequence[Union[EditedNode, CastNode]]:
        """Return all nodes in order."""
        for number, node in enumerate(self._file.nodes):
            self._write(number, node)
        return self._written

    def _write(self, number: int, node: Node) -> None:
        is_half = number in self._half
        if is_half and node.operator == "Cast":  # from a type that is not float
            target = self._half_name(node.outputs[0])
            self._written.append(CastNode(node.inputs[0], target, FLOAT16))
            self._note(node.outputs[0], target)
            return
        wanted: Optional[int] = FLOAT16 if is_half else FLOAT
        if node.operator == "Cast":
            wanted = None
        own = set(self._tensors.float_inputs(node))
        inputs = [self._as(name, wanted) if name in own else name for name in node.inputs]
        outputs = [self._half_name(name) if is_half and name in self._tensors.floats else name for name in node.outputs]
        self._written.append(EditedNode(number, inputs, outputs))
        for name, target in zip(node.outputs, outputs):
            if target != name:
                self._note(name, target)

    def _note(self, name: str, target: str) -> None:
        """Remember that a tensor is made in half; what the graph returns is cast back at once."""
        self._names[name] = {FLOAT16: target}
        if name in self._outputs:
            self._written.append(CastNode(target, name, FLOAT))
            self._names[name][FLOAT] = name

    def _as(self, name: str, dtype: Optional[int]) -> str:
        names = self._names[name]
        if dtype is None:
            return next(iter(names.values()))
        if dtype not in names:
            (source,) = names.values()
            names[dtype] = self._half_name(name) if dtype == FLOAT16 else name
            self._written.append(CastNode(source, names[dtype], dtype))
        return names[dtype]

    @staticmethod
    def _half_name(name: str) -> str:
        return f"{name}/half"
