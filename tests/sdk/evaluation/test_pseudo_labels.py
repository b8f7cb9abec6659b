"""Detections of one network as the annotations of another."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from blendmask_edge import Labels
from blendmask_edge.evaluation import average_precision
from blendmask_edge.evaluation.pseudo_labels import pseudo_labels

IMAGES = [{"id": number, "file_name": f"{number}.jpg", "height": 8, "width": 8} for number in (0, 1)]
LABELS = Labels(("mug", "bowl"), (20, 7))


def results(*scores: float, side: int = 4) -> List[Dict[str, Any]]:
    """Return a square mask in the first image for each score."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2 : 2 + side, 2 : 2 + side] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    return [
        {"image_id": 0, "category_id": 20, "bbox": [2, 2, side, side], "segmentation": rle, "score": score}
        for score in scores
    ]


def test_only_confident_detections_are_taken() -> None:
    coco = pseudo_labels(results(0.9, 0.3, 0.29), IMAGES, LABELS, 0.3)
    assert [annotation["area"] for annotation in coco.anns.values()] == [16, 16]
    assert sorted(coco.anns) == [1, 2]


def test_images_without_detections_stay() -> None:
    coco = pseudo_labels(results(0.9), IMAGES, LABELS, 0.3)
    assert sorted(coco.imgs) == [0, 1]
    assert {entry["id"]: entry["name"] for entry in coco.cats.values()} == {20: "mug", 7: "bowl"}


def test_an_empty_mask_is_left_out() -> None:
    assert not pseudo_labels(results(0.9, side=0), IMAGES, LABELS, 0.3).anns


def test_what_matches_a_doubtful_detection_is_neither_right_nor_wrong() -> None:
    sure, doubtful = results(0.9), [{**results(0.4)[0], "image_id": 1}]
    coco = pseudo_labels(sure + doubtful, IMAGES, LABELS, 0.5, 0.1)
    for score in (0.2, 0.99):
        moved = [*sure, {**doubtful[0], "score": score}]
        assert average_precision.score(coco, moved, [0, 1])["mask_ap"] == pytest.approx(1)
    assert average_precision.score(coco, sure, [0, 1])["mask_ap"] == pytest.approx(1)
    without = pseudo_labels(sure + doubtful, IMAGES, LABELS, 0.5)
    assert average_precision.score(without, [*sure, {**doubtful[0], "score": 0.99}], [0, 1])["mask_ap"] < 0.9
