"""Feature pyramid over three backbone stages, with extra levels (detectron2, AdelaiDet `modeling/backbone/fpn.py`)."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.backbones.registry import make_backbone
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import ConvNorm, conv_norm, xavier


class Features(NamedTuple):
    """Features of a batch from the backbone and the pyramid.

    Attributes:
        levels: of the pyramid, finest first, stride 8 and coarser.
        fine: the backbone's own, (N, C, H / 4, W / 4).
    """

    levels: tuple[Tensor, ...]
    fine: Tensor


class ExtraLevels(nn.Module):
    """P6 from P5, P7 from the rectified P6, each a 3x3 convolution of stride 2."""

    p6: ConvNorm
    p7: ConvNorm

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        for level in range(6, 6 + count):
            setattr(self, f"p{level}", xavier(conv_norm(width, width, 3, stride=2)))

    def forward(self, p5: Tensor) -> tuple[Tensor, ...]:
        """The extra levels for `p5` (N, C, H, W), finest first."""
        levels = [self.p6(p5)]
        if self.count == 2:
            levels.append(self.p7(F.relu(levels[0])))
        return tuple(levels)


class Backbone(nn.Module):
    """The backbone, lateral 1x1 and output 3x3 convolutions, top-down sum; keys `bottom_up`, `fpn_*`, `top_block`."""

    fpn_lateral3: ConvNorm
    fpn_lateral4: ConvNorm
    fpn_lateral5: ConvNorm
    fpn_output3: ConvNorm
    fpn_output4: ConvNorm
    fpn_output5: ConvNorm

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.bottom_up: Any = make_backbone(config.backbone)  # a BackboneModule
        widths = self.bottom_up.widths
        width = config.pyramid_width
        for level, channels in zip((3, 4, 5), widths[1:], strict=True):
            setattr(self, f"fpn_lateral{level}", xavier(conv_norm(channels, width, 1)))
            setattr(self, f"fpn_output{level}", xavier(conv_norm(width, width, 3)))
        self.top_block = ExtraLevels(width, config.extra_levels) if config.extra_levels else None

    def forward(self, x: Tensor) -> Features:
        """Features of a normalized image (N, 3, H, W)."""
        c2, c3, c4, c5 = self.bottom_up(x)
        m5 = self.fpn_lateral5(c5)
        m4 = self.fpn_lateral4(c4) + F.interpolate(m5, scale_factor=2.0, mode="nearest")
        m3 = self.fpn_lateral3(c3) + F.interpolate(m4, scale_factor=2.0, mode="nearest")
        p5 = self.fpn_output5(m5)
        extra = self.top_block(p5) if self.top_block is not None else ()
        return Features((self.fpn_output3(m3), self.fpn_output4(m4), p5, *extra), c2)
