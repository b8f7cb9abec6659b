"""AP of a draw of images is COCO's own to the last digit, and intervals hold what they say."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_edge.evaluation.annotations import read_coco
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import Matches, draw_images, interval, ratio, score_intervals

SIDE = 128
STATS = ("mask_ap", "mask_ap50", "mask_ap75", "mask_ap_small", "mask_ap_medium", "mask_ap_large")
Instances = List[Dict[str, Any]]


def rectangle(x: int, y: int, width: int, height: int) -> Dict[str, Any]:
    """Return box, area and mask of a rectangle."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y : y + height, x : x + width] = 1
    encoded = coco_mask.encode(np.asfortranarray(mask))
    counts = {"size": [SIDE, SIDE], "counts": encoded["counts"].decode()}
    return {"bbox": [x, y, width, height], "area": int(mask.sum()), "segmentation": counts}


def document(images: int, instances: Instances) -> COCO:
    """Return annotations of `images` images; ids of instances are given here."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(images)],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(instances, start=1)],
        "categories": [{"id": 3, "name": "cup"}, {"id": 7, "name": "fork"}, {"id": 9, "name": "never shown"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def by_coco(coco: COCO, results: Instances) -> Dict[str, float]:
    """Return the masks' AP as `COCOeval.summarize` states it."""
    with contextlib.redirect_stdout(io.StringIO()):
        masks = [{name: value for name, value in result.items() if name != "bbox"} for result in results]
        evaluation = COCOeval(coco, coco.loadRes(masks), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: value for name, value in zip(STATS, evaluation.stats.tolist()) if value >= 0}


def repeated(entries: Instances, counts: Sequence[int]) -> Instances:
    """Return the entries of each image as often as it was drawn, under new image ids in the same order."""
    starts = np.cumsum(counts) - counts
    return [
        {**entry, "image_id": int(starts[entry["image_id"]] + copy)}
        for entry in entries
        for copy in range(counts[entry["image_id"]])
    ]


@st.composite
def scenes(draw: st.DrawFn) -> Tuple[COCO, Instances, Instances, List[int]]:
    """Return annotations, their instances, results with scores that are often equal, and a draw of the images."""
    images = draw(st.integers(1, 4))
    side = st.integers(4, 110)
    place = st.fixed_dictionaries({"image_id": st.integers(0, images - 1), "category_id": st.sampled_from([3, 7])})
    ground_truth = draw(st.lists(st.tuples(place, side, side, st.sampled_from([0, 0, 0, 1])), min_size=1, max_size=8))
    instances = [
        {**where, **rectangle(4, 8, width, height), "iscrowd": crowd} for where, width, height, crowd in ground_truth
    ]
    results: Instances = []
    for entry in draw(st.lists(st.sampled_from(instances), min_size=1, max_size=12)):
        shift, share = draw(st.integers(-3, 3)), draw(st.sampled_from([0.3, 0.5, 0.5, 0.9]))
        moved = rectangle(4 + shift, 8, *entry["bbox"][2:])
        results.append({"image_id": entry["image_id"], "category_id": entry["category_id"], "score": share, **moved})
    counts = draw(st.lists(st.integers(0, 4), min_size=images, max_size=images))
    return document(images, instances), instances, results, counts


@given(scene=scenes())
def test_each_image_once_is_the_summary_of_coco_to_the_last_digit(scene: Any) -> None:
    coco, _, results, _ = scene
    ids = sorted(coco.imgs)
    own = Matches.of(coco, results, ids).metrics(np.ones(len(ids), np.int64))
    assert {name: own[name] for name in STATS if name in own} == by_coco(coco, results)
    assert own == {name: value for name, value in score(coco, results, ids).items() if name.startswith("mask")}


@given(scene=scenes())
def test_a_draw_is_what_coco_says_of_images_repeated_and_left_out(scene: Any) -> None:
    coco, instances, results, counts = scene
    own = Matches.of(coco, results, sorted(coco.imgs)).metrics(np.array(counts))
    drawn, answers = repeated(instances, counts), repeated(results, counts)
    if not answers:
        assert not any(own.values())
        return
    expected = by_coco(document(sum(counts), drawn), answers)
    assert {name: own[name] for name in STATS if name in own} == expected


def test_equal_scores_of_a_repeated_image_are_taken_in_turn() -> None:
    """Right, wrong, right, wrong: two images of one right and one wrong detection, not two right ones first."""
    ground_truth = {"image_id": 0, "category_id": 3, "iscrowd": 0, **rectangle(4, 8, 40, 40)}
    right = {"image_id": 0, "category_id": 3, "score": 0.5, **rectangle(4, 8, 40, 40)}
    wrong = {**right, **rectangle(60, 60, 40, 40)}
    matches = Matches.of(document(1, [ground_truth]), [right, wrong], [0])
    assert matches.metrics(np.array([1]))["mask_ap"] == pytest.approx(1)
    assert matches.metrics(np.array([2]))["mask_ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_that_nothing_shows_cost_nothing() -> None:
    coco = document(1, [{"image_id": 0, "category_id": 3, "iscrowd": 0, **rectangle(0, 0, 40, 40)}])
    coco.dataset["categories"] += [{"id": 10 + index, "name": f"unused {index}"} for index in range(2000)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    assert Matches.of(coco, [], [0]).classes == ["cup"]


def test_nothing_found_is_zero_in_every_draw() -> None:
    ground_truth = {"image_id": 1, "category_id": 3, "iscrowd": 0, **rectangle(4, 8, 40, 40)}
    matches = Matches.of(document(3, [ground_truth]), [], [0, 1, 2])
    assert matches.metrics(np.array([0, 2, 1])) == {
        "mask_ap": 0, "mask_ap50": 0, "mask_ap75": 0, "mask_ap_medium": 0, "mask_ap/cup": 0,
    }  # fmt: skip


def test_what_a_draw_does_not_show_is_no_number_there() -> None:
    ground_truths = [{"image_id": i, "category_id": 3 + 4 * i, "iscrowd": 0, **rectangle(4, 8, 40, 40)} for i in (0, 1)]
    results = [{**ground_truth, "score": 0.5} for ground_truth in ground_truths]
    spread = Matches.of(document(2, ground_truths), results, [0, 1]).distribution(np.array([[1, 1], [2, 0], [0, 2]]))
    np.testing.assert_array_equal(np.isnan(spread["mask_ap/fork"]), [False, True, False])
    np.testing.assert_array_equal(np.isnan(spread["mask_ap/cup"]), [False, False, True])
    assert spread["mask_ap"] == pytest.approx(1)


def test_draws_are_of_as_many_images_and_follow_the_seed() -> None:
    draws = draw_images(40, 200, seed=5)
    assert draws.shape == (200, 40)
    assert (draws.sum(axis=1) == 40).all()
    assert draws.mean(axis=0) == pytest.approx(1, abs=0.4)
    np.testing.assert_array_equal(draws, draw_images(40, 200, seed=5))
    assert (draws != draw_images(40, 200, seed=6)).any()


def test_interval_is_the_middle_and_passes_over_what_is_no_number() -> None:
    values = np.append(np.arange(1001) / 1000, np.nan)
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(values, level=0.5) == pytest.approx((0.25, 0.75))
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_intervals_hold_the_score_and_narrow_with_more_images(scenes: Any) -> None:
    coco = read_coco(scenes.annotations)
    own = {number: instances[instances.scores > 0.6] for number, instances in scenes.instances.items()}
    widths = []
    for ids in (list(own)[:4], list(own)):
        results = [result for number in ids for result in own[number].to_coco(number)]
        ends, reached = score_intervals(coco, results, ids, 200), score(coco, results, ids)
        for task in ("mask", "box"):
            assert ends[f"{task}_ap_low"] <= reached[f"{task}_ap"] <= ends[f"{task}_ap_high"]
        widths.append(ends["mask_ap_high"] - ends["mask_ap_low"])
    assert widths[1] < widths[0]


def test_ratio_to_nothing_is_no_number() -> None:
    np.testing.assert_array_equal(ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0])), [0.5, np.nan])


@pytest.mark.slow
def test_interval_of_a_share_covers_the_truth_as_often_as_it_says() -> None:
    """One object an image, found or not by chance: AP is the share found, whose 95 % interval is known to fit."""
    rng, covered = np.random.default_rng(1), 0
    ground_truths = [{"image_id": i, "category_id": 3, "iscrowd": 0, **rectangle(4, 8, 40, 40)} for i in range(60)]
    coco, ids = document(60, ground_truths), list(range(60))
    for seed in range(40):
        results = [{**ground_truth, "score": 0.5} for ground_truth in ground_truths if rng.random() < 0.7]
        spread = Matches.of(coco, results, ids).distribution(draw_images(60, 120, seed))
        low, high = interval(spread["mask_ap50"])
        covered += low <= 0.7 <= high
    assert covered >= 33
