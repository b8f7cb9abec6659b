"""The deployable graph: one picture in; boxes, scores, class ids and mask logits out; plain operators only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.detect import decode, locations


@dataclass(frozen=True)
class Bounds:
    """Static sizes of the selection; up to them it equals the reference.

    Attributes:
        candidates: pairs of cell and class kept over all levels. More pairs above the threshold: the lowest are lost.
        rounds: passes of the suppression. Chains of boxes that each hide the next, longer than this, end undecided.
        detections: rows of the outputs, K.
    """

    candidates: int = 256
    rounds: int = 12
    detections: int = 100


class Outputs(NamedTuple):
    """Results of the graph, batch of one; rows by descending score, the empty ones last.

    Attributes:
        boxes: float32 (1, K, 4), x0 y0 x1 y1, network input pixels, unclipped.
        scores: float32 (1, K), 0 in empty rows.
        class_ids: int32 (1, K), -1 in empty rows.
        mask_logits: float32 (1, K, R, R).
    """

    boxes: Tensor
    scores: Tensor
    class_ids: Tensor
    mask_logits: Tensor


class Chosen(NamedTuple):
    """Rows of candidates or detections: score (C,), 0 where empty; class (C,); cell over all levels (C,); box (C, 4)."""

    score: Tensor
    class_id: Tensor
    cell: Tensor
    box: Tensor


class DeployableGraph(nn.Module):
    """Network and post-processing as one module that `torch.export` follows.

    Args:
        model: gives configuration and top layer.
        network: normalised picture to `Predictions`; the float network or a rendered one.
        size: height and width of the input, multiples of the input divisor.
        bounds: sizes of the selection.
    """

    def __init__(self, model: BlendMask, network: nn.Module, size: tuple[int, int], bounds: Bounds) -> None:
        super().__init__()
        self.config: ModelConfig = model.config
        self.network, self.bounds = network, bounds
        strides = self.config.head.strides
        self.sizes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
        weight = model.top_layer.weight.detach()
        self.register_buffer("top_weight", weight.flatten(1).clone())
        self.register_buffer("top_bias", _bias(model.top_layer))
        positions = [locations(h, w, s).float() for (h, w), s in zip(self.sizes, strides, strict=True)]
        steps = [torch.full((h * w, 1), float(s)) for (h, w), s in zip(self.sizes, strides, strict=True)]
        self.register_buffer("positions", torch.cat(positions))
        self.register_buffer("steps", torch.cat(steps))
        mean, std = torch.tensor(self.config.input.mean), torch.tensor(self.config.input.std)
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("inverse_std", 1 / std[:, None, None])

    def forward(self, image: Tensor) -> Outputs:
        """Results for `image`, uint8 (1, H, W, 3) RGB, resized and padded."""
        return self.finish(self.network(self.normalise(image)))

    def finish(self, predictions: Predictions) -> Outputs:
        """Results from raw predictions."""
        kept = self.suppress(self.select(predictions))
        attention = self.attention(predictions.towers, kept.cell)
        logits = self.blend(predictions.bases, kept.box, attention)
        empty = kept.score <= 0
        class_ids = torch.where(empty, torch.full_like(kept.class_id, -1), kept.class_id)
        return Outputs(kept.box[None], kept.score[None], class_ids[None].to(torch.int32), logits[None])

    def normalise(self, image: Tensor) -> Tensor:
        """Network input (1, 3, H, W) from uint8 (1, H, W, 3) RGB."""
        planes = image.permute(0, 3, 1, 2).float()
        ordered = planes[:, [2, 1, 0]] if self.config.input.channels == "bgr" else planes
        return (ordered - self.mean) * self.inverse_std

    def select(self, predictions: Predictions) -> Chosen:
        """The best pairs of cell and class over all levels.

        The best C pairs lie in the C cells with the best class each, so the rest is dropped before classes are
        compared.
        """
        logits = torch.cat([level[0].flatten(1) for level in predictions.logits], dim=1)
        centerness = torch.cat([level[0].flatten(1) for level in predictions.centerness], dim=1)[0].sigmoid()
        count = min(self.bounds.candidates, logits.shape[1])
        _, cells = torch.topk(logits.amax(dim=0).sigmoid() * centerness, count)
        products = logits.index_select(1, cells).sigmoid() * centerness.index_select(0, cells)
        product, pair = torch.topk(products.flatten(), self.bounds.candidates if products.numel() > count else count)
        cell = cells.index_select(0, pair % count)
        score = torch.where(product > self.config.inference.score_threshold, product.sqrt(), torch.zeros_like(product))
        regression = torch.cat([level[0].flatten(1) for level in predictions.regression], dim=1).index_select(1, cell)
        reach = regression.T * self.steps.index_select(0, cell)
        return Chosen(score, pair // count, cell, decode(self.positions.index_select(0, cell), reach, 1))

    def suppress(self, found: Chosen) -> Chosen:
        """Survivors of class-wise suppression: a fixed point that equals the greedy order once it stops changing."""
        overlaps = _overlap(found.box, self.config.inference.nms_threshold)
        same = found.class_id[:, None] == found.class_id[None, :]
        hides = torch.triu((overlaps & same).float(), diagonal=1)
        valid = (found.score > 0).float()
        keep = valid
        for _ in range(self.bounds.rounds):
            keep = valid * ((keep[None] @ hides)[0] < 0.5).float()
        count = min(self.bounds.detections, found.score.shape[0])
        score, row = torch.topk(found.score * keep, count)
        return Chosen(score, *(part.index_select(0, row) for part in found[1:]))

    def attention(self, towers: tuple[Tensor, ...], cell: Tensor) -> Tensor:
        """Attention vectors (K, bases * M * M) at the kept cells: gathered 3x3 patches, one product."""
        patches, first = 0.0, 0
        for tower, (height, width) in zip(towers, self.sizes, strict=True):
            patches = patches + self._patches(tower, cell - first, height, width)
            first += height * width
        return F.linear(patches, self.top_weight, self.top_bias)  # type: ignore[arg-type]

    def _patches(self, tower: Tensor, cell: Tensor, height: int, width: int) -> Tensor:
        """Patches (K, C * 9) of one level, zero past its border and for cells of other levels."""
        taps = torch.arange(9)
        y = (cell // width)[:, None] + (taps // 3 - 1)[None]
        x = (cell % width)[:, None] + (taps % 3 - 1)[None]
        mine = ((cell >= 0) & (cell < height * width))[:, None]
        inside = mine & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten()
        values = tower[0].flatten(1).index_select(1, index) * inside.flatten().float()
        return values.unflatten(1, (cell.shape[0], 9)).permute(1, 0, 2).flatten(1)

    def blend(self, bases: Tensor, boxes: Tensor, attention: Tensor) -> Tensor:
        """Mask logits (K, R, R): ROIAlign by grid sampling, weighted by the softmax of the attention."""
        resolution, size = self.config.resolution, self.config.attention_size
        maps = attention.unflatten(1, (bases.shape[1], size, size))
        maps = F.interpolate(maps, size=(resolution, resolution), mode="bilinear", align_corners=False)
        return (self._pool(bases, boxes) * maps.softmax(dim=1)).sum(dim=1)

    def _pool(self, bases: Tensor, boxes: Tensor) -> Tensor:
        """Bases (K, bases, R, R) inside the boxes, one sample a bin; 0 more than one cell outside the map.

        A sample at continuous position p of the map reads cell centres at p - 0.5, clamped to the border.
        """
        count, resolution = boxes.shape[0], self.config.resolution
        height, width = bases.shape[-2:]
        bins = (torch.arange(resolution) + 0.5) / resolution
        corners, sides = boxes[:, :2] * 0.25 - 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.25
        x = corners[:, :1] + sides[:, :1] * bins
        y = corners[:, 1:] + sides[:, 1:] * bins
        inside_x = ((x >= -1) & (x <= width)).float()
        inside_y = ((y >= -1) & (y <= height)).float()
        grid_x = ((2 * x + 1) / width - 1)[:, None, :].expand(count, resolution, resolution)
        grid_y = ((2 * y + 1) / height - 1)[:, :, None].expand(count, resolution, resolution)
        grid = torch.stack([grid_x, grid_y], dim=-1).reshape(1, count * resolution, resolution, 2)
        sampled = F.grid_sample(bases, grid, mode="bilinear", padding_mode="border", align_corners=False)
        pooled = sampled[0].unflatten(1, (count, resolution)).transpose(0, 1)
        return pooled * (inside_y[:, :, None] * inside_x[:, None, :])[:, None]


def _bias(conv: nn.Conv2d) -> Tensor:
    bias = conv.bias if conv.bias is not None else torch.zeros(conv.out_channels)
    return bias.detach().clone()


def _overlap(boxes: Tensor, threshold: float) -> Tensor:
    """Which pairs (C, C) have an intersection over union above the threshold, without dividing."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return shared > threshold * (area[:, None] + area[None, :] - shared)
