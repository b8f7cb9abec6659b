"""ONNX of the deployable graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import version_converter
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
)
from onnxscript import opset18, optimizer, rewriter
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.quantization import quantizer as _quantizer  # noqa: F401  registers the operators

OPSET = 17
"""The newest that TensorRT 8.6 reads, the last release for Pascal."""
_IR_VERSION = 8
"""The file format of that opset's time, so that runtimes of that time read it."""
_EXPORTER_OPSET = 18

_SHARED_ELEMENTS = 64
"""Up to this size, equal constants are one: shapes, axes and scales; larger ones are weights, and all different."""

_op: Any = opset18


def export_onnx(graph: DeployableGraph) -> onnx.ModelProto:
    """The graph in ONNX, opset 17, without external data.

    Args:
        graph: with a float or a rendered network.
    """
    program = _translate(graph)
    _tidy(program.model)
    model = version_converter.convert_version(program.model_proto, OPSET)
    _separate_zero_points(model.graph)
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    return model


def _translate(graph: DeployableGraph) -> Any:
    example = (torch.zeros((1, *graph.size, 3), dtype=torch.uint8), torch.zeros(1))
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.onnx.export(
            graph.eval(), example, dynamo=True, opset_version=_EXPORTER_OPSET, input_names=[INPUT_NAME, THRESHOLD_NAME],
            output_names=list(OUTPUT_NAMES), custom_translation_table=_TRANSLATIONS, optimize=False, verbose=False,
        )  # fmt: skip


def _tidy(model: ir.Model) -> None:
    """Fold constants and drop what is left over; the exporter's own clean-up tries many more rules, in vain."""
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    rewriter.rewrite(model, [fuse_pad_into_conv_rule])
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass(size_limit=_SHARED_ELEMENTS)(model)
    CommonSubexpressionEliminationPass()(model)
    optimizer.remove_unused_nodes(model)


def _separate_zero_points(graph: onnx.GraphProto) -> None:
    """Give each quantized weight a zero point of its own.

    ONNX Runtime converts weight and zero point for its exact kernels on x86 without VNNI, and fails at the second
    weight with the same zero point.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants or len(node.input) < 3:
            continue
        name = node.input[2]
        if name in used:
            own = onnx.TensorProto()
            own.CopyFrom(constants[name])
            own.name = node.input[2] = f"{node.input[0]}_zero_point"
            graph.initializer.append(own)
        used.add(name)


def _quantize_dequantize(x: Any, scale: float, zero_point: int, low: int, high: int) -> Any:  # noqa: ARG001
    integer = np.uint8 if low == 0 else np.int8
    step = _constant(np.array(scale, np.float32))
    zero = _constant(np.array(zero_point, integer))
    return _op.DequantizeLinear(_op.QuantizeLinear(x, step, zero), step, zero)


def _dequantize_channels(integers: Any, scale: Any) -> Any:
    """Weights get the zero points that older readers insist on; ONNX has none for int32."""
    if integers.dtype != ir.DataType.INT8:
        return _op.DequantizeLinear(integers, scale, axis=0)
    return _op.DequantizeLinear(integers, scale, _constant(np.zeros(integers.shape[0], np.int8)), axis=0)


def _index_select(x: Any, dim: int, index: Any) -> Any:
    """The exporter's own makes a vector of 64-bit integers of the index first, which it is."""
    return _op.Gather(x, index, axis=dim)


def _mean(x: Any, dim: list[int], keepdim: bool = False) -> Any:
    """The mean of an image. As ReduceMean, whose form changed with opset 18, it could not be written in 17."""
    assert keepdim
    assert sorted(axis % 4 for axis in dim) == [2, 3]
    return _op.GlobalAveragePool(x)


def _constant(value: Any) -> Any:
    return _op.Constant(value=ir.tensor(value))


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.blendmask.quantize_dequantize.default: _quantize_dequantize,
    torch.ops.blendmask.dequantize_channels.default: _dequantize_channels,
    torch.ops.aten.index_select.default: _index_select,
    torch.ops.aten.mean.dim: _mean,
}
