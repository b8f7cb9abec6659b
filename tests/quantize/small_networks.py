"""Relatives of the tiny network, one for each thing that quantizing has to cope with, and numbers to feed them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from numpy.typing import NDArray
from torch import Tensor

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import BackboneConfig, BasesConfig, HeadConfig, LayerWidth, ModelConfig
from blendmask_quantize.model.layers import FrozenBatchNorm2d
from blendmask_quantize.model.widths import layer_widths
from tests.quantize.tiny import TINY, tiny_model


def thin_backbone(config: ModelConfig) -> ModelConfig:
    """The configuration with a quarter of the channels in its backbone."""
    with torch.device("meta"):
        widths = layer_widths(BlendMask(config))
    inside = [each for each in widths if each.layer.startswith("backbone.bottom_up.")]
    readers = [each for each in widths if "fpn_lateral" in each.layer or each.layer == "basis_module.fine.conv"]
    thinned = [LayerWidth(w.layer, w.inputs if w.inputs == 3 else w.inputs // 4, w.outputs // 4) for w in inside]
    return replace(config, widths=(*thinned, *(replace(w, inputs=w.inputs // 4) for w in readers)))


LITE = thin_backbone(
    replace(
        TINY,
        name="TINY_LITE",
        backbone=BackboneConfig(kind="lite0", norm="BN"),
        bases=replace(TINY.bases, fine=True),
    )
)
"""Inverted residuals, SAME padding, depthwise convolutions, ReLU6, bases that read features of stride 4."""

FIVE_LEVELS = replace(
    TINY,
    name="TINY_FIVE_LEVELS",
    pyramid_width=32,
    extra_levels=2,
    head=HeadConfig((8, 16, 32, 64, 128), (16, 32, 64, 128), shared_convs=0, class_convs=1, box_convs=1, norm="GN"),
    bases=BasesConfig(width=32, convs=1, norm="GN"),
)
"""P6 and P7, two towers, group normalization, a shared tower without normalizations of its own a level."""

FROZEN = replace(
    TINY,
    name="TINY_FROZEN",
    backbone=replace(TINY.backbone, norm="FrozenBN"),
    head=replace(TINY.head, norm="FrozenBN"),
    bases=replace(TINY.bases, norm="FrozenBN"),
    input=replace(TINY.input, channels="bgr", mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0)),
)
"""Frozen statistics everywhere, blue first."""

PLAIN = replace(
    TINY,
    name="TINY_PLAIN",
    backbone=replace(TINY.backbone, norm=""),
    head=replace(TINY.head, norm="", shared_convs=2),
    bases=replace(TINY.bases, norm=""),
)
"""No normalization at all; one tower of convolutions shared by the levels."""

DLA = replace(
    TINY,
    name="TINY_DLA",
    backbone=BackboneConfig(kind="dla34", norm="BN", frozen_stages=1, level_widths=(4, 4, 4, 8, 16, 24)),
)
"""Aggregation by concatenation, convolutions whose result is a shortcut and a child at once."""

DEFORMABLE = replace(
    TINY, name="TINY_DEFORMABLE", backbone=replace(TINY.backbone, deform_stages=(4, 5), deform_interval=2)
)
"""Deformable convolutions, which neither quantizing nor pruning takes."""

DEEPLAB = replace(TINY, name="TINY_DEEPLAB", bases=replace(TINY.bases, kind="deeplab", convs=2, low_level_width=4))
"""The other bottom module: atrous convolutions, the mean of the image."""

SMALL_NETWORKS = (TINY, LITE, FIVE_LEVELS, FROZEN, PLAIN, DLA, DEEPLAB)


def slow(*values: Any) -> list[ParameterSet]:
    """Parameters that are left to the slow suite."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


FEW_FAST = (TINY, LITE, DLA, *slow(FIVE_LEVELS, FROZEN, PLAIN, DEEPLAB))
"""All of them; for what hardly depends on the network, three in the fast suite."""

WEIGHTED_SUM = replace(TINY, name="TINY_WEIGHTED_SUM", blender="weighted_sum", attention_size=1)
"""One weight a basis."""

ASSEMBLER = replace(
    TINY, name="TINY_ASSEMBLER", blender="assembler", attention_size=3, bases=replace(TINY.bases, count=9)
)
"""No attention, and a grid whose side does not divide the mask's."""

CLIPPED = replace(TINY, name="TINY_CLIPPED", inference=replace(TINY.inference, clip_before_pooling=True))
"""Masks of the visible part of the boxes."""


def size_of(config: ModelConfig) -> tuple[int, int]:
    """A small input: five levels need more, and get one whose sides are no multiples of their coarsest strides."""
    return (96, 160) if config.extra_levels else (64, 96)


def small_network(config: ModelConfig, seed: int = 0) -> BlendMask:
    """As `tiny_model`, with frozen statistics that are not trivial either."""
    model = tiny_model(config, seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model


def image(seed: int, size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    """Colored patches, (1, H, W, 3): smooth enough that no two layers see the same thing everywhere."""
    patches = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return patches.repeat(8, axis=0).repeat(8, axis=1)[None]


def network_input(model: BlendMask, pixels: NDArray[np.uint8]) -> Tensor:
    """Normalized input (1, 3, H, W) from an image (1, H, W, 3)."""
    return model.normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2))
