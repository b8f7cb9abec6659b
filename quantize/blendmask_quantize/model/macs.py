"""Executed multiply-accumulates of one image: every convolution, and the top layer at the kept locations only."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blendmask_quantize.model.backbones.deformable import count_flops
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.input_size import padded_test_size

FLOP_FORMULAS = {torch.ops.torchvision.deform_conv2d: count_flops}
"""Operators that torch's counter does not know by itself."""

_TOP_LAYER = "top_layer"
_POINTWISE = (nn.BatchNorm2d, nn.GroupNorm, nn.ReLU)
"""Modules that neither multiply in a convolution nor change a shape."""


def count_macs(model: BlendMask, size: tuple[int, int] | None = None) -> int:
    """Multiply-accumulates of one image, without pooling, suppression and blending.

    Args:
        model: the network.
        size: height and width of its input; the padded test size of a 4:3 image if left out.
    """
    return sum(macs_by_layer(model, size).values())


@torch.no_grad()
def macs_by_layer(model: BlendMask, size: tuple[int, int] | None = None) -> dict[str, int]:
    """Multiply-accumulates of each convolution that runs at inference, by the name of its module.

    A convolution shared by the pyramid levels counts for all of them; the top layer counts at as many locations as the
    configuration keeps detections, as this package computes it (`model/attention.py`).
    """
    height, width = size or padded_test_size(model.config.input)
    hollow = _hollow(model)
    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        hollow(torch.empty((1, 3, height, width), device="meta"))
    counted = {name: sum(by_operator.values()) // 2 for name, by_operator in counter.get_flop_counts().items()}
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            # A convolution with frozen statistics is run by the module that holds both.
            holder = f"{type(model).__name__}.{name}"
            counts = counted.get(holder, counted.get(holder.rpartition(".")[0] if name.endswith(".conv") else holder))
            if counts:
                layers[name] = counts
    if model.top_layer is not None:
        layers[_TOP_LAYER] = model.config.inference.detections * model.top_layer.weight.numel()
    return layers


def _hollow(model: BlendMask) -> BlendMask:
    """Return a copy without values, and without pointwise modules, which take most of the time there."""
    hollow = copy.deepcopy(model).to("meta").eval()
    names = [name for name, module in hollow.named_modules() if isinstance(module, _POINTWISE)]
    for name in names:
        hollow.set_submodule(name, nn.Identity())
    return hollow
