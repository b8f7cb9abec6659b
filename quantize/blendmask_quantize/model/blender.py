"""The blender: bases pooled in a box, weighted by attention (AdelaiDet `modeling/blendmask/blender.py`)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align


def pool_bases(bases: Tensor, boxes: Tensor, image: Tensor, resolution: int = 56, scale: float = 0.25) -> Tensor:
    """Bases (P, K, R, R) inside P boxes: ROIAlign with half-pixel shift and one sample a bin.

    Args:
        bases: (N, K, h, w).
        boxes: (P, 4), x0 y0 x1 y1 in network input pixels, unclipped.
        image: (P,) int64, which picture each box belongs to.
        resolution: side R of the result.
        scale: cells of the bases per input pixel.
    """
    bases, boxes = bases.float() if bases.dtype != torch.float64 else bases, boxes.to(_at_least_float(bases))
    rois = torch.cat([image[:, None].to(boxes.dtype), boxes], dim=1)
    return roi_align(bases, rois, resolution, scale, sampling_ratio=1, aligned=True)


def blend(pooled: Tensor, attention: Tensor, attention_size: int) -> Tensor:
    """Mask logits (P, R, R): attention resized to R, softmax over the bases, weighted sum (paper section 3.2).

    Args:
        pooled: (P, K, R, R).
        attention: (P, K * M * M), the basis index slowest.
        attention_size: M.
    """
    count, resolution = pooled.shape[1], pooled.shape[-1]
    maps = attention.to(pooled.dtype).unflatten(1, (count, attention_size, attention_size))
    maps = F.interpolate(maps, size=(resolution, resolution), mode="bilinear", align_corners=False)
    return (pooled * maps.softmax(dim=1)).sum(dim=1)


def _at_least_float(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
