"""FCOS towers and predictions (AdelaiDet `modeling/fcos/fcos.py`; Tian et al., ICCV 2019)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import make_norm, normal_, prior_bias

_FINEST_STRIDE = 8
"""Stride of the first pyramid level, in pixels; each level doubles it."""


class PerLevel(nn.ModuleList):
    """One independent layer a pyramid level; the tower picks by level."""


class Tower(nn.Sequential):
    """Units of convolution, normalization and ReLU at indices 3u, 3u + 1, 3u + 2, shared over the levels."""

    def forward(self, x: Tensor, level: int) -> Tensor:  # type: ignore[override]
        """Run `x` (N, C, H, W) of pyramid level number `level`, 0 the finest."""
        for layer in self:
            x = layer[level](x) if isinstance(layer, PerLevel) else layer(x)
        return x


class LevelOutputs(NamedTuple):
    """Outputs of the head for one level: logits (N, classes, h, w), regression (N, 4, h, w) in strides, centerness
    logits (N, 1, h, w), and the tower (N, C, h, w) that the top layer reads."""

    logits: Tensor
    regression: Tensor
    centerness: Tensor
    tower: Tensor


def make_tower(width: int, convs: int, norm: str, levels: int) -> Tower:
    """A tower of `convs` units; BN kinds get one normalization for each of `levels`."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        conv = nn.Conv2d(width, width, 3, padding=1)
        normal_(conv)
        layers.append(conv)
        if norm in ("BN", "SyncBN"):
            layers.append(PerLevel([make_norm(norm, width) for _ in range(levels)]))  # type: ignore[misc]
        elif norm:
            layers.append(make_norm(norm, width))  # type: ignore[arg-type]
        layers.append(nn.ReLU())
    return Tower(*layers)


class FCOSHead(nn.Module):
    """Class logits from the class tower; boxes, centerness and attention from the box tower.

    Args:
        config: of the whole network.

    Raises:
        ConfigError: the levels do not fit the pyramid's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        _check_levels(config)
        head, width, levels = config.head, config.pyramid_width, len(config.head.strides)
        self.share_tower = make_tower(width, head.shared_convs, head.norm, levels)
        self.cls_tower = make_tower(width, head.class_convs, head.norm, levels)
        self.bbox_tower = make_tower(width, head.box_convs, head.norm, levels)
        self.cls_logits = nn.Conv2d(width, config.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(width, 1, 3, padding=1)
        for conv in (self.cls_logits, self.bbox_pred, self.ctrness):
            normal_(conv)
        nn.init.constant_(self.cls_logits.bias, prior_bias(head.prior))  # type: ignore[arg-type]

    def forward(self, features: tuple[Tensor, ...]) -> list[LevelOutputs]:
        """Outputs of every level, finest first, for pyramid levels (N, C, h, w)."""
        return [self.level(feature, level) for level, feature in enumerate(features)]

    def level(self, feature: Tensor, level: int) -> LevelOutputs:
        """Outputs of one level."""
        shared = self.share_tower(feature, level)
        class_tower = self.cls_tower(shared, level)
        box_tower = self.bbox_tower(shared, level)
        regression = F.relu(self.bbox_pred(box_tower))
        return LevelOutputs(self.cls_logits(class_tower), regression, self.ctrness(box_tower), box_tower)


def _check_levels(config: ModelConfig) -> None:
    levels, head = 3 + config.extra_levels, config.head
    if not len(head.strides) == len(head.size_bounds) + 1 == levels:
        raise ConfigError(
            f"{config.name} has {levels} pyramid levels, {len(head.strides)} strides and {len(head.size_bounds)} size "
            "bounds: give one stride a level and one bound between neighboring levels"
        )
    strides = tuple(_FINEST_STRIDE << level for level in range(levels))
    if tuple(head.strides) != strides:
        raise ConfigError(f"{config.name} states strides of {head.strides} for levels that have {strides}: give those")
    if any(low >= high for low, high in pairwise(head.size_bounds)):
        raise ConfigError(f"{config.name} has size bounds of {head.size_bounds}, expected each above the one before")
