"""Rounding in torch is ONNX's, bit for bit; grids and weights are what each variant's runtimes demand."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.quantization.quantizer import (
    ActivationQuantizer,
    IntegerConv2d,
    QuantizationParameters,
    activation_qparams,
    dequantize_channels,
    round_weight,
    weight_scales,
)

HIGHS = st.floats(2.0**-14, 1e4, width=32)
GRIDS = st.builds(
    lambda high, signed, variant: activation_qparams(-high if signed else 0.0, high, variant),
    HIGHS,
    st.booleans(),
    st.sampled_from(["cpu", "tensorrt"]),
)


def q_dq(integer: int, opset: int = 17) -> onnx.ModelProto:
    """A graph that rounds `x` by `scale` and `zero_point`, an integer type of ONNX."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("zero_point", integer, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    graph = helper.make_graph(nodes, "rounding", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@functools.cache
def session(integer: int) -> ort.InferenceSession:
    return unoptimised_session(q_dq(integer).SerializeToString())


def feeds(qparams: QuantizationParameters, x: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    dtype = np.uint8 if qparams.low == 0 else np.int8
    return {"x": x, "scale": np.array(qparams.scale, np.float32), "zero_point": np.array(qparams.zero_point, dtype)}


def onnx_type(qparams: QuantizationParameters) -> int:
    return TensorProto.UINT8 if qparams.low == 0 else TensorProto.INT8


def rounded(qparams: QuantizationParameters, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return ActivationQuantizer(qparams)(torch.from_numpy(x)).numpy()


@given(GRIDS, arrays.arrays(np.float32, 40, elements=st.floats(-2.0, 2.0, width=32)))
def test_rounding_is_onnx_runtimes_bit_for_bit(qparams: QuantizationParameters, share: NDArray[np.float32]) -> None:
    x = share * np.float32(qparams.scale * 127)
    expected = session(onnx_type(qparams)).run(None, feeds(qparams, x))[0]
    np.testing.assert_array_equal(rounded(qparams, x), expected)


@given(GRIDS)
def test_ties_go_to_even_as_onnx_says(qparams: QuantizationParameters) -> None:
    x = (np.arange(-300, 301) / 2 * np.float32(qparams.scale)).astype(np.float32)
    expected = session(onnx_type(qparams)).run(None, feeds(qparams, x))[0]
    np.testing.assert_array_equal(rounded(qparams, x), expected)


@pytest.mark.parametrize(
    "qparams",
    [
        QuantizationParameters(0.5, 0, 0, 255),
        QuantizationParameters(0.5, 128, 0, 255),
        QuantizationParameters(0.5, 0, -128, 127),
    ],
)
def test_rounding_is_the_onnx_references(qparams: QuantizationParameters) -> None:
    x = np.linspace(-80, 150, 921, dtype=np.float32)
    (expected,) = ReferenceEvaluator(q_dq(onnx_type(qparams), opset=19)).run(None, feeds(qparams, x))
    np.testing.assert_array_equal(rounded(qparams, x), expected)


@given(HIGHS, arrays.arrays(np.float32, 40, elements=st.floats(-2.0, 2.0, width=32)))
def test_signed_activations_have_the_same_integers_in_both_variants(high: float, share: NDArray[np.float32]) -> None:
    cpu, tensorrt = (activation_qparams(-high, high, variant) for variant in ("cpu", "tensorrt"))
    assert cpu.scale == tensorrt.scale
    assert (cpu.low - cpu.zero_point, cpu.high - cpu.zero_point) == (tensorrt.low, tensorrt.high)
    np.testing.assert_array_equal(rounded(cpu, share * high), rounded(tensorrt, share * high))


@given(HIGHS)
def test_after_relu_cpu_has_255_steps_where_tensorrt_has_127(high: float) -> None:
    x = np.linspace(0, high, 2001, dtype=np.float32)
    steps = {
        variant: len(np.unique(rounded(activation_qparams(0, high, variant), x))) for variant in ("cpu", "tensorrt")
    }
    assert steps == {"cpu": 256, "tensorrt": 128}


@given(HIGHS, st.booleans())
def test_the_tensorrt_grid_is_symmetric_int8(high: float, signed: bool) -> None:
    qparams = activation_qparams(-high if signed else 0.0, high, "tensorrt")
    assert (qparams.zero_point, qparams.low, qparams.high) == (0, -128, 127)
    assert qparams.scale == pytest.approx(high / 127)


def test_a_tensor_that_is_always_zero_gets_a_step_that_half_precision_can_hold() -> None:
    assert np.float16(activation_qparams(0.0, 0.0, "cpu").scale) > 0
    assert np.all(weight_scales(torch.zeros(3, 2, 1, 1), None, 1.0).half().numpy() > 0)


def wide_weights(seed: int) -> Tensor:
    """Channels whose magnitudes span six orders, one of them dead."""
    weight = torch.randn((6, 4, 3, 3), generator=torch.Generator().manual_seed(seed))
    weight *= 10.0 ** torch.arange(-3, 3)[:, None, None, None]
    weight[2] = 0
    return weight


@given(st.integers(0, 1000))
def test_weights_are_symmetric_a_channel_and_fill_their_range(seed: int) -> None:
    weight = wide_weights(seed)
    scale = weight_scales(weight, None, 1.0)
    integers = round_weight(weight, scale)
    assert integers.dtype == torch.int8
    assert integers.int().abs().flatten(1).amax(1).tolist() == [127, 127, 0, 127, 127, 127]
    error = (dequantize_channels(integers, scale) - weight).abs() / scale[:, None, None, None]
    assert error.max() <= 0.5 + 1e-4


def test_weights_never_use_the_integer_without_a_mirror() -> None:
    scale = torch.tensor([1 / 150])
    assert round_weight(torch.tensor([[-1.0, 1.0]]), scale).tolist() == [[-127, 127]]


def conv_of(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # type: ignore[union-attr]
    return conv.requires_grad_(False)


@given(st.integers(0, 1000), st.floats(1e-5, 1.0))
def test_both_variants_hold_the_same_integers_and_nearly_the_same_bias(seed: int, step: float) -> None:
    weight, bias = wide_weights(seed), torch.randn(6, generator=torch.Generator().manual_seed(seed))
    conv = conv_of(weight, bias)
    scale = weight_scales(conv.weight, conv.bias, 255 * step / 2)
    cpu, tensorrt = IntegerConv2d(conv, scale, step), IntegerConv2d(conv, scale, None)
    assert torch.equal(cpu.integers, tensorrt.integers)
    assert tensorrt.bias.dtype == torch.float32
    assert torch.equal(tensorrt.bias, bias)
    assert cpu.bias.dtype == torch.int32
    error = (dequantize_channels(cpu.bias, cpu.bias_scale) - bias).abs()
    assert torch.all(error <= cpu.bias_scale / 2 + 1e-6 * bias.abs())


@given(st.floats(1e-7, 1.0), st.floats(-100.0, 100.0), st.sampled_from([0.0, 1e-12, 1e-7]))
def test_the_bias_of_a_dead_channel_survives(step: float, value: float, magnitude: float) -> None:
    conv = conv_of(torch.full((1, 2, 3, 3), magnitude), torch.tensor([value]))
    module = IntegerConv2d(conv, weight_scales(conv.weight, conv.bias, 255 * step), step)
    output = module(torch.zeros(1, 2, 4, 4))
    torch.testing.assert_close(output, torch.full_like(output, value), rtol=1e-5, atol=1e-6)


def test_an_integer_convolution_leaves_the_float_one_whole() -> None:
    conv = conv_of(wide_weights(0), torch.zeros(6))
    before = conv.weight.clone()
    module = IntegerConv2d(conv, weight_scales(conv.weight, None, 1.0), 0.1)
    assert torch.equal(conv.weight, before)
    assert "Conv2d" in repr(module)


def test_an_integer_convolution_is_a_convolution_with_rounded_weights() -> None:
    conv, x = conv_of(wide_weights(1), torch.randn(6)), torch.randn(1, 4, 8, 8)
    scale = weight_scales(conv.weight, None, 1.0)
    expected = nn.functional.conv2d(
        x, dequantize_channels(round_weight(conv.weight, scale), scale), conv.bias, padding=1
    )
    assert torch.equal(IntegerConv2d(conv, scale, None)(x), expected)
