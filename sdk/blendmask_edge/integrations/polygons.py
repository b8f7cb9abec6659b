"""Instances from and to polygons with holes, for drawing tools, planners and geometry libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

import numpy as np

from blendmask_edge.arguments.values import is_number
from blendmask_edge.errors import ConfigError, InstancesError
from blendmask_edge.imaging.polygons import Polygon, fill, outline
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.labels import Labels

__all__ = ["Polygon", "from_polygons", "to_polygons"]


def to_polygons(instances: Instances, tolerance: float = 1.0) -> List[List[Polygon]]:
    """Return the outline of each mask.

    Args:
        instances: N instances.
        tolerance: how far in pixels the edge of a mask may be from its polygon; 0 keeps every corner.

    Returns:
        For each instance its connected parts, each with `exterior` and `holes` of (K, 2) int32 x y pixels.

    Raises:
        ConfigError: `tolerance` is not a number of 0 or more.
    """
    if not is_number(tolerance, 0):
        raise ConfigError(f"tolerance is {tolerance!r}, expected pixels, 0 or more.")
    return [outline(crop, tolerance) for crop in instances.crops()]


def from_polygons(
    polygons: Sequence[Sequence[Polygon]],
    class_ids: NDArray[np.int64],
    labels: Labels,
    image_size: Tuple[int, int],
    scores: Optional[NDArray[np.float32]] = None,
) -> Instances:
    """Return instances whose masks are filled polygons.

    Args:
        polygons: for each of N instances its connected parts.
        class_ids: (N,) int64, indices into `labels.names`.
        labels: names and category ids of the classes.
        image_size: height and width of the image in pixels.
        scores: (N,) float32; None takes 1.

    Returns:
        The instances, by descending score.

    Raises:
        InstancesError: a polygon is not one, or an array has another dtype or shape.
    """
    masks = np.zeros((len(polygons), *image_size), np.bool_)
    for row, parts in enumerate(polygons):
        if not all(isinstance(part, Polygon) for part in parts):
            raise InstancesError(f"polygons[{row}] holds something else than Polygon(exterior, holes).")
        masks[row] = fill(parts, image_size)
    count = len(masks)
    return Instances.from_masks(masks, np.ones(count, np.float32) if scores is None else scores, class_ids, labels)
