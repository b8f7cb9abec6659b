"""ProtoNet, the bottom module that predicts the bases (AdelaiDet `modeling/blendmask/basis_module.py`)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import conv_block


class ProtoNet(nn.Module):
    """P3, P4 and P5 refined and summed at stride 8, a tower, upsampling to stride 4, K bases without activation.

    Paper section 3.1, "bottom module"; the semantic head on P3 is an auxiliary loss of training only.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bases, width = config.bases, config.bases.width
        self.refine = nn.ModuleList(conv_block(config.pyramid_width, width, bases.norm) for _ in range(3))
        tower: list[nn.Module] = [conv_block(width, width, bases.norm) for _ in range(bases.convs)]
        tower += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
        tower += [conv_block(width, width, bases.norm), nn.Conv2d(width, bases.count, 1)]
        self.tower = nn.Sequential(*tower)
        self.seg_head = _semantic_head(config.pyramid_width, width, config.classes) if bases.semantic else None

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Bases (N, K, H / 4, W / 4) from the pyramid's three finest levels."""
        x = self.refine[0](features[0])
        for refine, feature, factor in zip(list(self.refine)[1:], features[1:3], (2.0, 4.0), strict=True):
            x = x + F.interpolate(refine(feature), scale_factor=factor, mode="bilinear", align_corners=False)
        return self.tower(x)

    def semantic(self, p3: Tensor) -> Tensor | None:
        """Semantic logits (N, classes + 1, H / 8, W / 8), background first; None without that head."""
        return self.seg_head(p3) if self.seg_head is not None else None


def _semantic_head(in_channels: int, width: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, classes + 1, 1))
