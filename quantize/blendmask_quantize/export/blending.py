"""Mask logits from bases and boxes, in products that every runtime computes quickly."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.export.precision import as_dtype
from blendmask_quantize.model.blender import ASSEMBLER, assembler_weights
from blendmask_quantize.model.config import ModelConfig

_BASES_SCALE = 0.25


class Blending(nn.Module):
    """Pool the bases inside each box and add them up, by the attention of its instance or by the assembler's weights.

    Args:
        config: blender, number of bases, sizes of attention and masks.
    """

    stretch: Tensor
    basis_weights: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.resolution, self.attention_size = config.resolution, config.attention_size
        self.uses_attention = config.blender != ASSEMBLER
        if self.uses_attention:
            self.register_buffer("stretch", _stretch(config.attention_size, config.resolution))
        else:
            weights = assembler_weights(config.bases.count, config.resolution)
            self.register_buffer("basis_weights", weights[:, None])

    def forward(self, bases: Tensor, boxes: Tensor, attention: Tensor | None = None) -> Tensor:
        """Mask logits (N, R, R).

        Args:
            bases: (1, B, H, W), at a quarter of the network input, in the precision of the products.
            boxes: (N, 4) float32, x0 y0 x1 y1, network input pixels.
            attention: (N, B * M * M), in that precision; the assembler uses none.
        """
        pooled = self._pool(bases.flatten(0, 1), boxes)
        if attention is None:  # each location of a grid over the box is read from the basis that is its own
            return (pooled * as_dtype(self.basis_weights, pooled.dtype)).sum(dim=0)
        return self._blend(pooled, attention)

    def _blend(self, pooled: Tensor, attention: Tensor) -> Tensor:
        """Pooled bases (B, N, R, R), weighted by the softmax of the attention (N, B * M * M)."""
        side = self.attention_size
        maps = attention.unflatten(1, (-1, side, side)).transpose(0, 1)
        # The size is known, so that the interpolation is two products, quicker than resizing in every runtime.
        stretch = as_dtype(self.stretch, attention.dtype)
        weights = stretch[None, None] @ (maps @ stretch.T)
        # Softmax written out along the first axis: runtimes are slow where they find it along one that is not the last.
        weights = torch.exp(weights - weights.amax(dim=0))
        return (pooled * weights).sum(dim=0) / weights.sum(dim=0)

    def _pool(self, bases: Tensor, boxes: Tensor) -> Tensor:
        """Bases (B, H, W) inside N boxes, (B, N, R, R), one bilinear sample a bin, as ROIAlign takes it.

        The samples of a box form a grid along the axes, so sampling is one product along x and one along y, which every
        runtime does several times faster than GridSample; of all boxes and bases at once, the longer axis goes first.
        """
        _, height, width = bases.shape
        # OpenVINO does not take the product of a constant with a tensor of another rank.
        along_x = as_dtype(self._samples(boxes[:, 0::2], width), bases.dtype)[None]
        along_y = as_dtype(self._samples(boxes[:, 1::2], height), bases.dtype)[None]
        if width < height:
            return (along_y.flatten(1, 2) @ bases).unflatten(1, along_y.shape[1:3]) @ along_x.transpose(2, 3)
        across = along_x.flatten(1, 2) @ bases.transpose(1, 2)
        return along_y @ across.unflatten(1, along_x.shape[1:3]).transpose(2, 3)

    def _samples(self, ends: Tensor, locations: int) -> Tensor:
        """Weights (K, R, locations) of the bases' locations in each bin of K boxes along one axis.

        Args:
            ends: (K, 2), where the boxes begin and end along the axis, network input pixels.
            locations: locations of the bases along the axis. A sample beyond the first or last center reads that
                location; one more than a location outside the map reads nothing.
        """
        resolution = self.resolution
        bins = (torch.arange(resolution) + 0.5) / resolution
        at = (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * bins) * _BASES_SCALE - 0.5
        distance = at.clamp(0, locations - 1)[:, :, None] - torch.arange(locations)
        inside = ((at >= -1) & (at <= locations)).float()
        return F.relu(1 - distance.abs()) * inside[:, :, None]


def _stretch(locations: int, target: int) -> Tensor:
    """Matrix (target, locations) that interpolates linearly along an axis, as `F.interpolate` does."""
    return F.interpolate(torch.eye(locations)[None], size=target, mode="linear", align_corners=False)[0].T.contiguous()
