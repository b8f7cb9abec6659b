"""Measure the machine's limits: multiply-accumulates that a graph executes, and the rate of INT8 matrix products."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.lib.sessions import Arrays, RunGraph, open_graph

PRODUCTS = ((1024, 1024, 1024), (4096, 1024, 1024), (4096, 2304, 256))
"""Rows, depth and columns: two large squares, and a 3x3 convolution of 256 channels."""


def conv_macs(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each convolution of a graph, by the name of its node."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    stored = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name: math.prod(weights[stored.get(node.input[1], node.input[1])]) * math.prod(shapes[node.output[0]][2:])
        for node in model.graph.node
        if node.op_type == "Conv"
    }


def gemm_probes(runtime: str, threads: int) -> list[tuple[int, RunGraph, Arrays]]:
    """Products of uint8 with int8, rounded to uint8: multiply-accumulates, how to run each, and what to give it."""
    draw = np.random.default_rng(0)
    return [
        (
            rows * depth * columns,
            open_graph(runtime, _product(rows, depth, columns).SerializeToString(), threads),
            {"x": draw.integers(0, 256, (rows, depth), np.uint8)},
        )
        for rows, depth, columns in PRODUCTS
    ]


def gemm_rate(times: Mapping[int, list[float]]) -> float:
    """Multiply-accumulates a millisecond of the quickest product, by the medians of the times in milliseconds."""
    return max(macs / float(np.median(milliseconds)) for macs, milliseconds in times.items())


def timed(run: RunGraph, given: Arrays) -> float:
    """Milliseconds of one run."""
    start = time.perf_counter()
    run(given)
    return 1000 * (time.perf_counter() - start)


def _product(rows: int, depth: int, columns: int) -> onnx.ModelProto:
    draw = np.random.default_rng(1)
    constants = {
        "w": draw.integers(-127, 128, (depth, columns), np.int8),
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(0),
        "w_scale": np.full(columns, 0.01, np.float32),
        "w_zero": np.zeros(columns, np.int8),
        "y_scale": np.float32(3.0),
        "y_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_real"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_real"], axis=1),
        helper.make_node("MatMul", ["x_real", "w_real"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "y_scale", "y_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [rows, columns])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
