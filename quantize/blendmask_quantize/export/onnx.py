"""ONNX of the deployable graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import version_converter
from onnxscript import opset18 as op
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule

from blendmask_edge.bundle.graph import INPUT_NAME, OUTPUT_NAMES
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.shrink import quantizer as _quantizer  # noqa: F401  registers the operators

OPSET = 17
"""The newest that TensorRT 8.6 reads, the last release for Pascal."""
_EXPORTER_OPSET = 18


def _quantize_dequantize(x: Any, scale: float, zero_point: int, low: int, high: int) -> Any:
    integer = np.uint8 if low == 0 else np.int8
    step = op.Constant(value=ir.tensor(np.array(scale, np.float32)))
    zero = op.Constant(value=ir.tensor(np.array(zero_point, integer)))
    return op.DequantizeLinear(op.QuantizeLinear(x, step, zero), step, zero)


def _dequantize_channels(integers: Any, scale: Any) -> Any:
    return op.DequantizeLinear(integers, scale, axis=0)


_TRANSLATIONS = {
    torch.ops.blendmask.quantize_dequantize.default: _quantize_dequantize,
    torch.ops.blendmask.dequantize_channels.default: _dequantize_channels,
}


def export_onnx(graph: DeployableGraph, size: tuple[int, int]) -> onnx.ModelProto:
    """The graph in ONNX, opset 17, without external data.

    Args:
        graph: with a float or a rendered network.
        size: height and width of the input.
    """
    example = torch.zeros((1, *size, 3), dtype=torch.uint8)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(), (example,), dynamo=True, opset_version=_EXPORTER_OPSET, input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES), custom_translation_table=_TRANSLATIONS, optimize=True, verbose=False,
        )  # fmt: skip
    rewriter.rewrite(program.model, [fuse_pad_into_conv_rule])
    model = version_converter.convert_version(program.model_proto, OPSET)
    onnx.checker.check_model(model)
    return model
