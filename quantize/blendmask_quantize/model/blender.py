"""Blenders: bases pooled in a box become its mask (paper section 3.2, AdelaiDet `modeling/blendmask/blender.py`).

With r_k the pooled basis k of K, R x R, the mask logits are

- attention:     sum_k softmax_k(up(a))_k * r_k, with a the instance's (K, M, M) attention and up bilinear to R x R;
- weighted_sum:  the same with M = 1, so one weight a basis (the paper's analogy to YOLACT, table 1);
- assembler:     sum_k g_k * r_k, where g_k is 1 in location k of an M x M grid over the box and 0 elsewhere, K = M * M,
  so each basis is copied where it stands and there is no attention (the paper's analogy to FCIS, table 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import ModelConfig

ASSEMBLER = "assembler"
BLENDERS = ("attention", "weighted_sum", ASSEMBLER)


def attention_channels(config: ModelConfig) -> int:
    """Channels of the top layer: K * M * M, or 0 for a blender without attention.

    Raises:
        ConfigError: the blender is unknown, or does not fit the number of bases and M.
    """
    count, size = config.bases.count, config.attention_size
    if config.blender not in BLENDERS:
        raise ConfigError(f"unknown blender {config.blender!r}: use {', '.join(BLENDERS)}")
    if config.blender == "weighted_sum" and size != 1:
        raise ConfigError(f"the weighted sum has one weight a basis, found attention_size {size}: give 1")
    if config.blender != ASSEMBLER:
        return count * size**2
    if count != size**2:
        raise ConfigError(
            f"the assembler needs one basis a location of its grid, found {count} bases and attention_size {size}: "
            f"give {size**2} bases, or another attention_size"
        )
    return 0


def pool_bases(bases: Tensor, boxes: Tensor, image: Tensor, resolution: int = 56, scale: float = 0.25) -> Tensor:
    """Bases (P, K, R, R) inside P boxes: ROIAlign with half-pixel shift and one sample a bin.

    Args:
        bases: (N, K, h, w).
        boxes: (P, 4), x0 y0 x1 y1 in network input pixels.
        image: (P,) int64, which image each box belongs to.
        resolution: side R of the result.
        scale: locations of the bases per input pixel.
    """
    bases, boxes = bases.float() if bases.dtype != torch.float64 else bases, boxes.to(_at_least_float(bases))
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    return roi_align(bases, rois, resolution, scale, sampling_ratio=1, aligned=True)


def blend(pooled: Tensor, attention: Tensor, attention_size: int) -> Tensor:
    """Mask logits (P, R, R): the pooled bases, weighted and summed.

    Args:
        pooled: (P, K, R, R).
        attention: (P, K * M * M), the basis index slowest; (P, 0) for the assembler.
        attention_size: M.
    """
    return (pooled * weights(attention.to(pooled.dtype), attention_size, *pooled.shape[1:3])).sum(dim=1)


def weights(attention: Tensor, attention_size: int, count: int, resolution: int) -> Tensor:
    """Weight of each basis at each location of the mask, (P, K, R, R), or (1, K, R, R) where every instance has the
    same.

    Args:
        attention: (P, K * M * M), or (P, 0) for the assembler.
        attention_size: M.
        count: number of bases, K.
        resolution: side R of the result.
    """
    if attention.shape[1] == 0:
        return assembler_weights(count, resolution).to(attention)[None]
    maps = attention.unflatten(1, (count, attention_size, attention_size))
    maps = F.interpolate(maps, size=(resolution, resolution), mode="bilinear", align_corners=False)
    return maps.softmax(dim=1)


def assembler_weights(count: int, resolution: int) -> Tensor:
    """The fixed weights g (K, R, R) of the assembler: 1 in each basis' own location of a square grid, row-major.

    Args:
        count: number of bases, a square number.
        resolution: side R of the result.
    """
    side = math.isqrt(count)
    location = torch.arange(resolution) * side // resolution
    owner = location[:, None] * side + location[None, :]
    return (owner == torch.arange(count)[:, None, None]).float()


def _at_least_float(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
