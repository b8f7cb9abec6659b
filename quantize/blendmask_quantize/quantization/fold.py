"""Normalization folded into the convolutions before it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.fcos import PerLevel, Tower
from blendmask_quantize.model.layers import ConvNorm, FrozenBatchNorm2d, norm_affine

FOLDABLE = (nn.BatchNorm2d, FrozenBatchNorm2d)


def fold_norms(model: BlendMask) -> BlendMask:
    """A copy for inference in which every batch normalization is part of its convolution.

    Towers with one normalization a level get one convolution a level. Group normalization stays: its statistics are
    those of the image. The training-only semantic head is dropped.
    """
    folded = copy.deepcopy(model).eval()
    folded.basis_module.seg_head = None
    for module in list(folded.modules()):
        if isinstance(module, ConvNorm) and isinstance(module.norm, FOLDABLE):
            module.conv = fold(module.conv, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return folded.requires_grad_(False)


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """A convolution with bias that equals `conv` followed by `norm` with fixed statistics."""
    scale, shift = norm_affine(norm)
    folded = copy.deepcopy(conv)
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
    folded.bias = nn.Parameter(bias * scale + shift)
    return folded


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in range(len(sequence) - 1):
        conv, norm = sequence[index], sequence[index + 1]
        if not isinstance(conv, nn.Conv2d):
            continue
        if isinstance(norm, FOLDABLE):
            sequence[index], sequence[index + 1] = fold(conv, norm), nn.Identity()
        elif isinstance(sequence, Tower) and isinstance(norm, PerLevel):
            sequence[index] = PerLevel([fold(conv, level) for level in norm])
            sequence[index + 1] = nn.Identity()
