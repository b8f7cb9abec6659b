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


def needs_mask(annotation: Dict[str, Any], width: int, height: int) -> bool:
    """Whether a checked annotation lacks its box or its area, or has a box that may be of another form than COCO's.

    Args:
        annotation: its `bbox` and `area` may be None.
        width, height: of the image.
    """
    if annotation["bbox"] is None or not annotation["area"]:
        return True
    x, y, box_width, box_height = annotation["bbox"]
    return bool(x + box_width > width + 1 or y + box_height > height + 1 or min(box_width, box_height) <= 1)


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
    x, y, right, bottom = given
    scaled = [x * width, y * height, right * width, bottom * height]
    return [
        _Form("corners", [x, y, right - x, bottom - y]),
        _Form("shares of the image", scaled),
        _Form("corners as shares of the image", [*scaled[:2], scaled[2] - scaled[0], scaled[3] - scaled[1]]),
    ]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes x, y, width, height."""
    sides = [min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k]) for k in (0, 1)]
    if min(*sides, *one[2:], *other[2:]) <= 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
