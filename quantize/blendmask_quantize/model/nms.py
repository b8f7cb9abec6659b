"""Class-wise non-maximum suppression (AdelaiDet `layers/ml_nms.py`)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Indices kept by greedy suppression within each class, by descending score.

    Boxes of different classes are moved apart by more than their common extent, in double precision, so that they never
    meet wherever they lie.

    Args:
        boxes: (P, 4), x0 y0 x1 y1.
        scores, classes: (P,).
        threshold: intersection over union above which the lower score is dropped; <= 0 keeps every box, unsorted.
    """
    if threshold <= 0 or len(boxes) == 0:
        return torch.arange(len(boxes), device=boxes.device)
    apart = boxes.double() - boxes.min().double()
    apart = apart + (classes.double() * (apart.max() + 1))[:, None]
    return nms(apart, scores.double(), threshold)
