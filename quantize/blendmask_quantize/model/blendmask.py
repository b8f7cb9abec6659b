"""BlendMask: trunk and pyramid, FCOS head, bases, top layer (Chen et al., CVPR 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blendmask_quantize.model.bases import ProtoNet
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.fcos import FCOSHead
from blendmask_quantize.model.layers import normal_
from blendmask_quantize.model.pyramid import Backbone
from blendmask_quantize.model.widths import apply_widths


class Predictions(NamedTuple):
    """Raw outputs of the network for a batch of N pictures; tuples hold one tensor a level, finest first.

    Attributes:
        logits: (N, classes, h, w).
        regression: (N, 4, h, w), left top right bottom after ReLU, in strides.
        centerness: (N, 1, h, w), logits.
        towers: (N, C, h, w), what the top layer reads.
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

    Raises:
        ConfigError: the configuration's table of widths does not fit the rest of it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.proposal_generator = ProposalGenerator(config)
        self.basis_module = ProtoNet(config)
        self.top_layer = nn.Conv2d(config.pyramid_width, config.bases.count * config.attention_size**2, 3, padding=1)
        normal_(self.top_layer)
        apply_widths(self, config.widths)

    def forward(self, x: Tensor) -> Predictions:
        """Predict from a normalised batch (N, 3, H, W), sides multiples of the input divisor."""
        features = self.backbone(x)
        levels = self.proposal_generator.fcos_head(features)
        semantic = self.basis_module.semantic(features[0]) if self.training else None
        logits, regression, centerness, towers = zip(*levels, strict=True)
        return Predictions(logits, regression, centerness, towers, self.basis_module(features), semantic)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Network input from RGB pixels (N, 3, H, W), 0..255, any dtype: channel order, mean and std of the config."""
        config = self.config.input
        dtype = self.top_layer.weight.dtype
        ordered = pixels.flip(1) if config.channels == "bgr" else pixels
        mean = torch.tensor(config.mean, dtype=torch.float32).to(pixels.device, dtype)
        std = torch.tensor(config.std, dtype=torch.float32).to(pixels.device, dtype)
        return (ordered.to(dtype) - mean[:, None, None]) / std[:, None, None]


def every_output(model: BlendMask, x: Tensor) -> list[Tensor]:
    """Results of all layers that have weights, the semantic head and the dense top layer included.

    Args:
        x: a normalised batch (N, 3, H, W).
    """
    features = model.backbone(x)
    levels = model.proposal_generator.fcos_head(features)
    outputs = [tensor for level in levels for tensor in level[:3]]
    outputs += [model.top_layer(level.tower) for level in levels]
    semantic = model.basis_module.semantic(features[0])
    return [*outputs, model.basis_module(features), *([semantic] if semantic is not None else [])]
