"""Average precision follows what is found, mask by mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from blendmask_edge.evaluation.annotations import AnnotatedImages, read_coco
from blendmask_edge.evaluation.average_precision import evaluate, score
from blendmask_edge.evaluation.predictions import predict_annotated
from blendmask_edge.instances import Instances

EVERY = list(range(1, 13))


def measured(scenes: Any, change: Any) -> Dict[str, float]:
    """Average precision when each answer is changed."""
    images = AnnotatedImages.open(scenes.folder, scenes.annotations)
    return evaluate(lambda image: change(scenes.instances[int(image[0, 0, 0])]), images)


def test_the_annotations_themselves_score_one(scenes: Any) -> None:
    metrics = measured(scenes, lambda result: result)
    for name in ("mask_ap", "mask_ap50", "mask_ap75", "box_ap", "mask_ap/red", "box_ap/blue"):
        assert metrics[name] == pytest.approx(1, abs=1e-6)


def test_shifted_masks_lose_mask_ap_alone(scenes: Any) -> None:
    metrics = measured(scenes, lambda result: replace(result, mask_logits=np.roll(result.mask_logits, 6, axis=2)))
    assert metrics["box_ap"] == pytest.approx(1, abs=1e-6)
    assert metrics["mask_ap"] < 0.9


def test_a_class_that_is_never_found_scores_nothing(scenes: Any) -> None:
    metrics = measured(scenes, lambda result: result[result.class_ids != 2])
    assert metrics["mask_ap/blue"] == 0
    assert metrics["mask_ap/red"] == pytest.approx(1, abs=1e-6)
    assert metrics["mask_ap"] == pytest.approx(2 / 3, abs=1e-6)


def test_nothing_found_scores_nothing(scenes: Any) -> None:
    assert measured(scenes, lambda result: result[:0]) == {"mask_ap": 0.0, "box_ap": 0.0}


def test_sizes_that_are_not_shown_are_left_out(scenes: Any) -> None:
    document = scenes.document()
    for annotation in document["annotations"]:
        annotation["area"] = 2000.0
    coco = read_coco(scenes.rewritten(document))
    results = predict_annotated(
        lambda image: scenes.instances[int(image[0, 0, 0])], AnnotatedImages(coco, scenes.folder, EVERY)
    )
    metrics = score(coco, results, EVERY)
    assert "mask_ap_medium" in metrics
    assert "mask_ap_small" not in metrics
    assert "mask_ap_large" not in metrics


def test_size_of_what_is_found_is_that_of_its_mask(scenes: Any) -> None:
    """A false alarm whose box is large and whose mask is small counts among the small masks."""
    coco, results = small_object_and_thin_false_alarm(scenes)
    metrics = score(coco, results, [1])
    assert metrics["mask_ap_small"] == pytest.approx(0.5, abs=0.01)
    assert metrics["box_ap_small"] == pytest.approx(1, abs=1e-6)


def small_object_and_thin_false_alarm(scenes: Any) -> Tuple[Any, Any]:
    document = scenes.document()
    true, false = np.zeros((2, 96, 128), np.uint8)
    true[10:30, 10:30] = 1
    false[50, 20:120] = 1
    false[50:90, 20] = 1
    entry = {**document["annotations"][0], "bbox": [10, 10, 20, 20], "area": 400, "segmentation": encoded(true)}
    document["annotations"] = [entry]
    result = {"image_id": 1, "category_id": entry["category_id"], "score": 0.5}
    results = [
        {**result, "bbox": [10.0, 10.0, 20.0, 20.0], "segmentation": encoded(true)},
        {**result, "bbox": [20.0, 50.0, 100.0, 40.0], "segmentation": encoded(false), "score": 0.9},
    ]
    return read_coco(scenes.rewritten(document)), results


def encoded(mask: np.ndarray) -> Dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def test_results_are_left_as_they_were(scenes: Any) -> None:
    coco = read_coco(scenes.annotations)
    results = predict_annotated(
        lambda image: scenes.instances[int(image[0, 0, 0])], AnnotatedImages(coco, scenes.folder, EVERY)
    )
    before = [sorted(result) for result in results]
    score(coco, results, EVERY)
    assert [sorted(result) for result in results] == before


def test_progress_is_told_for_each_image(scenes: Any) -> None:
    told = []

    def answer(image: np.ndarray) -> Instances:
        return scenes.instances[int(image[0, 0, 0])]

    evaluate(answer, AnnotatedImages.open(scenes.folder, scenes.annotations, limit=5), lambda: told.append(1))
    assert len(told) == 5
