"""Modulated deformable convolution (Zhu et al., Deformable ConvNets v2), as detectron2's `DeformBottleneck` uses it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import ConvNorm, make_norm

_TAPS = 9


def offset_conv(channels: int) -> nn.Conv2d:
    """The 3x3 convolution that says where a deformable one samples; it starts as zero, on the regular grid."""
    conv = nn.Conv2d(channels, 3 * _TAPS, 3, padding=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)

    def forward(self, input: Tensor, sampling: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve `input` (N, C, H, W).

        Args:
            input: features.
            sampling: (N, 27, H, W): for each tap the pair of offsets (dy, dx) in locations, 18 channels, then the
                logits of the 9 taps' weights.
        """
        offsets, weights = sampling.split((2 * _TAPS, _TAPS), dim=1)
        return deform_conv2d(input, offsets, self.weight, self.bias, padding=1, mask=weights.sigmoid())


class DeformableConvNorm(ConvNorm):
    """A deformable convolution and its normalization, keys `weight` and `norm.*`."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__(DeformableConv2d(channels), make_norm(norm, channels))

    def forward(self, x: Tensor, sampling: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve and normalize `x` (N, C, H, W), sampled at `sampling` (N, 27, H, W); no activation."""
        return self.norm(self.conv(x, sampling))


def count_flops(_input: Any, weight: Any, *_others: Any, out_shape: Any, **_options: Any) -> int:
    """Floating point operations of a deformable convolution without its sampling, from shapes."""
    return 2 * int(torch.Size(out_shape).numel() * torch.Size(weight[1:]).numel())


def refuse_deformable(config: ModelConfig, action: str) -> None:
    """Refuse to do `action`, e.g. "quantize to INT8", with a network that has deformable convolutions.

    Raises:
        ConfigError: it has some.
    """
    if config.backbone.deform_stages:
        stages = ", ".join(f"res{stage}" for stage in config.backbone.deform_stages)
        raise ConfigError(
            f"cannot {action} {config.name}: its backbone has deformable convolutions ({stages}), which sample at "
            "computed places and have no INT8 kernel. Use a configuration without them, such as R_101_3x; in float, "
            "`blendmask evaluate` and `blendmask visualize` take this one as it is"
        )
