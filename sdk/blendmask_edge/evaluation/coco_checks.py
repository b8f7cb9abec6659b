"""The values that each field of a COCO file may hold, and the entries that it may refer to."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Dict, List, Optional, Set

import msgspec

from blendmask_edge.evaluation.coco_entries import Annotation, Category, Image, refuse, shortened
from blendmask_edge.evaluation.coco_masks import masks_fault
from blendmask_edge.imaging.headers import MAX_PIXELS, MAX_SIDE

_MAX_ID = 2**63 - 1
_LONGEST_NAME = 256
_LONGEST_PATH = 4096


def check_images(images: List[Image]) -> None:
    """See that images have ids, paths and sizes, each its own id and path; bring paths to their shortest form.

    Raises:
        Fault: one does not.
    """
    seen: Set[int] = set()
    names: Set[str] = set()
    for index, image in enumerate(images):
        problem = _id_fault(image.id, seen) or _path_fault(image, names) or _size_fault(image)
        if problem:
            refuse(Image, image.id, index, problem)
        seen.add(image.id)
        names.add(image.file_name)


def _id_fault(number: int, seen: Set[int]) -> Optional[str]:
    if not -_MAX_ID <= number <= _MAX_ID:
        return f"`id` is {shortened(number)}, expected an integer of at most 64 bits"
    return "`id` is used twice, expected one of its own" if number in seen else None


def _path_fault(image: Image, names: Set[str]) -> Optional[str]:
    """Say why an image's name may not be joined to a folder, or is not its own; bring it to its shortest form."""
    shown = f"`file_name` is {shortened(image.file_name)}"
    if not _is_utf8(image.file_name):
        return f"{shown}, which is not UTF-8: rename the file"
    path = PurePosixPath(image.file_name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in image.file_name:
        return f"{shown}, expected a path inside the folder of the images"
    if len(image.file_name) > _LONGEST_PATH:
        return f"{shown}, expected at most {_LONGEST_PATH} characters"
    image.file_name = path.as_posix()
    return (
        f"{shown}, which is used twice: give all annotations of an image one id" if path.as_posix() in names else None
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _size_fault(image: Image) -> Optional[str]:
    for field, value in (("height", image.height), ("width", image.width)):
        if not 1 <= value <= MAX_SIDE:
            return f"`{field}` is {shortened(value)}, expected 1 to {MAX_SIDE} pixels"
    if image.height * image.width > MAX_PIXELS:
        return f"`height` x `width` is {image.height * image.width} pixels, expected at most {MAX_PIXELS}"
    return None


def check_categories(categories: List[Category]) -> None:
    """See that categories have ids and names, each its own.

    Raises:
        Fault: one does not.
    """
    ids: Set[int] = set()
    names: Set[str] = set()
    for index, category in enumerate(categories):
        problem = _id_fault(category.id, ids) or _name_fault(category.name, names)
        if problem:
            refuse(Category, category.id, index, problem)
        ids.add(category.id)
        names.add(category.name)


def _name_fault(name: str, names: Set[str]) -> Optional[str]:
    """Say why a category may not be called so; a bundle holds its name, and every table shows it."""
    if name in names:
        return f"`name` {shortened(name)} is used twice, expected one of its own"
    if not name.strip() or len(name) > _LONGEST_NAME or not _is_utf8(name) or not name.isprintable():
        return f"`name` is {shortened(name)}, expected 1 to {_LONGEST_NAME} printable characters"
    return None


def annotation_fault(annotation: Annotation, images: Dict[int, Image], categories: Set[int]) -> Optional[str]:
    """Say what is wrong with an annotation beside its mask; None if nothing is."""
    image = images.get(annotation.image_id)
    if image is None:
        return f"`image_id` is {shortened(annotation.image_id)}, expected the id of an image in the file"
    if annotation.category_id not in categories:
        return f"`category_id` is {shortened(annotation.category_id)}, expected the id of a category in the file"
    if annotation.iscrowd is not msgspec.UNSET and annotation.iscrowd not in (0, 1):
        return f"`iscrowd` is {shortened(annotation.iscrowd)}, expected 0 or 1"
    return _box_fault(annotation, image)


def _box_fault(annotation: Annotation, image: Image) -> Optional[str]:
    if annotation.bbox:
        x, y, width, height = annotation.bbox
        inside = -image.width <= x <= 2 * image.width and -image.height <= y <= 2 * image.height
        if not (inside and 0 <= width <= 3 * image.width and 0 <= height <= 3 * image.height):
            return (
                f"`bbox` is {shortened(list(annotation.bbox))}, expected [x, y, width, height] in pixels of an image "
                f"of {image.width} x {image.height}"
            )
    if annotation.area and not 0 <= annotation.area <= 9 * image.width * image.height:
        return f"`area` is {shortened(annotation.area)}, expected pixels of an image of {image.width} x {image.height}"
    return None


def check_masks(annotations: List[Annotation], start: int, images: Dict[int, Image]) -> None:
    """See that the masks of annotations that begin at an index of the file can be decoded.

    Raises:
        Fault: one cannot.
    """
    sizes = [(images[annotation.image_id].height, images[annotation.image_id].width) for annotation in annotations]
    fault = masks_fault([annotation.segmentation for annotation in annotations], sizes)
    if fault is not None:
        index, problem = fault
        refuse(Annotation, annotations[index].id, start + index, f"`segmentation` {problem}")
