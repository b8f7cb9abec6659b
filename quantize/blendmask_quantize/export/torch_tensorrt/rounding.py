"""Rounding to int8 and back as a function, which a compiler's operator may replace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Quantize = Callable[[Tensor, Tensor], Tensor]
"""From a tensor and its scale, () or (C,) along axis 0, to the tensor rounded to steps of int8 and back."""


def round_to_steps(x: Tensor, scale: Tensor) -> Tensor:
    """QuantizeLinear and DequantizeLinear: int8, zero point 0, ties to even."""
    step = scale.reshape(-1, *[1] * (x.ndim - 1)) if scale.ndim else scale
    return torch.clamp(torch.round(x / step), -128, 127) * step
