"""The top layer at chosen locations only: exact against the dense convolution, at a fraction of its work."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def attention_at(top_layer: nn.Conv2d | None, tower: Tensor, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Attention vectors (P, K * M * M) at P locations of one level; (P, 0) without a top layer.

    Args:
        top_layer: the 3x3 convolution, stride 1, padding 1; None for a blender without attention.
        tower: its input, (N, C, h, w).
        image, y, x: (P,) int64, which image, row and column.
    """
    if top_layer is None:
        return tower.new_zeros((len(image), 0))
    padded = F.pad(tower, (1, 1, 1, 1))
    taps = torch.arange(3, device=tower.device)
    rows, columns = y[:, None, None] + taps[:, None], x[:, None, None] + taps
    patches = padded[image[:, None, None], :, rows, columns]
    weight = top_layer.weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(patches.flatten(1), weight, top_layer.bias)
