"""BlendMask: backbone and pyramid, FCOS head, bases, top layer (Chen et al., CVPR 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blendmask_quantize.model.blender import attention_channels
from blendmask_quantize.model.bottom_module import make_bottom_module
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.depth import drop_blocks
from blendmask_quantize.model.fcos import FCOSHead
from blendmask_quantize.model.layers import normal_
from blendmask_quantize.model.nms import suppression
from blendmask_quantize.model.pyramid import Backbone, Features
from blendmask_quantize.model.widths import apply_widths


class Predictions(NamedTuple):
    """Raw outputs of the network for a batch of N images; tuples hold one tensor a level, finest first.

    Attributes:
        logits: (N, classes, h, w).
        regression: (N, 4, h, w), left top right bottom after ReLU, in strides.
        centerness: (N, 1, h, w), logits.
        towers: (N, C, h, w), what the top layer, where there is one, reads.
        bases: (N, K, H / 4, W / 4).
        semantic: (N, classes + 1, H / 8, W / 8) in training, else None.
    """

    logits: tuple[Tensor, ...]
    regression: tuple[Tensor, ...]
    centerness: tuple[Tensor, ...]
    towers: tuple[Tensor, ...]
    bases: Tensor
    semantic: Tensor | None


class ProposalGenerator(nn.Module):
    """Holds the head under the reference's key prefix `proposal_generator.fcos_head`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fcos_head = FCOSHead(config)


class BlendMask(nn.Module):
    """The network, with the reference's state dict keys.

    Args:
        config: what to build.

    Attributes:
        top_layer: the convolution that gives an instance's attention; None for a blender without.

    Raises:
        ConfigError: the configuration names a part that is not built here, or its parts or its table of widths do not
            fit each other.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        suppression(config.inference.nms)
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = ProposalGenerator(config)
        self.basis_module = make_bottom_module(config, self.backbone.bottom_up.widths[0])
        self.top_layer = _top_layer(config)
        drop_blocks(self, config.dropped)
        apply_widths(self, config.widths)

    def forward(self, x: Tensor) -> Predictions:
        """Predict from a normalized batch (N, 3, H, W), sides multiples of the input divisor."""
        features = self.backbone(x)
        semantic = self.basis_module.semantic(features.levels[0]) if self.training else None
        return self.predictions(features)._replace(semantic=semantic)

    def predictions(self, features: Features) -> Predictions:
        """Predict from what the backbone makes of a batch, without semantic logits."""
        levels = self.proposal_generator.fcos_head(features.levels)
        logits, regression, centerness, towers = zip(*levels, strict=True)
        return Predictions(logits, regression, centerness, towers, self.basis_module(features), None)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Network input from RGB pixels (N, 3, H, W), 0..255, any dtype: channel order, mean and std of the config."""
        config = self.config.input
        dtype = self.proposal_generator.fcos_head.ctrness.weight.dtype
        ordered = pixels.flip(1) if config.channels == "bgr" else pixels
        mean = torch.tensor(config.mean, dtype=torch.float32).to(pixels.device, dtype)
        std = torch.tensor(config.std, dtype=torch.float32).to(pixels.device, dtype)
        return (ordered.to(dtype) - mean[:, None, None]) / std[:, None, None]


def every_output(model: BlendMask, x: Tensor) -> list[Tensor]:
    """Results of all layers that have weights, the semantic head and the dense top layer included.

    Args:
        x: a normalized batch (N, 3, H, W).
    """
    features = model.backbone(x)
    levels = model.proposal_generator.fcos_head(features.levels)
    outputs = [tensor for level in levels for tensor in level[:3]]
    if model.top_layer is not None:
        outputs += [model.top_layer(level.tower) for level in levels]
    semantic = model.basis_module.semantic(features.levels[0])
    return [*outputs, model.basis_module(features), *([semantic] if semantic is not None else [])]


def _top_layer(config: ModelConfig) -> nn.Conv2d | None:
    channels = attention_channels(config)
    if channels == 0:
        return None
    layer = nn.Conv2d(config.pyramid_width, channels, 3, padding=1)
    normal_(layer)
    return layer
