"""Quantization in torch that is the exported graph's, step for step: ONNX QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST_SCALE = 2.0**-24
"""The smallest positive number in half precision, in which a runtime may keep a scale."""
_BIAS_STEPS = 2**30
"""An int32 bias within this leaves room for the products of an 8-bit convolution."""


@dataclass(frozen=True)
class QuantizationParameters:
    """The integers that a tensor is rounded to: real = (integer - zero_point) * scale.

    Attributes:
        scale: step, positive.
        zero_point: the integer that means 0.
        low, high: the smallest and largest integer.
    """

    scale: float
    zero_point: int
    low: int
    high: int


def activation_qparams(low: float, high: float, variant: str) -> QuantizationParameters:
    """Quantization parameters of an activation for a calibrated range, per tensor.

    `cpu` uses uint8: 255 steps from a zero point of 0 where nothing is negative, else int8 shifted by 128.
    `tensorrt` uses int8 around 0, as its explicit quantization demands, so 127 steps where nothing is negative.

    Args:
        low, high: the range; low = 0 means that nothing is negative.
        variant: "cpu" or "tensorrt".
    """
    reach = max(-low, high)
    if variant == "tensorrt":
        return QuantizationParameters(max(reach / 127, SMALLEST_SCALE), 0, -128, 127)
    if low < 0:
        return QuantizationParameters(max(reach / 127, SMALLEST_SCALE), 128, 0, 255)
    return QuantizationParameters(max(high / 255, SMALLEST_SCALE), 0, 0, 255)


def weight_scales(weight: Tensor, bias: Tensor | None, input_high: float) -> Tensor:
    """Symmetric scale (C,) of each output channel of a convolution weight (C, C', kh, kw), the same for every variant.

    Args:
        weight: the float weight.
        bias: (C,), to be stored as int32 in steps of input times weight; a dead channel's scale is then wide enough for
            its bias.
        input_high: upper end of the input's range; the finest scale of any variant divides it into 255 steps.
    """
    scale = (weight.detach().flatten(1).abs().amax(dim=1) / 127).clamp(min=SMALLEST_SCALE)
    if bias is None:
        return scale
    smallest_step = max(input_high / 255, SMALLEST_SCALE)
    return torch.maximum(scale, bias.detach().abs() / (smallest_step * _BIAS_STEPS))


@torch.library.custom_op("blendmask::quantize_dequantize", mutates_args=())
def quantize_dequantize(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:
    """Quantize `x` and dequantize it, ties to even."""
    step = torch.tensor(scale, dtype=torch.float32, device=x.device)
    return (x / step).round_().add_(zero_point).clamp_(low, high).sub_(zero_point).mul_(step)


@quantize_dequantize.register_fake
def _(x: Tensor, scale: float, zero_point: int, low: int, high: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(x)


@torch.library.custom_op("blendmask::dequantize_channels", mutates_args=())
def dequantize_channels(integers: Tensor, scale: Tensor) -> Tensor:
    """Real values of integers (C, ...) with one scale (C,) a channel and zero point 0."""
    return integers.to(scale.dtype) * scale.reshape(-1, *[1] * (integers.ndim - 1))


@dequantize_channels.register_fake
def _(integers: Tensor, scale: Tensor) -> Tensor:
    return torch.empty(integers.shape, dtype=scale.dtype, device=integers.device)


class ActivationQuantizer(nn.Module):
    """Quantizes a tensor with fixed parameters."""

    def __init__(self, qparams: QuantizationParameters) -> None:
        super().__init__()
        self.qparams = qparams

    def forward(self, x: Tensor) -> Tensor:
        """`x` quantized and dequantized, real values of the same shape."""
        qparams = self.qparams
        return quantize_dequantize(x, qparams.scale, qparams.zero_point, qparams.low, qparams.high)


class IntegerConv2d(nn.Module):
    """A convolution that holds its weight as int8, and its bias as int32 where the input's step is known.

    Args:
        conv: the float convolution; it is left as it is.
        weight_scale: (C,), see `weight_scales`.
        input_scale: step of the input; with it the bias is stored as int32 in steps of input times weight, as ONNX
            Runtime's integer convolution adds it. None keeps the bias float, as TensorRT demands.
    """

    weight_scale: Tensor
    integers: Tensor
    bias: Tensor
    bias_scale: Tensor

    def __init__(self, conv: nn.Conv2d, weight_scale: Tensor, input_scale: float | None) -> None:
        super().__init__()
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("integers", round_weight(conv.weight, weight_scale))
        bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        self.has_integer_bias = input_scale is not None
        if input_scale is not None:
            self.register_buffer("bias_scale", weight_scale * input_scale)
            self.register_buffer("bias", torch.round(bias / self.bias_scale).to(torch.int32))
        else:
            self.register_buffer("bias", bias.clone())
        self.conv = copy.deepcopy(conv)
        for name in ("weight", "bias"):
            self.conv.register_parameter(name, None)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (N, C, H, W)."""
        weight = dequantize_channels(self.integers, self.weight_scale)
        bias = dequantize_channels(self.bias, self.bias_scale) if self.has_integer_bias else self.bias
        return self.conv._conv_forward(x, weight, bias)


def round_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """A weight (C, ...) as int8 in -127..127, nearest, ties to even."""
    steps = weight.detach() / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return torch.clamp(torch.round(steps), -127, 127).to(torch.int8)
