"""The instances that a call selects: by region of the image, class and score."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, FrozenSet, Optional, Tuple

import numpy as np

from blendmask_edge.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.arguments.prediction import Roi
    from blendmask_edge.instances import Instances


@dataclass(frozen=True)
class Selection:
    """Instances that a call returns.

    score_threshold: least score.
    class_ids: class ids; None for all.
    roi: region that the network sees; None for the whole image.
    agnostic_nms: whether to suppress instances that overlap a higher-scoring one of any class.
    """

    score_threshold: float
    class_ids: Optional[FrozenSet[int]] = None
    roi: Optional[Roi] = None
    agnostic_nms: bool = False

    def crop(self, image: NDArray[np.uint8]) -> Tuple[NDArray[np.uint8], Tuple[int, int]]:
        """Return the region of an image that has been checked, and the pixel (x0, y0) of its top left corner.

        The region is extended to whole pixels and clipped to the image.

        Raises:
            ConfigError: the region lies outside the image.
        """
        if self.roi is None:
            return image, (0, 0)
        height, width = image.shape[:2]
        x0, y0 = (max(0, floor(value)) for value in self.roi[:2])
        x1, y1 = (min(side, ceil(value)) for side, value in zip((width, height), self.roi[2:]))
        if x0 >= x1 or y0 >= y1:
            raise ConfigError(
                f"roi is {self.roi}, which lies outside the image of {width} x {height} pixels (width x height). "
                "Give x0, y0, x1, y1 in pixels of the image."
            )
        return image[y0:y1, x0:x1], (x0, y0)

    def choose(self, instances: Instances) -> Instances:
        """Return the instances of the classes, without those that overlap a higher-scoring one where that is asked."""
        if self.class_ids is not None:
            instances = instances[np.isin(instances.class_ids, sorted(self.class_ids))]
        return instances.agnostic_nms() if self.agnostic_nms else instances
