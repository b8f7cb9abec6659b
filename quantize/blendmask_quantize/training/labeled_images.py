"""Labeled images of a folder: what training needs of COCO annotations, read and checked once."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import check_categories, check_sizes
from blendmask_edge.evaluation.coco_file import OpenedDocument, collection_paused, open_document
from blendmask_edge.evaluation.coco_masks import compressed
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.class_names import coco_labels
from blendmask_quantize.training.packed import PackedRecords
from blendmask_quantize.training.sampling import EVEN, SamplingOptions

_CHUNK = 2**24
_NAMED = 6


class LabeledImage(msgspec.Struct, frozen=True, array_like=True):
    """One image and its instances.

    Attributes:
        file_name: within the folder.
        height, width: of the image, pixels.
        classes: contiguous class of each instance.
        crowds: whether it is a crowd.
        segmentations: its mask as COCO polygons or run lengths.
    """

    file_name: str
    height: int
    width: int
    classes: list[int]
    crowds: list[bool]
    segmentations: list[Any]

    def instance_classes(self) -> list[int]:
        """Classes of the instances that are not crowds."""
        return [class_id for class_id, crowd in zip(self.classes, self.crowds, strict=True) if not crowd]

    def masks(self) -> NDArray[np.bool_]:
        """Decode the masks, (n, height, width)."""
        if not self.segmentations:
            return np.zeros((0, self.height, self.width), bool)
        rles = [compressed(segmentation, self.height, self.width) for segmentation in self.segmentations]
        return np.asarray(rle_codec.decode(rles).transpose(2, 0, 1).astype(bool))


@dataclass(frozen=True)
class LabeledImages:
    """The images of a folder that are trained on.

    Attributes:
        folder: where they lie.
        annotations: the file that labels them.
        labels: its classes.
        records: an entry for each image.
        file_names: their names within the folder.
        presence: (images, classes) bool, whether an image shows an instance of a class.
        without: how many images of the file show no instance; kept or left out.
        digests: SHA-256 of the annotations, and of names and sizes of the image files.
    """

    folder: Path
    annotations: Path
    labels: Labels
    records: PackedRecords[LabeledImage]
    file_names: tuple[str, ...]
    presence: NDArray[np.bool_]
    without: int
    digests: tuple[str, str]

    def __len__(self) -> int:
        return len(self.records)

    def only(self, rows: Sequence[int]) -> LabeledImages:
        """Those of the images in some rows."""
        records = PackedRecords((self.records[row] for row in rows), LabeledImage)
        names = tuple(self.file_names[row] for row in rows)
        return replace(self, records=records, file_names=names, presence=self.presence[list(rows)])

    def notes(self) -> list[str]:
        """Say what a user should know of them, a sentence each."""
        return [note for note in (self._note_on_empty(), self._note_on_classes()) if note]

    def _note_on_empty(self) -> str:
        if not self.without:
            return ""
        negatives = int((~self.presence.any(axis=1)).sum())
        left_out = self.without - negatives
        done = [f"{negatives} kept as negatives"] * (negatives > 0) + [f"{left_out} left out"] * (left_out > 0)
        total = len(self) + left_out
        return f"{self.annotations}: {self.without} of {total} images show no instance, {', '.join(done)}"

    def _note_on_classes(self) -> str:
        shown = np.asarray(self.presence.any(axis=0))
        missing = [name for name, seen in zip(self.labels.names, shown, strict=True) if not seen]
        if not missing:
            return ""
        of = f"{len(missing)} of {len(shown)} classes"
        return f"{of} have no instance in {self.annotations} to learn from: {_some(missing)}"


def read_labeled_images(
    folder: Path, annotations: Path, labels: Labels | None = None, *, keep_empty: bool = False,
    sampling: SamplingOptions = EVEN,
) -> LabeledImages:  # fmt: skip
    """Read annotations, and see that they fit the images of a folder.

    Instances whose box has no area are left out, and so are images that show no instance or crowds only.

    Args:
        folder: of the images.
        annotations: COCO instances JSON; polygons and RLE.
        labels: the classes of a network; None takes the categories of the file. Categories without annotations may
            differ from them.
        keep_empty: keep images without annotations, as negatives.
        sampling: names classes that must be among those of the file, which is seen before all else.

    Raises:
        AnnotationError: the annotations cannot be read, hold no instance, or use a category that is none of the
            classes; or an image is missing or of another size than annotated.
        ImageError: a file is not an image.
        ConfigError: the sampling names an unknown class.
    """
    with collection_paused():
        document = open_document(annotations)
        sampling.class_factors((labels or coco_labels(document.categories)).names)
        return _read(folder, annotations, document, labels, keep_empty)


def _read(
    folder: Path, annotations: Path, document: OpenedDocument, wanted: Labels | None, keep_empty: bool
) -> LabeledImages:
    entries = document.images
    instances_of = _by_image(document)
    category_ids = {i.category_id for instances in instances_of.values() for i in instances}
    labels = _labels(document, category_ids, annotations, wanted)
    names: list[str] = []
    shown: list[tuple[int, int]] = []

    def noted(record: LabeledImage) -> LabeledImage:
        shown.extend((len(names), class_id) for class_id in record.instance_classes())
        names.append(record.file_name)
        return record

    records = PackedRecords(map(noted, _records(entries, instances_of, labels, keep_empty)), LabeledImage)
    if not shown:
        raise AnnotationError(
            f"{annotations} describes no image with an instance (crowds do not count): give annotations to train on"
        )
    listing = _check_files(folder, names)
    used = set(names)
    check_sizes(folder, [entry for entry in entries if entry["file_name"] in used])
    presence = np.zeros((len(names), len(labels.names)), bool)
    presence[tuple(np.array(shown).T)] = True
    without = len(entries) - int(presence.any(axis=1).sum())
    digests = (file_digest(annotations), listing)
    return LabeledImages(folder, annotations, labels, records, tuple(names), presence, without, digests)


class _Instance(NamedTuple):
    """An annotation, its mask packed."""

    category_id: int
    crowd: bool
    has_area: bool
    segmentation: msgspec.Raw


def _by_image(document: OpenedDocument) -> dict[int, list[_Instance]]:
    """The annotations of each image, by its id."""
    encode = msgspec.msgpack.Encoder().encode
    instances_of: dict[int, list[_Instance]] = defaultdict(list)
    for annotation in document.annotations:
        _, _, width, height = annotation["bbox"]
        mask = msgspec.Raw(encode(annotation["segmentation"]))
        instance = _Instance(annotation["category_id"], bool(annotation["iscrowd"]), width > 0 and height > 0, mask)
        instances_of[annotation["image_id"]].append(instance)
    return instances_of


def _labels(document: OpenedDocument, used: set[int], annotations: Path, wanted: Labels | None) -> Labels:
    """The classes to train: all categories, or those that are wanted, if the categories in use are the same."""
    if wanted is None:
        return coco_labels(document.categories)
    names = {category["id"]: category["name"] for category in document.categories}
    try:
        check_categories({category: names[category] for category in used}, wanted)
    except AnnotationError as error:
        raise AnnotationError(f"{annotations}: {error}") from None
    classes = zip(wanted.category_ids, wanted.names, strict=True)
    absent = [name for category, name in classes if names.get(category) != name]
    if absent:
        raise AnnotationError(
            f"{annotations} has {len(names)} categories, and {len(absent)} of the network's {len(wanted.names)} "
            f"classes are not among them ({_some(absent)}), so that training would unlearn these: give annotations of "
            "every class that the network was trained on"
        )
    return wanted


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        AnnotationError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read ({error.strerror}): give the path of a file") from error
    return digest.hexdigest()


def listing_digest(files: Iterable[tuple[str, int]]) -> str:
    """Return the SHA-256 of names and sizes of files, whatever their order."""
    digest = hashlib.sha256()
    for name, size in sorted(files):
        digest.update(os.fsencode(name) + f"/{size}\n".encode())
    return digest.hexdigest()


def _records(
    entries: Sequence[dict[str, Any]], instances_of: dict[int, list[_Instance]], labels: Labels, keep_empty: bool
) -> Iterator[LabeledImage]:
    """The images that are trained on, in the order of the file; annotations are let go once they are taken."""
    contiguous = {category: index for index, category in enumerate(labels.category_ids)}
    for entry in entries:
        annotated = instances_of.pop(entry["id"], [])
        instances = [instance for instance in annotated if instance.has_area]
        record = LabeledImage(
            entry["file_name"], entry["height"], entry["width"], [contiguous[i.category_id] for i in instances],
            [i.crowd for i in instances], [i.segmentation for i in instances],
        )  # fmt: skip
        if record.instance_classes() or (keep_empty and not annotated):
            yield record


def _check_files(folder: Path, names: Sequence[str]) -> str:
    """See that the images are there, and return the digest of their names and sizes."""
    sizes = [(name, _file_size(folder / name)) for name in names]
    missing = [name for name, size in sizes if size is None]
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(names)} annotated images are not in {folder}, e.g. {missing[0]}: "
            "give the folder that the annotations belong to"
        )
    return listing_digest((name, size) for name, size in sizes if size is not None)


def _file_size(path: Path) -> int | None:
    """Bytes of a file; None where there is none of this name, or the system cannot take the name."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
