"""Annotations that cannot be scored against the images and the model are refused in one message."""

from __future__ import annotations

from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import AnnotatedImages, image_ids, read_coco
from blendmask_edge.labels import Labels

Document = Dict[str, Any]


def test_sound_annotations_give_images_in_order(scenes: Any) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations, labels())
    assert list(images.ids) == list(range(1, 13))
    assert images.read(7)[0, 0].tolist() == [7, 7, 7]


def test_images_of_another_folder_are_refused(scenes: Any) -> None:
    with pytest.raises(AnnotationError, match=r"12 of 12 annotated images are not in .*1\.png"):
        image_ids(read_coco(scenes.annotations), scenes.folder.parent)


def test_annotations_of_crowds_alone_are_refused(scenes: Any) -> None:
    document = scenes.document()
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(AnnotationError, match="none of the 12 images shows an instance"):
        AnnotatedImages.open(scenes.folder, scenes.rewritten(document), labels())


def test_no_image_at_all_is_no_mismatch(scenes: Any) -> None:
    AnnotatedImages(read_coco(scenes.annotations), scenes.folder, []).check_labels(labels())


def rename(document: Document) -> None:
    document["categories"][0]["name"] = "crimson"


def renumber(document: Document) -> None:
    document["categories"][0]["id"] = 11
    for annotation in document["annotations"]:
        annotation["category_id"] = {10: 11}.get(annotation["category_id"], annotation["category_id"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename, "category 10 is 'crimson' in the annotations, the model calls it 'red'"),
        (renumber, r"category 11 is 'red' in the annotations, the model knows the categories 10, 20, 35"),
    ],
)
def test_annotations_of_another_model_are_refused(scenes: Any, spoil: Callable[[Document], None], message: str) -> None:
    document = scenes.document()
    spoil(document)
    with pytest.raises(AnnotationError, match=message):
        AnnotatedImages.open(scenes.folder, scenes.rewritten(document), labels())


def test_category_that_no_image_shows_may_be_unknown(scenes: Any) -> None:
    document = scenes.document()
    document["categories"].append({"id": 99, "name": "violet"})
    assert len(AnnotatedImages.open(scenes.folder, scenes.rewritten(document), labels()).ids) == 12


def test_turned_image_is_refused_before_and_during_the_run(scenes: Any) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations, labels())
    cv2.imwrite(str(scenes.folder / "3.png"), np.zeros((128, 96, 3), np.uint8))
    with pytest.raises(AnnotationError, match=r"3\.png is 96 x 128 pixels, annotated as 128 x 96"):
        images.read(3)
    with pytest.raises(AnnotationError, match=r"3\.png"):
        AnnotatedImages.open(scenes.folder, scenes.annotations, labels())


def test_exif_orientation_is_named_where_annotations_are_of_the_stored_pixels(scenes: Any) -> None:
    """The phone stores 128 x 96 and says that it was turned; one image of twelve, and not among the first."""
    data = cv2.imencode(".jpg", np.zeros((96, 128, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (scenes.folder / "8.png").write_bytes(turned)
    with pytest.raises(AnnotationError, match=r"1 of 12 images: 8\.png is 96 x 128 .* as 128 x 96: its EXIF"):
        AnnotatedImages.open(scenes.folder, scenes.annotations, labels())


def labels() -> Labels:
    return Labels(("red", "green", "blue"), (10, 20, 35))
