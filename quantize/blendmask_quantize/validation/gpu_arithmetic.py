"""A quantized graph rewritten so that ONNX Runtime computes it in the arithmetic that a GPU would use.

Documented for TensorRT: INT8 kernels add in INT32, scale in float32 and round to even after clipping; the value between
product and rounding is never half; what is not quantized is half, where FP16 is on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from blendmask_edge.runtimes.tensorrt.half import half_remainder

_EPILOGUE = {"Relu", "Clip", "Add", "Sub", "Mul"}
_ROUNDS = ("QuantizeLinear", "DequantizeLinear")


GRAPH_IN: dict[str, Callable[[bytes], bytes]] = {
    "reference": lambda graph: graph,
    "integer": lambda graph: integer_sums(graph, fold=False),
    "folded": lambda graph: integer_sums(graph, fold=True),
    "half": lambda graph: rounded_to_half(graph, inside_kernels=False),
    "folded-half": lambda graph: integer_sums(rounded_to_half(graph, inside_kernels=False), fold=True),
    "half-kernels": lambda graph: rounded_to_half(graph, inside_kernels=True),
    "half-remainder": lambda graph: emulated_half(half_remainder(graph)),
}
"""A `tensorrt` graph in each arithmetic, by name.

- `reference`: Q/DQ as written, in float32.
- `integer`: exact integer sums, scale and bias in float32.
- `folded`: the scale of the output multiplied in, as TensorRT fuses it.
- `half`: every float value outside INT8 kernels rounded to half.
- `folded-half`: both.
- `half-kernels`: half inside INT8 kernels, too, as for a kernel without an INT8 implementation.
- `half-remainder`: the graph that TensorRT 11 gets, with boxes and scores in float32.
"""


def integer_sums(graph: bytes, fold: bool) -> bytes:
    """The convolutions of dequantized tensors as exact sums of integers, scaled and biased in float32.

    Args:
        graph: with Q/DQ.
        fold: multiply the scale of the output into that of the sum where nothing but a ReLU lies between.
    """
    rewriter = _Rewriter(graph)
    for node in list(rewriter.model.graph.node):
        if rewriter.is_int8(node):
            rewriter.sum_integers(node, fold)
    return rewriter.bytes()


def rounded_to_half(graph: bytes, inside_kernels: bool) -> bytes:
    """Every float value rounded to half where it is made.

    Args:
        graph: with Q/DQ.
        inside_kernels: also between an INT8 convolution and the rounding of its result, and what it multiplies.
    """
    rewriter = _Rewriter(graph)
    inside = set() if inside_kernels else rewriter.inside_kernels()
    for node in list(rewriter.model.graph.node):
        if not inside_kernels and node.op_type in _ROUNDS:
            continue
        for place, name in enumerate(node.output):
            if name in rewriter.floats and name not in inside:
                rewriter.round_output(node, place)
    return rewriter.bytes()


def emulated_half(graph: bytes) -> bytes:
    """A graph with half layers as one of float layers whose results are rounded to half.

    ONNX Runtime has no half kernels for CPUs: it computes in float, and leaves out the roundings between.
    """
    model = onnx.load_from_string(graph)
    typed = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    halves = {entry.name for entry in typed if entry.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        made = [name for name in node.output if name in halves]
        if node.op_type == "Cast":
            source, target = node.input[0], node.output[0]
            to = node.attribute[0].i
            from_half = source in halves and to == TensorProto.FLOAT
            nodes += _rounded(source, target) if made else [helper.make_node("Identity", [source], [target])
                                                             if from_half else node]  # fmt: skip
            continue
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}/exact"
        nodes += [node, *(cast for name in made for cast in _rounded(f"{name}/exact", name))]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(copies)
    return bytes(model.SerializeToString())


def _rounded(source: str, target: str) -> list[onnx.NodeProto]:
    half = f"{target}/rounded"
    return [
        helper.make_node("Cast", [source], [half], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [target], to=TensorProto.FLOAT),
    ]


class _Rewriter:
    def __init__(self, graph: bytes) -> None:
        self.model = onnx.load_from_string(graph)
        typed = onnx.shape_inference.infer_shapes(self.model).graph
        self.floats = {e.name for e in typed.value_info if e.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._makers = {name: node for node in self.model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._arrays = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._instead: dict[str, list[onnx.NodeProto]] = {}

    def is_int8(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a convolution of dequantized tensors."""
        makers = [self._makers.get(name) for name in node.input[:2]]
        return node.op_type == "Conv" and all(m is not None and m.op_type == "DequantizeLinear" for m in makers)

    def inside_kernels(self) -> set[str]:
        """Tensors between an INT8 convolution and the rounding that its kernel ends in."""
        return {name for node in self.model.graph.node if node.op_type == _ROUNDS[0] for name in self._back(node)}

    def _back(self, rounding: onnx.NodeProto) -> Iterator[str]:
        waiting = [rounding.input[0]]
        while waiting:
            name = waiting.pop()
            maker = self._makers.get(name)
            if maker is None or any(reader.op_type not in (*_EPILOGUE, _ROUNDS[0]) for reader in self._readers[name]):
                continue
            if self.is_int8(maker):
                yield name
            elif maker.op_type in _EPILOGUE and len(self._readers[name]) == 1:
                yield name
                waiting += maker.input

    def sum_integers(self, node: onnx.NodeProto, fold: bool) -> None:
        """Replace a convolution; its output keeps its name."""
        (output,), data, weight = node.output, self._makers[node.input[0]], self._makers[node.input[1]]
        scales = self._array(data.input[1]) * self._array(weight.input[1]).reshape(-1).astype(np.float64)
        bias = self._array(node.input[2]).astype(np.float64) if len(node.input) > 2 else np.zeros(len(scales))
        rounding = self._rounding(output) if fold else None
        if rounding is not None:
            step = float(self._array(rounding.input[1]))
            scales, bias = scales / step, bias / step
            rounding.input[1] = self._constant(f"{output}/one", np.float32(1))
        sums, integers = f"{output}/sums", f"{output}/integers"
        weights = self._constant(f"{output}/weights", self._array(weight.input[0]).astype(np.float32))
        shape = (1, -1, 1, 1)
        scale = self._constant(f"{output}/scale", scales.astype(np.float32).reshape(shape))
        offset = self._constant(f"{output}/bias", bias.astype(np.float32).reshape(shape))
        convolution = onnx.NodeProto()
        convolution.CopyFrom(node)
        convolution.input[:], convolution.output[:] = [integers, weights], [sums]
        self._instead[output] = [
            helper.make_node("Cast", [data.input[0]], [integers], to=TensorProto.FLOAT),
            convolution,
            helper.make_node("Mul", [sums, scale], [f"{output}/scaled"]),
            helper.make_node("Add", [f"{output}/scaled", offset], [output]),
        ]

    def _rounding(self, name: str) -> onnx.NodeProto | None:
        readers = self._readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type == "Relu":
            readers = self._readers.get(readers[0].output[0], [])
        alone = len(readers) == 1 and readers[0].op_type == _ROUNDS[0]
        return readers[0] if alone else None

    def round_output(self, node: onnx.NodeProto, place: int) -> None:
        """Let all readers of an output read it rounded to half."""
        name = node.output[place]
        exact = f"{name}/exact"
        node.output[place] = exact
        self._after.setdefault(exact, []).extend(_rounded(exact, name))

    def bytes(self) -> bytes:
        """The changed graph."""
        nodes: list[onnx.NodeProto] = []
        for node in self.model.graph.node:
            nodes += self._instead.get(node.output[0], [node])
            nodes += [cast for name in node.output for cast in self._after.get(name, [])]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.model.graph.node[:], self.model.graph.value_info[:]
        self.model.graph.node.extend(copies)
        return bytes(self.model.SerializeToString())

    def _array(self, name: str) -> NDArray[Any]:
        return np.asarray(numpy_helper.to_array(self._arrays[name]))

    def _constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name
