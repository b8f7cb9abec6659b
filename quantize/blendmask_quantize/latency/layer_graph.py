"""The ONNX graph of one convolution, in the form that `export` gives it in the `cpu` graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from blendmask_quantize.latency.shapes import ConvShape

INPUT, OUTPUT = "x", "y"
_OPSET, _IR = 17, 8
_STEP, _WEIGHT_STEP = 0.02, 0.01
_TO_PLANES, _TO_PIXELS = (0, 3, 1, 2), (0, 2, 3, 1)


def layer_graph(shape: ConvShape) -> bytes:
    """Return a graph of one call: dequantize, convolve, ReLU, quantize; without quantizers where it stays float.

    Input and output lie channels last, as integer kernels want them, so that no change of layout is timed, which within
    a network neighbors share.

    Args:
        shape: of the call; weights are random.
    """
    pieces = _int8(shape) if shape.quantized else _float(shape)
    nodes, constants = pieces
    dtype = TensorProto.UINT8 if shape.quantized else TensorProto.FLOAT
    given = helper.make_tensor_value_info(INPUT, dtype, [1, shape.height, shape.width, shape.inputs])
    result = helper.make_tensor_value_info(OUTPUT, dtype, [1, None, None, shape.outputs])
    to_planes = helper.make_node("Transpose", [INPUT], ["planes"], perm=_TO_PLANES)
    to_pixels = helper.make_node("Transpose", ["result"], [OUTPUT], perm=_TO_PIXELS)
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([to_planes, *nodes, to_pixels], "layer", [given], [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def _int8(shape: ConvShape) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    channels = np.full(shape.outputs, _WEIGHT_STEP, np.float32)
    constants: dict[str, np.ndarray] = {
        "step": np.array(_STEP, np.float32), "zero": np.array(0, np.uint8), "weight_step": channels,
        "weight_zero": np.zeros(shape.outputs, np.int8), "bias_step": channels * np.float32(_STEP),
        "weight": rng.integers(-127, 128, _weight_size(shape)).astype(np.int8),
        "bias": rng.integers(-99, 99, shape.outputs).astype(np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["planes", "step", "zero"], ["real"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_step", "weight_zero"], ["real_weight"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias_step"], ["real_bias"], axis=0),
        _conv(shape, ["real", "real_weight", "real_bias"]),
        helper.make_node("Relu", ["sum"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "step", "zero"], ["result"]),
    ]
    return nodes, constants


def _float(shape: ConvShape) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    constants = {
        "weight": rng.normal(0, 0.1, _weight_size(shape)).astype(np.float32),
        "bias": np.zeros(shape.outputs, np.float32),
    }
    return [_conv(shape, ["planes", "weight", "bias"]), helper.make_node("Identity", ["sum"], ["result"])], constants


def _weight_size(shape: ConvShape) -> tuple[int, ...]:
    return (shape.outputs, 1 if shape.depthwise else shape.inputs, *shape.kernel)


def _conv(shape: ConvShape, inputs: list[str]) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", inputs, ["sum"], kernel_shape=shape.kernel, strides=shape.stride, dilations=shape.dilation,
        pads=shape.padding, group=shape.inputs if shape.depthwise else 1,
    )  # fmt: skip
