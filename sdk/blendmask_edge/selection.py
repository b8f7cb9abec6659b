"""What a call asks for: a part of the image, classes, a score."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, FrozenSet, Optional, Sequence, Tuple, Union

import numpy as np

from blendmask_edge.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances

Roi = Tuple[float, float, float, float]
"""Region of interest, x0 y0 x1 y1 in pixels of the image."""
Classes = Sequence[Union[str, int]]
"""Classes by name or by class id."""

_LEAST_TILE = 16


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


def check_threshold(value: Any, least: float = 0.0) -> float:
    """Return a score threshold as float.

    Args:
        value: a number from 0 to 1.
        least: threshold with which the graph runs.

    Raises:
        ConfigError: it is something else, or below `least`.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:  # type: ignore[operator]
        raise ConfigError(f"score_threshold is {value!r}, expected a number from 0 to 1.")
    if value < least:
        raise ConfigError(
            f"score_threshold is {value!r}, but the graph runs with {least:.3g} and computes no masks below that. "
            f"Open the predictor with MaskPredictor(..., score_threshold={value!r})."
        )
    return float(value)


def check_count(name: str, value: Any, most: int) -> None:
    """See that an argument is an integer from 1 to `most`.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= int(value) <= most:
        raise ConfigError(f"{name} is {value!r}, expected an integer from 1 to {most}.")


def check_share(name: str, value: Any, most: float) -> float:
    """Return an argument that is a number from 0 to `most`.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= most:
        raise ConfigError(f"{name} is {value!r}, expected a number from 0 to {most:g}.")
    return float(value)


def check_tile(value: Any, default: Tuple[int, int]) -> Tuple[int, int]:
    """Return height and width of a tile; `default` for None.

    Raises:
        ConfigError: it is not two integers from 16 on.
    """
    if value is None:
        return default
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    if not is_pair or not all(isinstance(side, Integral) and int(side) >= _LEAST_TILE for side in value):
        raise ConfigError(f"tile is {value!r}, expected (height, width) in pixels, each {_LEAST_TILE} or more.")
    return int(value[0]), int(value[1])


def check_roi(value: Any) -> Optional[Roi]:
    """Return a region of interest as four floats, or None.

    Raises:
        ConfigError: it is not four finite numbers with x0 < x1 and y0 < y1.
    """
    if value is None:
        return None
    try:
        x0, y0, x1, y1 = map(float, value)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = np.nan
    if not (np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1):
        raise ConfigError(f"roi is {value!r}, expected x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1.")
    return x0, y0, x1, y1


def check_classes(value: Any, names: Sequence[str]) -> Optional[FrozenSet[int]]:
    """Return class ids of names or ids, or None.

    Args:
        value: names or class ids, or None.
        names: those of all classes.

    Raises:
        ConfigError: it is not a list of them, or a class is unknown.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset, np.ndarray)):
        raise ConfigError(f'classes is {value!r}, expected a list of names or class ids, such as ["mug", 3].')
    return frozenset(_class_id(item, names) for item in value)


def _class_id(item: Any, names: Sequence[str]) -> int:
    if isinstance(item, str) and item in names:
        return list(names).index(item)
    if isinstance(item, Integral) and not isinstance(item, bool) and 0 <= int(item) < len(names):
        return int(item)
    shown = ", ".join(list(names)[:10]) + (", ..." if len(names) > 10 else "")
    raise ConfigError(
        f"classes holds {item!r}, expected names of the bundle ({shown}) or class ids 0 to {len(names) - 1}."
    )
