"""A network of a few thousand weights that behaves like a large one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from blendmask_edge.labels import Labels
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import BackboneConfig, BasesConfig, HeadConfig, InputConfig, ModelConfig

TINY = ModelConfig(
    "TINY",
    num_classes=3,
    backbone=BackboneConfig(depth=26, norm="BN", frozen_stages=1, stem_width=4, res2_width=8, bottleneck_width=4),
    pyramid_width=16,
    head=HeadConfig(norm="BN", shared_convs=1, size_bounds=(32, 64)),
    bases=BasesConfig(width=8, convs=1, norm="BN"),
    attention_size=4,
    resolution=28,
    input=InputConfig(channels="rgb", mean=(127, 127, 127), std=(64, 64, 64), test_short=64, test_long=96),
)
DEEP = replace(TINY, name="TINY_DEEP", backbone=replace(TINY.backbone, depth=50))
"""The same with a ResNet-50, in which errors of rounding add up."""
LABELS = Labels(("cup", "plate", "fork"), (2, 5, 9))


def tiny_model(config: ModelConfig = TINY, seed: int = 0) -> BlendMask:
    """A seeded network in evaluation mode whose statistics are not trivial and which finds something everywhere."""
    torch.manual_seed(seed)
    model = BlendMask(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
        head = model.proposal_generator.fcos_head
        for conv in (head.cls_logits, head.bbox_pred, model.top_layer):
            if conv is not None:
                conv.weight.normal_(0, 0.3)
        head.cls_logits.bias.fill_(-1)
        head.bbox_pred.bias.fill_(2)
    return model.eval()
