"""Boxes and areas of COCO annotations: taken from the mask where they are missing, compared with it where they are odd.

pycocotools trusts them, so boxes in another form change box AP, and areas of 0 the AP by size, without a word.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

_SAME = 0.9
_OTHER = 0.5
"""Overlap with the box of the mask, from which two boxes are the same, and below which they are not."""


class _Form(NamedTuple):
    """A form that people write boxes in, beside COCO's."""

    name: str
    box: List[float]


def needs_mask(annotation: Dict[str, Any]) -> bool:
    """Whether a checked annotation lacks its box or its area, or has a box that may be of another form than COCO's.

    Polygons bound the box of their mask well enough to see that; of run lengths, all boxes are compared.

    Args:
        annotation: its `bbox` and `area` may be None.
    """
    if annotation["bbox"] is None or not annotation["area"]:
        return True
    polygons = annotation["segmentation"]
    return not isinstance(polygons, list) or _overlap(annotation["bbox"], _bounds(polygons)) < _OTHER


def _bounds(polygons: Sequence[Sequence[float]]) -> List[float]:
    """Return the box around polygons, x, y, width, height."""
    left = min(min(polygon[::2]) for polygon in polygons)
    top = min(min(polygon[1::2]) for polygon in polygons)
    right = max(max(polygon[::2]) for polygon in polygons)
    bottom = max(max(polygon[1::2]) for polygon in polygons)
    return [left, top, right - left, bottom - top]


def complete(annotation: Dict[str, Any], box: Sequence[float], area: float, width: int, height: int) -> Optional[str]:
    """Fill in a box and an area that are missing or 0; say what is wrong with a box that was given.

    Args:
        annotation: as for `needs_mask`; changed in place.
        box: of its mask, x, y, width, height.
        area: of its mask, pixels.
        width, height: of the image.

    Returns:
        What is wrong, in half a sentence; None if nothing is.
    """
    given = annotation["bbox"]
    annotation["area"] = annotation["area"] or area
    if given is None or min(given[2:]) <= 0:
        annotation["bbox"] = list(box)
        return None
    if _overlap(given, box) >= _OTHER:
        return None
    form = next((form for form in _forms(given, width, height) if _overlap(form.box, box) >= _SAME), None)
    return form and f"`bbox` is {given}, which are {form.name}, expected [x, y, width, height] in pixels"


def _forms(given: Sequence[float], width: int, height: int) -> List[_Form]:
    """Return what a box is if its numbers mean something else: centers, corners, rows first, or shares of the image."""
    x, y, right, bottom = given
    pixels, rows_first = [x, y, right, bottom], [y, x, bottom, right]
    shares = [x * width, y * height, right * width, bottom * height]
    shares_rows_first = [y * width, x * height, bottom * width, right * height]
    return [
        _Form("corners", _of_corners(pixels)),
        _Form("the center, width and height", _of_center(pixels)),
        _Form("corners, rows first", _of_corners(rows_first)),
        _Form("rows first", rows_first),
        _Form("shares of the image", shares),
        _Form("corners as shares of the image", _of_corners(shares)),
        _Form("the center, width and height as shares of the image", _of_center(shares)),
        _Form("corners as shares of the image, rows first", _of_corners(shares_rows_first)),
    ]


def _of_corners(box: Sequence[float]) -> List[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _of_center(box: Sequence[float]) -> List[float]:
    return [box[0] - box[2] / 2, box[1] - box[3] / 2, box[2], box[3]]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes x, y, width, height."""
    sides = [min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
    if min(*sides, *one[2:], *other[2:]) <= 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
