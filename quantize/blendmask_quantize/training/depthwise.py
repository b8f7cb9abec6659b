"""Depthwise convolutions whose gradient is computed in float32 where a processor is slow at it in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.layers import SameConv2d


@contextmanager
def quick_depthwise(model: nn.Module) -> Iterator[None]:
    """Compute gradients of depthwise convolutions in float32 on a CPU under bfloat16 autocast, within the block.

    oneDNN takes about five times as long for them in bfloat16, which was more than half of a training step of a
    backbone of inverted residuals. The forward pass stays in bfloat16. Elsewhere nothing changes.

    Args:
        model: its depthwise convolutions are patched in place, and restored at the end.
    """
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    for conv in convs:
        conv.__dict__["_conv_forward"] = partial(_forward, conv)
    try:
        yield
    finally:
        for conv in convs:
            del conv.__dict__["_conv_forward"]


def _forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return type(conv)._conv_forward(conv, x, weight, bias)
    padded = F.pad(x, conv.pads) if isinstance(conv, SameConv2d) else x
    result: Tensor = _Depthwise.apply(padded, weight, bias, conv)
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
        low = torch.get_autocast_dtype("cpu")
        x = x.to(low)
        ctx.save_for_backward(x, weight)
        ctx.conv, ctx.has_bias = conv, bias is not None
        with torch.autocast("cpu", enabled=False):
            offset = bias.to(low) if bias is not None else None
            return F.conv2d(x, weight.to(low), offset, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        conv = ctx.conv
        mask = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
        with torch.autocast("cpu", enabled=False):
            of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
                gradients[0].float(), x.float(), weight.float(), [len(weight)] if ctx.has_bias else None, conv.stride,
                conv.padding, conv.dilation, False, [0, 0], conv.groups, mask,
            )  # fmt: skip
        return (of_x.to(x.dtype) if mask[0] else None), of_weight, of_bias, None
