"""The threshold for showing instances is the one with the best F1 on annotated images."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from blendmask_edge.evaluation.annotations import AnnotatedImages, read_coco
from blendmask_edge.evaluation.display_threshold import choose_display_threshold
from blendmask_edge.evaluation.predictions import predict_annotated

EVERY = list(range(1, 13))


def results_of(scenes: Any, alarms: float = 0.0) -> List[Dict[str, Any]]:
    """Return what is annotated, with scores from 0.5 on; and as much in places where nothing is, with `alarms`."""
    images = AnnotatedImages.open(scenes.folder, scenes.annotations)
    results = predict_annotated(lambda image: scenes.instances[int(image[0, 0, 0])], images)
    if alarms:
        # A column of one pixel overlaps no instance by half.
        column = coco_mask.frPyObjects({"size": [96, 128], "counts": [0, 96, 96 * 127]}, 96, 128)
        results += [{**result, "score": alarms, "segmentation": column} for result in results]
    return results


def test_false_alarms_are_left_out_and_true_instances_are_kept(scenes: Any) -> None:
    results = results_of(scenes, alarms=0.3)
    chosen = choose_display_threshold(read_coco(scenes.annotations), results, EVERY)
    assert chosen is not None
    true = [result["score"] for result in results if result["score"] != 0.3]
    assert 0.3 < chosen.score <= min(true)
    assert chosen.metrics() == {"f1": 1, "precision": 1, "recall": 1}


def test_f1_is_that_of_the_results_from_the_threshold_on(scenes: Any) -> None:
    """Alarms surer than some of the instances: what is stated follows from counting by hand."""
    results = results_of(scenes, alarms=0.7)
    chosen = choose_display_threshold(read_coco(scenes.annotations), results, EVERY)
    assert chosen is not None
    hits = sum(result["score"] >= chosen.score != 0.7 and result["score"] != 0.7 for result in results)
    alarms = sum(result["score"] == 0.7 >= chosen.score for result in results)
    annotated = len(results) // 2
    assert chosen.f1 == pytest.approx(2 * hits / (hits + alarms + annotated))
    assert chosen.precision == pytest.approx(hits / (hits + alarms))
    assert chosen.recall == pytest.approx(hits / annotated)
    for threshold in np.arange(5, 96) / 100:
        other_hits = sum(result["score"] >= threshold and result["score"] != 0.7 for result in results)
        other_alarms = annotated * (threshold <= 0.7)
        assert chosen.f1 >= 2 * other_hits / (other_hits + other_alarms + annotated) - 1e-9


def test_nothing_right_chooses_nothing(scenes: Any) -> None:
    coco = read_coco(scenes.annotations)
    assert choose_display_threshold(coco, [], EVERY) is None
    wrong = [result for result in results_of(scenes, alarms=0.7) if result["score"] == 0.7]
    assert choose_display_threshold(coco, wrong, EVERY) is None


def test_crowds_count_for_nothing(scenes: Any) -> None:
    document = scenes.document()
    for annotation in document["annotations"][::2]:
        annotation["iscrowd"] = 1
    chosen = choose_display_threshold(read_coco(scenes.rewritten(document)), results_of(scenes), EVERY)
    assert chosen is not None
    assert chosen.precision == 1
    assert chosen.recall > 0.9


def test_very_low_scores_choose_nothing_below_the_lowest_candidate(scenes: Any) -> None:
    results = [{**result, "score": result["score"] / 100} for result in results_of(scenes)]
    assert choose_display_threshold(read_coco(scenes.annotations), results, EVERY) is None
