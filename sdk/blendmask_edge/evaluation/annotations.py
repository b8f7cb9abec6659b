"""COCO instance annotations: read them, and see before long work that they belong to the images."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from pycocotools.coco import COCO

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.coco_entries import shortened
from blendmask_edge.evaluation.coco_file import collection_paused, read_document
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.io import image_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.labels import Labels
    from blendmask_edge.storage.atomic import PathLike

_NAMED_CLASSES = 8


def read_coco(path: PathLike) -> COCO:
    """Read COCO instance annotations, checked in every field: see `coco_file.read_document`.

    Annotations are renumbered from 1; a missing `iscrowd` is 0, a `bbox` or `area` that is missing or 0 is that of the
    mask.

    Args:
        path: an instances JSON.

    Returns:
        The indexed annotations; nothing is printed.

    Raises:
        AnnotationError: the file cannot be read, or a field is missing, of a wrong type or out of range; the message
            names file, entry and field.
    """
    with collection_paused():
        return as_coco(read_document(path))


def as_coco(document: Dict[str, Any]) -> COCO:
    """Index COCO instances that are known to be sound, quietly."""
    coco = COCO()
    coco.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def image_ids(coco: COCO, images: PathLike, limit: Optional[int] = None) -> List[int]:
    """Return the ids of the annotated images in ascending order, the first `limit` of them.

    Raises:
        AnnotationError: an image is missing from the folder, or none of them shows an instance.
    """
    ids: List[int] = sorted(coco.getImgIds())[:limit]
    names = [coco.imgs[image_id]["file_name"] for image_id in ids]
    missing = [name for name in names if not is_file(Path(images) / name)]
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(names)} annotated images are not in {images}, e.g. "
            f"{shortened(missing[0])}. Give the folder that the annotations belong to."
        )
    _check_instances(coco, ids)
    return ids


def _check_instances(coco: COCO, ids: Sequence[int]) -> None:
    """See that average precision has something to be measured on."""
    if all(annotation["iscrowd"] for image_id in ids for annotation in coco.imgToAnns.get(image_id, ())):
        raise AnnotationError(
            f"none of the {len(ids)} images shows an instance (crowds do not count), so that no average precision can "
            "be measured: give annotations with instances, or more images"
        )


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that the system cannot take names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class AnnotatedImages:
    """Images of a folder with their annotations.

    coco: the annotations.
    folder: of the images.
    ids: which of them, in ascending order.
    """

    coco: COCO
    folder: Path
    ids: Sequence[int]

    @classmethod
    def open(
        cls, images: PathLike, annotations: PathLike, labels: Optional[Labels] = None, limit: Optional[int] = None
    ) -> AnnotatedImages:
        """Read annotations, and see that they fit the images, and that results of a model can be scored against them.

        Args:
            images: folder of the images.
            annotations: their instances JSON.
            labels: of the model; None leaves the check to a later `check_labels`.
            limit: the first images only.

        Raises:
            AnnotationError: as `read_coco`, `image_ids`, `check_sizes` and `check_categories`.
            ImageError: a file is not an image.
        """
        coco = read_coco(annotations)
        annotated = cls(coco, Path(images), image_ids(coco, images, limit))
        check_sizes(images, [coco.imgs[image_id] for image_id in annotated.ids])
        if labels is not None:
            annotated.check_labels(labels)
        return annotated

    @property
    def paths(self) -> List[Path]:
        """Path of each image."""
        return [self.folder / self.coco.imgs[image_id]["file_name"] for image_id in self.ids]

    def check_labels(self, labels: Labels) -> None:
        """See that results of a model with these labels can be scored; as `check_categories`."""
        shown = {
            annotation["category_id"] for image_id in self.ids for annotation in self.coco.imgToAnns.get(image_id, ())
        }
        check_categories({category: self.coco.cats[category]["name"] for category in shown}, labels)

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image, (H, W, 3) uint8 RGB.

        Raises:
            ImageError: it cannot be read.
            AnnotationError: it has another size than annotated.
        """
        entry = self.coco.imgs[image_id]
        image = read_image(self.folder / entry["file_name"])
        check_size(image, entry)
        return image


def check_categories(names: Mapping[int, str], labels: Labels) -> None:
    """See that a predictor has the categories that annotations use, and calls them the same.

    Args:
        names: by category id.
        labels: what the predictor's classes are called.

    Raises:
        AnnotationError: it has not.
    """
    known = dict(zip(labels.category_ids, labels.names))
    for category in sorted(names):
        _check_category(category, names[category], known)


def check_sizes(images: PathLike, entries: Sequence[Dict[str, Any]]) -> None:
    """See that images of a folder have the sizes that their entries under `images` state; all headers are compared.

    Raises:
        AnnotationError: one has not; where the EXIF orientation is the cause, the message says so.
        ImageError: a file is not an image.
    """
    paths = [(Path(images) / entry["file_name"], entry) for entry in entries]
    wrong = [(path, entry) for path, entry in paths if image_size(path) != (entry["height"], entry["width"])]
    if wrong:
        path, entry = wrong[0]
        _refuse_size(entry, image_size(path), image_size(path, "stored"), f"{len(wrong)} of {len(paths)} images: ")


def check_size(image: NDArray[np.uint8], entry: Dict[str, Any]) -> None:
    """See that an image (H, W, 3) has the size that its entry under `images` states.

    Raises:
        AnnotationError: it has not.
    """
    height, width = image.shape[:2]
    if (entry["height"], entry["width"]) != (height, width):
        _refuse_size(entry, (height, width), (height, width))


def _refuse_size(entry: Dict[str, Any], upright: Tuple[int, int], stored: Tuple[int, int], share: str = "") -> NoReturn:
    stated = entry["height"], entry["width"]
    reason = "give the images that the annotations were made on"
    if stated == stored:
        reason = (
            "its EXIF orientation turns it, and the annotations were made on the pixels as stored: "
            "annotate upright images, or remove the orientation from copies of the files"
        )
    elif stated == upright[::-1]:
        reason = (
            "the annotations were made on an image that is turned by 90 degrees, as when an EXIF orientation was lost "
            "from the file: " + reason
        )
    raise AnnotationError(
        f"{share}{entry['file_name']} is {upright[1]} x {upright[0]} pixels, annotated as {stated[1]} x {stated[0]}: "
        + reason
    )


def _check_category(category: int, name: str, known: Dict[int, str]) -> None:
    if known.get(category) == name:
        return
    if category in known:
        model = f"calls it {shortened(known[category])}"
    else:
        shown = ", ".join(map(str, sorted(known)[:_NAMED_CLASSES])) + ", ..." * (len(known) > _NAMED_CLASSES)
        model = f"knows the categories {shown}"
    raise AnnotationError(
        f"category {category} is {shortened(name)} in the annotations, the model {model}: "
        "give annotations of its classes"
    )
