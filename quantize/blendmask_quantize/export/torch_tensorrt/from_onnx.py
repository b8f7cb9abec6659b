"""A torch module from the ONNX of a bundle, for what starts from torch programs: Torch-TensorRT.

A bundle holds ONNX alone, so this is how its very graph, with the accuracy that was measured of it, takes that route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, numpy_helper
from torch import Tensor, nn

from blendmask_edge.errors import BundleError
from blendmask_quantize.export.torch_tensorrt.onnx_operators import OPERATORS
from blendmask_quantize.export.torch_tensorrt.rounding import Quantize, round_to_steps


class OnnxModule(nn.Module):
    """The graph of a bundle in torch: image, and threshold, in; boxes, scores, class ids, mask logits out.

    Args:
        graph: an ONNX file of the `tensorrt` or `float` variant.
        quantize: stands for each pair of QuantizeLinear and DequantizeLinear, and for the DequantizeLinear of each
            weight, which it gets as real values; called in graph order.

    Attributes:
        examples: zeros as each input takes them: uint8 (1, H, W, 3) and, in graphs that have it, float32 (1,).

    Raises:
        BundleError: the file is not ONNX, has an operator that the exporter never writes, or rounds to other than int8
            around 0.
    """

    def __init__(self, graph: bytes, quantize: Quantize = round_to_steps) -> None:
        super().__init__()
        try:
            read = onnx.load_from_string(graph).graph
        except Exception as error:  # protobuf's own errors are not part of its interface
            raise BundleError(f"the graph is not an ONNX file ({error}): build the bundle again") from error
        self._inputs = tuple(value.name for value in read.input)
        self.examples = tuple(map(_zeros, read.input))
        reader = _Reader(read, quantize)
        self._calls = tuple(reader.calls())
        self._outputs = tuple(value.name for value in read.output)
        self._buffer_names = {name: f"constant_{number}" for number, name in enumerate(reader.tensors)}
        for name, tensor in reader.tensors.items():
            self.register_buffer(self._buffer_names[name], tensor)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the graph for its inputs, in the order of the file."""
        values = {name: self.get_buffer(buffer) for name, buffer in self._buffer_names.items()}
        values.update(zip(self._inputs, inputs, strict=True))
        for call in self._calls:
            results = call.function(*[values[given] if isinstance(given, str) else given for given in call.inputs])
            values.update(zip(call.outputs, results if isinstance(results, tuple) else (results,), strict=True))
        return tuple(values[name] for name in self._outputs)


def _zeros(value: onnx.ValueInfoProto) -> Tensor:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return torch.from_numpy(np.zeros([side.dim_value for side in tensor.shape.dim], dtype))


@dataclass(frozen=True)
class _Call:
    """One operator: what it computes, from which values into which.

    Attributes:
        function: takes the inputs and returns a tensor, or a tuple of as many as `outputs`.
        inputs: names of values; None where one is left out; lists of numbers and single ones where they are known.
        outputs: names of values.
    """

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...]


class _Reader:
    """Turns nodes into calls; `tensors` gathers the constants that they read, by name."""

    def __init__(self, graph: onnx.GraphProto, quantize: Quantize) -> None:
        self.nodes, self.quantize = graph.node, quantize
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.rounded = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
        self.tensors: dict[str, Tensor] = {}

    def calls(self) -> Iterator[_Call]:
        for node in self.nodes:
            if node.op_type == "Cast" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.cast(node)
            elif node.op_type == "DequantizeLinear":
                yield self.rounding(node)
            elif node.op_type != "QuantizeLinear":
                yield self.call(node)

    def cast(self, node: NodeProto) -> Any:
        """A constant in another type, so that who reads it still reads a constant."""
        (to,) = (attribute.i for attribute in node.attribute if attribute.name == "to")
        return self.constants[node.input[0]].astype(onnx.helper.tensor_dtype_to_np_dtype(to))

    def rounding(self, node: NodeProto) -> _Call:
        """Rounding of an activation there and back, or of a stored weight."""
        before = self.rounded.get(node.input[0])
        if any(not self.is_symmetric(step) for step in (before, node) if step is not None):
            raise BundleError("the graph rounds to other than int8 around 0: take the tensorrt graph of the bundle")
        source = before.input[0] if before is not None else self.keep(node.output[0] + "/real", self.real_weight(node))
        scale = self.keep(node.input[1], self.constants[node.input[1]])
        return _Call(self.quantize, (source, scale), tuple(node.output))

    def is_symmetric(self, node: NodeProto) -> bool:
        zero = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        return zero is not None and zero.dtype == np.int8 and not zero.any()

    def real_weight(self, node: NodeProto) -> Any:
        integers, scale = self.constants[node.input[0]], self.constants[node.input[1]]
        return integers.astype(np.float32) * scale.reshape(-1, *[1] * (integers.ndim - 1))

    def call(self, node: NodeProto) -> _Call:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            raise BundleError(f"the graph has {node.op_type}, which no bundle of this version has: build it again")
        operator = OPERATORS[node.op_type]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = tuple(self.given(name, position in operator.known) for position, name in enumerate(node.input))
        return _Call(operator.bind(attributes), inputs, tuple(node.output))

    def given(self, name: str, is_known: bool) -> Any:
        """How a call gets an input: see `_Call.inputs`."""
        if not name:
            return None
        if name not in self.constants:
            return name
        constant = self.constants[name]
        return constant.tolist() if is_known else self.keep(name, constant)

    def keep(self, name: str, constant: Any) -> str:
        self.tensors.setdefault(name, torch.from_numpy(np.array(constant)))
        return name
