"""A stand-in for the time of a layer that depends on no clock."""

from __future__ import annotations

import math

import onnx


def work(graph: bytes, _runtime: str, block: int = 1) -> float:
    """The multiply-accumulates of a layer, as if they took a millisecond a million; channels in whole blocks."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    weight = next(array for array in model.graph.initializer if array.name == "weight")
    result = model.graph.output[0].type.tensor_type.shape.dim
    outputs, inputs, *kernel = weight.dims
    height, width = (dim.dim_value or 1 for dim in result[1:3])
    channels = [math.ceil(count / block) * block for count in (outputs, inputs)]
    return 1e-6 * math.prod((*channels, *kernel, height, width))
