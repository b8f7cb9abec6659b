"""The entries of a file of COCO instances, converted from JSON, and messages that name them."""

from __future__ import annotations

import reprlib
from typing import Any, Dict, NoReturn, Tuple, Type, TypeVar, Union

import msgspec

from blendmask_edge.evaluation.coco_masks import Mask

LONGEST_SHOWN = 120
"""Characters of a value in a message."""


class Image(msgspec.Struct):
    """An entry under `images`."""

    id: int
    file_name: str
    height: int
    width: int


class Category(msgspec.Struct):
    """An entry under `categories`."""

    id: int
    name: str


class Annotation(msgspec.Struct):
    """An entry under `annotations`; what has a default follows from the other fields."""

    image_id: int
    category_id: int
    segmentation: Mask
    id: Union[int, msgspec.UnsetType, None] = msgspec.UNSET
    iscrowd: Union[int, bool, msgspec.UnsetType] = msgspec.UNSET
    bbox: Union[Tuple[float, float, float, float], msgspec.UnsetType, None] = msgspec.UNSET
    area: Union[float, msgspec.UnsetType, None] = msgspec.UNSET


class Fault(ValueError):
    """The fault, in half a sentence."""


Entry = TypeVar("Entry", Image, Category, Annotation)
_KINDS: Dict[Any, str] = {Image: "image", Category: "category", Annotation: "annotation"}


def entry_of(entry: Any, index: int, kind: Type[Entry]) -> Entry:
    """Return an entry of the list at `index` as its kind.

    Raises:
        Fault: it lacks a field, or holds one of another type.
    """
    try:
        return msgspec.convert(entry, kind)
    except (msgspec.ValidationError, OverflowError, UnicodeError) as error:
        refuse(kind, entry.get("id") if isinstance(entry, dict) else None, index, _field_fault(entry, str(error)))


def refuse(kind: Type[Any], number: Any, index: int, problem: str) -> NoReturn:
    """Raise what names an entry by its id and its place in the list."""
    number = None if number is msgspec.UNSET else number
    raise Fault(f"{_KINDS[kind]} {shortened(number)} (index {index}): {problem}")


def _field_fault(entry: Any, error: str) -> str:
    """Return a validation error of msgspec as field, finding and expectation."""
    problem, _, place = error.partition(" - at `$")
    field = place.strip("`.").partition(".")[0].partition("[")[0]
    segmentation = entry.get("segmentation") if isinstance(entry, dict) else None
    if field == "segmentation" and isinstance(segmentation, list) and not isinstance(segmentation[0], list):
        found = "is one flat list" if isinstance(segmentation[0], (int, float)) else f"is {shortened(segmentation)}"
        return f"`segmentation` {found}, expected a list of polygons [[x1, y1, x2, y2, ...]] or RLE"
    if field and field in entry:
        return f"`{field}`: {_plain(problem)}, found {shortened(entry[field])}"
    return _plain(problem)


def _plain(problem: str) -> str:
    """Return words of msgspec in those of JSON."""
    words = {"array": "list", "Object missing required field": "it lacks the field"}
    for old, new in words.items():
        problem = problem.replace(old, new)
    return problem[:1].lower() + problem[1:]


def shortened(value: Any) -> str:
    """Return a value as it stands in a message, cut."""
    if not isinstance(value, str):
        return reprlib.repr(value)
    return repr(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "...")


def as_dict(annotation: Annotation, number: int) -> Dict[str, Any]:
    """Return an annotation as pycocotools takes it, under another id; a box or an area of 0 is None."""
    mask = annotation.segmentation
    return {
        "id": number,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": mask if isinstance(mask, list) else {"size": list(mask.size), "counts": mask.counts},
        "iscrowd": int(annotation.iscrowd or 0),
        "bbox": list(annotation.bbox) if annotation.bbox else None,
        "area": annotation.area or None,
    }
