"""Annotations that cannot be scored against the images and the model are refused in one message."""

from __future__ import annotations

from typing import Any, Callable, Dict

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import AnnotatedImages, image_ids, read_coco
from blendmask_edge.instances import Labels

Document = Dict[str, Any]


def test_sound_annotations_give_images_in_order(scenes: Any) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations, labels())
    assert list(images.ids) == list(range(1, 13))
    assert images.read(7)[0, 0].tolist() == [7, 7, 7]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"images": []}', '{"images": 1, "annotations": 2}'])
def test_what_is_no_coco_file_is_refused(scenes: Any, text: str) -> None:
    path = scenes.annotations.with_name("odd.json")
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"odd\.json.*give"):
        read_coco(path)


def test_missing_file_is_refused(scenes: Any) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_coco(scenes.folder / "none.json")


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("images", "id"),
        ("images", "file_name"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "name"),
    ],
)
def test_entry_without_a_field_is_refused(scenes: Any, key: str, field: str) -> None:
    document = scenes.document()
    del document[key][0][field]
    with pytest.raises(AnnotationError, match="without"):
        read_coco(scenes.rewritten(document))


def test_annotation_of_an_unknown_image_is_refused(scenes: Any) -> None:
    document = scenes.document()
    document["annotations"][0]["image_id"] = 999
    with pytest.raises(AnnotationError, match="999"):
        read_coco(scenes.rewritten(document))


def test_images_of_another_folder_are_refused(scenes: Any) -> None:
    with pytest.raises(AnnotationError, match=r"12 of 12 annotated images are not in .*1\.png"):
        image_ids(read_coco(scenes.annotations), scenes.folder.parent)


def test_annotations_without_images_are_refused(scenes: Any) -> None:
    document = {"images": [], "annotations": [], "categories": []}
    with pytest.raises(AnnotationError, match="no image is annotated"):
        image_ids(read_coco(scenes.rewritten(document)), scenes.folder)


def rename(document: Document) -> None:
    document["categories"][0]["name"] = "crimson"


def renumber(document: Document) -> None:
    document["categories"][0]["id"] = 11
    for annotation in document["annotations"]:
        annotation["category_id"] = {10: 11}.get(annotation["category_id"], annotation["category_id"])


def strip(document: Document) -> None:
    del document["annotations"][5]["segmentation"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename, "category 10 is 'crimson' in the annotations, the model calls it 'red'"),
        (renumber, r"category 11 is 'red' in the annotations, the model knows \[10, 20, 35\]"),
        (strip, "annotation 6 lacks segmentation"),
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


def labels() -> Labels:
    return Labels(("red", "green", "blue"), (10, 20, 35))
