"""COCO instance annotations: read them, and see before long work that they belong to the images."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from pycocotools.coco import COCO

from blendmask_edge.errors import AnnotationError
from blendmask_edge.imaging import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.instances import Labels
    from blendmask_edge.storage.atomic import PathLike

_KEYS = ("images", "annotations", "categories")
_SCORED = ("area", "bbox", "segmentation")
_SIZES_CHECKED = 16


def read_coco(path: PathLike) -> COCO:
    """Read an annotation file, quietly.

    Raises:
        AnnotationError: missing, not JSON, or without images, annotations and categories that refer to each other.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path} cannot be read as COCO annotations ({error}): give an instances JSON") from error
    missing = [key for key in _KEYS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise AnnotationError(f"{path} lacks {', '.join(missing)}: give COCO instance annotations")
    try:
        return as_coco(content)
    except (KeyError, TypeError) as error:
        raise AnnotationError(
            f"{path} has an image, annotation or category without the field {error}: give COCO instance annotations"
        ) from error


def as_coco(document: Dict[str, Any]) -> COCO:
    """Index COCO instances, quietly.

    Raises:
        KeyError: an image, annotation or category lacks a field, or refers to one that is not there.
        TypeError: one is no dictionary.
    """
    coco = COCO()
    coco.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    for entry in coco.imgs.values():
        entry["file_name"]
    for annotation in document["annotations"]:
        coco.imgs[annotation["image_id"]], coco.cats[annotation["category_id"]]["name"]
    return coco


def image_ids(coco: COCO, images: PathLike, limit: Optional[int] = None) -> List[int]:
    """Return the ids of the annotated images in ascending order, the first `limit` of them.

    Raises:
        AnnotationError: a image is missing from the folder, or none is annotated.
    """
    ids: List[int] = sorted(coco.getImgIds())[:limit]
    names = [coco.imgs[image_id]["file_name"] for image_id in ids]
    missing = [name for name in names if not (Path(images) / name).is_file()]
    if not ids:
        raise AnnotationError("no image is annotated: give the annotations of the images")
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(names)} annotated images are not in {images}, e.g. {missing[0]}: "
            "give the folder that the annotations belong to"
        )
    return ids


@dataclass(frozen=True)
class AnnotatedImages:
    """Images of a folder with their annotations; `ids` says which of them, in ascending order."""

    coco: COCO
    folder: Path
    ids: Sequence[int]

    @classmethod
    def open(cls, images: PathLike, annotations: PathLike, labels: Labels) -> AnnotatedImages:
        """Read annotations and see that results of a model with these labels can be scored against them.

        Raises:
            AnnotationError: as `read_coco`, `image_ids` and `check_match`.
        """
        coco = read_coco(annotations)
        ids = image_ids(coco, images)
        check_match(coco, images, ids, labels)
        return cls(coco, Path(images), ids)

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """Return a image, (H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read.
            AnnotationError: it has another size than annotated.
        """
        entry = self.coco.imgs[image_id]
        image = read_image(self.folder / entry["file_name"])
        check_size(image, entry)
        return image


def check_match(coco: COCO, images: PathLike, ids: Sequence[int], labels: Labels) -> None:
    """See that annotations can be scored against a predictor's results on these images.

    Of the sizes a few, evenly spread, are compared here; `check_size` does it for each image as it is read.

    Args:
        coco: the annotations.
        images: folder of the images.
        ids: which of them, as `image_ids` gives them.
        labels: what the predictor's classes are called.

    Raises:
        AnnotationError: an object without area, box or mask, a category that the predictor does not have or calls
            otherwise, or a image of another size than annotated.
    """
    known = dict(zip(labels.category_ids, labels.names))
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=list(ids))):
        _check_object(annotation, coco.cats, known)
    for image_id in ids[:: -(-len(ids) // _SIZES_CHECKED)]:
        entry = coco.imgs[image_id]
        check_size(read_image(Path(images) / entry["file_name"]), entry)


def check_size(image: NDArray[np.uint8], entry: Dict[str, Any]) -> None:
    """See that a image (H, W, 3) has the size that its entry under `images` states.

    Raises:
        AnnotationError: it has not.
    """
    height, width = image.shape[:2]
    stated = entry.get("height", height), entry.get("width", width)
    if stated != (height, width):
        raise AnnotationError(
            f"{entry['file_name']} is {width} x {height} pixels, annotated as {stated[1]} x {stated[0]}: "
            "give the images that the annotations were made on"
        )


def _check_object(annotation: Dict[str, Any], categories: Dict[int, Any], known: Dict[int, str]) -> None:
    lacking = [field for field in _SCORED if field not in annotation]
    if lacking:
        raise AnnotationError(
            f"annotation {annotation['id']} lacks {', '.join(lacking)}: give instance annotations with masks"
        )
    category = annotation["category_id"]
    name = categories[category]["name"]
    if known.get(category) != name:
        held = f"calls it {known[category]!r}" if category in known else f"knows {sorted(known)}"
        raise AnnotationError(
            f"category {category} is {name!r} in the annotations, the model {held}: give annotations of its classes"
        )
