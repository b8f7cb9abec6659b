"""Targets of the losses: FCOS assignment of locations to instances, and mask targets per instance.

Follows ``adet/modeling/fcos/fcos_outputs.py`` and ``detectron2/structures/masks.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import roi_align

from blendmask_edge.errors import ConfigError

Polygons: TypeAlias = Sequence[npt.NDArray[np.floating]]
"""One instance: flat arrays x0 y0 x1 y1 ... in network input pixels."""

Masks: TypeAlias = Tensor | Sequence[Polygons]
"""The instances of one image: a 0/1 tensor (M, H, W), or M polygon lists."""

_SMALLEST_SIDE = 0.1  # pixels; keeps the polygon scale finite for boxes without width or height
_NO_UPPER_BOUND = 1e8


@dataclass(frozen=True)
class Targets:
    """Targets of T locations, in the order level, then image, then row-major.

    Attributes:
        labels: (T,) int64 contiguous class; background is the number of classes.
        level: (T,) int64, 0 is the finest level.
        image: (T,) int64 position in the batch.
        y, x: (T,) int64 location in its level.
        regression: (T, 4) float32 distances to the left, top, right and bottom side, in strides; 0 in the background.
        centerness: (T,) float32 in [0, 1]; 0 in the background.
        instance_index: (T,) int64, counting the instances of image 0, then of image 1 and so on; -1 in the background.
        positives: (P,) int64 rows that belong to an instance, ascending.
    """

    labels: Tensor
    level: Tensor
    image: Tensor
    y: Tensor
    x: Tensor
    regression: Tensor
    centerness: Tensor
    instance_index: Tensor
    positives: Tensor


@dataclass(frozen=True)
class InstanceTargets:
    """The O instances of a batch: those of image 0, then those of image 1 and so on.

    Attributes:
        boxes: (O, 4) float32 x0 y0 x1 y1, network input pixels.
        image: (O,) int64 position in the batch.
        masks: (O, R, R) bool, each instance's mask within its box.
    """

    boxes: Tensor
    image: Tensor
    masks: Tensor

    @classmethod
    def from_images(cls, boxes: Sequence[Tensor], masks: Sequence[Tensor]) -> InstanceTargets:
        """Join the boxes (M, 4) and mask targets (M, R, R) of at least one image into one numbering."""
        counts = torch.tensor([len(of_image) for of_image in boxes], device=boxes[0].device)
        image = torch.repeat_interleave(torch.arange(len(boxes), device=counts.device), counts)
        return cls(torch.cat(list(boxes)), image, torch.cat(list(masks)))


@dataclass(frozen=True)
class _Grid:
    """The L locations of one image, level by level."""

    level: Tensor
    y: Tensor
    x: Tensor
    center: Tensor  # (L, 2) float32 x y, pixels
    stride: Tensor  # (L, 1) float32
    shortest: Tensor  # (L, 1) float32, bounds of the longest side distance, pixels
    longest: Tensor  # (L, 1) float32


def assign(
    boxes: Sequence[Tensor],
    classes: Sequence[Tensor],
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    size_bounds: Sequence[float],
    num_classes: int,
    radius: float = 1.5,
) -> Targets:
    """Give every location of every level its class, box distances and centerness.

    A location belongs to an instance when it lies strictly inside the box and strictly within ``radius`` strides of its
    center, and its longest distance to a side fits the level (both ends inclusive). Of several instances the smallest
    box wins, the first among equals.

    Args:
        boxes: per image (M, 4) float32 x0 y0 x1 y1 in network input pixels; M may be 0.
        classes: per image (M,) int64 contiguous classes.
        level_sizes: (rows, columns) of each level, finest first.
        strides: pixels per location of each level.
        size_bounds: the limits between neighboring levels, such as (64, 128) for three levels, in pixels.
        num_classes: the label of the background.
        radius: size of the sampling region around the box center, in strides.

    Raises:
        ConfigError: the numbers of levels, strides and bounds disagree.
    """
    _check_levels(level_sizes, strides, size_bounds)
    grid = _grid(level_sizes, strides, size_bounds, boxes[0].device)
    matches = [_match(grid, of_image, radius) for of_image in boxes]
    firsts = np.cumsum([0, *map(len, boxes[:-1])]).tolist()
    numbered = [torch.where(index >= 0, index + first, -1) for (index, _), first in zip(matches, firsts, strict=True)]
    locations = [height * width for height, width in level_sizes]
    instance_index = _by_level(torch.stack(numbered), locations)
    regression = _by_level(torch.stack([distances for _, distances in matches]), locations)
    images = torch.arange(len(boxes), device=grid.x.device)[:, None].expand(-1, len(grid.x))
    level, y, x = (values.expand(len(boxes), -1) for values in (grid.level, grid.y, grid.x))
    # The background's index, -1, picks the last entry.
    label_of = torch.cat([*classes, classes[0].new_tensor([num_classes])])
    return Targets(
        labels=label_of[instance_index],
        level=_by_level(level, locations),
        image=_by_level(images, locations),
        y=_by_level(y, locations),
        x=_by_level(x, locations),
        regression=regression,
        centerness=centerness(regression),
        instance_index=instance_index,
        positives=torch.nonzero(instance_index >= 0).flatten(),
    )


def centerness(regression: Tensor) -> Tensor:
    """Return sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances (..., 4); 0 where all four are 0."""
    horizontal, vertical = regression[..., 0::2], regression[..., 1::2]
    ratio = (horizontal.amin(-1) / horizontal.amax(-1)) * (vertical.amin(-1) / vertical.amax(-1))
    return torch.where(regression.amax(-1) > 0, ratio, 0).sqrt()


def mask_targets(masks: Masks, boxes: Tensor, resolution: int = 56) -> Tensor:
    """Sample each instance's mask on a square grid over its box.

    Args:
        masks: M polygon lists, or a 0/1 tensor (M, H, W); network input pixels.
        boxes: (M, 4) float32 x0 y0 x1 y1 in network input pixels.
        resolution: R, samples per side.

    Returns:
        (M, R, R) bool on the device of ``boxes``.
    """
    if isinstance(masks, Tensor):
        return _crop_bitmaps(masks, boxes, resolution)
    target = torch.zeros((len(boxes), resolution, resolution), dtype=torch.bool)
    for row, (polygons, box) in enumerate(zip(masks, boxes.cpu().numpy(), strict=True)):
        target[row] = torch.from_numpy(_rasterise(polygons, box, resolution))
    return target.to(boxes.device)


def _check_levels(level_sizes: Sequence[tuple[int, int]], strides: Sequence[int], size_bounds: Sequence[float]) -> None:
    if not len(level_sizes) == len(strides) == len(size_bounds) + 1:
        raise ConfigError(
            f"found {len(level_sizes)} levels, {len(strides)} strides and {len(size_bounds)} size bounds; expected one "
            "stride a level and one bound between neighboring levels: correct the head's strides and size_bounds"
        )


def _grid(
    level_sizes: Sequence[tuple[int, int]], strides: Sequence[int], bounds: Sequence[float], device: torch.device
) -> _Grid:
    limits = pairwise([-1.0, *bounds, _NO_UPPER_BOUND])
    rows, locations = [], []
    for number, ((height, width), stride, limit) in enumerate(zip(level_sizes, strides, limits, strict=True)):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        locations.append(torch.stack([torch.full_like(y, number), y, x], dim=-1).reshape(-1, 3))
        rows.append(torch.tensor([[stride, *limit]], dtype=torch.float32).expand(height * width, -1))
    level_y_x, row = torch.cat(locations).to(device), torch.cat(rows).to(device)
    stride_of = row[:, :1]
    center = level_y_x[:, [2, 1]] * stride_of + (stride_of / 2).floor()
    level, y, x = level_y_x.unbind(dim=1)
    return _Grid(level, y, x, center, stride_of, row[:, 1:2], row[:, 2:])


def _match(grid: _Grid, boxes: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the instance of each location (L,), -1 for none, and its distances (L, 4) in strides, 0 for none."""
    if len(boxes) == 0:
        return torch.full_like(grid.x, -1), boxes.new_zeros((len(grid.x), 4))
    sides = _distances(grid.center, boxes[None])
    inside = _distances(grid.center, _sampling_regions(grid, boxes, radius)).amin(-1) > 0
    longest = sides.amax(-1)
    fits = inside & (longest >= grid.shortest) & (longest <= grid.longest)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    index = torch.where(fits, area, torch.inf).argmin(dim=1)
    matched = fits.any(dim=1)
    nearest = sides[torch.arange(len(index), device=index.device), index] / grid.stride
    return torch.where(matched, index, -1), torch.where(matched[:, None], nearest, 0)


def _distances(center: Tensor, boxes: Tensor) -> Tensor:
    """Left, top, right, bottom distances (L, M, 4) from points (L, 2) to boxes (1 or L, M, 4)."""
    point = center[:, None]
    return torch.cat([point - boxes[..., :2], boxes[..., 2:] - point], dim=-1)


def _sampling_regions(grid: _Grid, boxes: Tensor, radius: float) -> Tensor:
    """The part of each box near its center, (L, M, 4): its size depends on the stride of the location."""
    middle = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    reach = (grid.stride * radius)[..., None]
    return torch.cat([torch.maximum(middle - reach, boxes[:, :2]), torch.minimum(middle + reach, boxes[:, 2:])], dim=-1)


def _by_level(values: Tensor, locations: Sequence[int]) -> Tensor:
    """Reorder (N, L, ...) from image, level to level, image: (N * L, ...)."""
    return torch.cat([part.flatten(0, 1) for part in torch.split(values, list(locations), dim=1)])


def _crop_bitmaps(bitmaps: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    rows = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)[:, None]
    maps = bitmaps.to(device=boxes.device, dtype=boxes.dtype)[:, None]
    crops: Tensor = roi_align(maps, torch.cat([rows, boxes], dim=1), resolution, sampling_ratio=0, aligned=True)
    return crops[:, 0] >= 0.5


def _rasterise(polygons: Polygons, box: npt.NDArray[np.float32], resolution: int) -> npt.NDArray[np.bool_]:
    scale = resolution / np.maximum(box[2:] - box[:2], _SMALLEST_SIDE)
    shifted = [(np.asarray(polygon, np.float64).reshape(-1, 2) - box[:2]) * scale for polygon in polygons]
    parts = coco_mask.frPyObjects([points.ravel().tolist() for points in shifted], resolution, resolution)
    target: npt.NDArray[np.bool_] = coco_mask.decode(coco_mask.merge(parts)).astype(bool)
    return target
