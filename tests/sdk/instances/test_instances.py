"""Instances keep what is real, in order, in the pixels of the image; every form of a mask is the same mask."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Tuple

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from blendmask_edge import BundleError, DependencyError, ImageError, Instances, InstancesError, Labels
from blendmask_edge.bundle import Outputs
from blendmask_edge.imaging import ImageTransform

LABELS = Labels(["mug", "bowl", "plate"], [47, 51, 90])
SIZE = (60, 80)


def outputs(boxes: Any, scores: Any, class_ids: Any, seed: int = 0) -> Outputs:
    """Return what a graph gives, with random masks."""
    count = len(scores)
    logits = np.random.default_rng(seed).normal(0, 3, (1, count, 14, 14)).astype(np.float32)
    return Outputs(
        np.array(boxes, np.float32).reshape(1, count, 4),
        np.array([scores], np.float32),
        np.array([class_ids], np.int32),
        logits,
    )


def instances_of(raw: Outputs, resized: Tuple[int, int] = SIZE, score_threshold: float = 0.0) -> Instances:
    """Return instances of a 60 x 80 image that was resized to `resized`."""
    return Instances.from_outputs(raw, ImageTransform(SIZE, resized), LABELS, score_threshold)


@pytest.fixture
def three() -> Instances:
    """Return three overlapping instances, one leaving the image."""
    return instances_of(outputs([[5, 5, 40, 40], [20, 10, 70, 55], [50, -5, 90, 30]], [0.3, 0.9, 0.6], [0, 1, 2]))


def test_rows_come_by_descending_score_with_their_own_masks() -> None:
    raw = outputs([[0, 0, 9, 9], [1, 1, 9, 9], [2, 2, 9, 9]], [0.3, 0.9, 0.6], [0, 1, 2])
    instances = instances_of(raw)
    np.testing.assert_array_equal(instances.scores, np.array([0.9, 0.6, 0.3], np.float32))
    assert instances.class_names == ["bowl", "plate", "mug"]
    np.testing.assert_array_equal(instances.boxes[:, 0], [1, 2, 0])
    np.testing.assert_array_equal(instances.mask_logits, raw.mask_logits[0, [1, 2, 0]])
    assert (instances.boxes.dtype, instances.scores.dtype) == (np.float32, np.float32)
    assert instances.class_ids.dtype == np.int64


def test_equal_scores_keep_the_order_of_the_graph() -> None:
    instances = instances_of(outputs([[i, 0, i + 5, 5] for i in range(20)], [0.5] * 20, [0] * 20))
    np.testing.assert_array_equal(instances.boxes[:, 0], np.arange(20))


def test_empty_weak_and_flat_rows_are_dropped() -> None:
    boxes = [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [5, 5, 5, 9], [90, 0, 99, 9], [-9, 0, 0, 9], [0, 0, np.nan, 9]]
    raw = outputs(boxes, [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9], [0, -1, 0, 0, 0, 0, 0])
    assert len(instances_of(raw, score_threshold=0.2)) == 1


def test_score_at_the_threshold_is_kept() -> None:
    assert len(instances_of(outputs([[0, 0, 9, 9]], [0.25], [0]), score_threshold=0.25)) == 1


def test_score_that_is_no_number_is_dropped() -> None:
    assert len(instances_of(outputs([[0, 0, 9, 9]], [np.nan], [0]))) == 0


def test_boxes_are_scaled_then_clipped() -> None:
    instances = instances_of(outputs([[-5, 4, 30, 90]], [0.9], [0]), resized=(120, 40))
    np.testing.assert_array_equal(instances.boxes, [[0, 2, 60, 45]])


def test_unknown_class_is_refused() -> None:
    for class_id in (3, -2):
        with pytest.raises(BundleError, match="3 classes"):
            instances_of(outputs([[0, 0, 9, 9]], [0.9], [class_id]))


def test_no_instance_gives_empty_arrays_of_the_right_shape() -> None:
    none = instances_of(outputs([[0, 0, 9, 9]], [0.0], [-1]))
    assert (len(none), none.boxes.shape, none.scores.shape, none.masks.shape) == (0, (0, 4), (0,), (0, *SIZE))
    assert none.class_names == none.crops() == none.rles() == none.to_coco(1) == []
    image = np.zeros((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(none.draw(image), image)


def test_indexing_chooses_instances(three: Instances) -> None:
    assert three[three.scores >= 0.5].class_names == ["bowl", "plate"]
    assert three[-1].class_names == ["mug"]
    assert three[1:].class_names == ["plate", "mug"]
    assert three[np.array([2, 0])].class_names == ["mug", "bowl"]
    assert three[[]].class_names == []
    assert [one.class_names for one in three] == [["bowl"], ["plate"], ["mug"]]
    np.testing.assert_array_equal(three[1].masks, three.masks[1:2])
    with pytest.raises(IndexError):
        three[3]


def test_instances_cannot_be_changed(three: Instances) -> None:
    with pytest.raises(AttributeError):
        three.scores = np.zeros(3)  # type: ignore[misc]


def test_masks_are_pasted_on_first_use_and_kept(three: Instances) -> None:
    assert "masks" not in vars(three)
    assert three.masks is three.masks
    assert (three.masks.shape, three.masks.dtype) == ((3, *SIZE), np.bool_)


def test_crops_lie_in_the_boxes_and_make_up_the_masks(three: Instances) -> None:
    for box, mask, (crop, (x, y)) in zip(three.boxes, three.masks, three.crops()):
        assert (x, y) == (int(box[0]), int(box[1]))
        np.testing.assert_array_equal(mask[y : y + crop.shape[0], x : x + crop.shape[1]], crop)
        assert mask.sum() == crop.sum() > 0


def test_rles_are_those_of_the_dense_masks_and_need_none(three: Instances) -> None:
    rles = three.rles()
    assert "masks" not in vars(three)
    for rle, mask in zip(rles, three.masks):
        expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle == {"size": list(SIZE), "counts": expected["counts"].decode()}


def test_coco_results_carry_category_ids_and_survive_json(three: Instances) -> None:
    results = json.loads(json.dumps(three.to_coco(7)))
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 51), (7, 90), (7, 47)]
    assert results[1]["bbox"] == [50, 0, 30, 30]
    assert results[0]["score"] == pytest.approx(0.9)
    np.testing.assert_array_equal(coco_mask.decode(results[2]["segmentation"]), three.masks[2])


def test_supervision_is_asked_for_when_it_is_missing(three: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DependencyError, match="pip install supervision"):
        three.to_supervision()


def test_supervision_gets_boxes_masks_scores_and_names(three: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=dict))
    detections = three.to_supervision()
    np.testing.assert_array_equal(detections["mask"], three.masks)
    np.testing.assert_array_equal(detections["xyxy"], three.boxes)
    np.testing.assert_array_equal(detections["confidence"], three.scores)
    np.testing.assert_array_equal(detections["class_id"], three.class_ids)
    assert detections["data"]["class_name"].tolist() == three.class_names


def test_drawing_marks_the_masks_and_leaves_the_image_alone(three: Instances) -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    drawn = three.draw(image)
    assert (image == 90).all()
    changed = (drawn != image).any(axis=2)
    assert changed[three.masks.any(axis=0)].all()
    outside = three[0].draw(image)
    far = np.ones(SIZE, np.bool_)
    far[:57, 17:73] = False
    np.testing.assert_array_equal(outside[far], image[far])


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (90, 2), (700, 1100)])
def test_drawing_works_at_any_size(size: Tuple[int, int]) -> None:
    box = [0, 0, size[1], size[0]]
    raw = outputs([box, box], [0.9, 0.8], [0, 1])
    converted = Instances.from_outputs(raw, ImageTransform(size, size), LABELS)
    assert converted.draw(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)


def test_drawing_on_another_image_is_refused(three: Instances) -> None:
    with pytest.raises(ImageError, match="the image that was predicted"):
        three.draw(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ImageError, match="float32"):
        three.draw(np.zeros((*SIZE, 3), np.float32))  # type: ignore[arg-type]


SOUND = {
    "boxes": np.zeros((2, 4), np.float32),
    "scores": np.zeros(2, np.float32),
    "class_ids": np.zeros(2, np.int64),
    "image_size": SIZE,
    "labels": LABELS,
    "mask_logits": np.zeros((2, 14, 14), np.float32),
}


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("boxes", np.zeros((3, 4), np.float32), r"boxes is float32 of shape (3, 4), expected float32 of shape (2, 4)"),
        ("boxes", np.zeros((2, 4)), "boxes is float64 of shape (2, 4), expected float32"),
        ("boxes", [[0, 0, 1, 1]] * 2, "boxes is a list"),
        ("scores", np.zeros((2, 1), np.float32), "scores is float32 of shape (2, 1), expected float32 of shape (any,)"),
        ("class_ids", np.zeros(2, np.int32), "class_ids is int32 of shape (2,), expected int64 of shape (2,)"),
        ("class_ids", np.array([0, 3]), "class_ids are 0..3, expected 0..2: there are 3 labels"),
        ("class_ids", np.array([-1, 0]), "class_ids are -1..0"),
        ("mask_logits", np.zeros((2, 14), np.float32), "mask_logits is float32 of shape (2, 14)"),
        ("track_ids", np.zeros(2), "track_ids is float64 of shape (2,), expected int64"),
        ("track_ids", np.zeros(1, np.int64), "track_ids is int64 of shape (1,)"),
        ("data", {"depth": np.zeros(3)}, "data['depth'] is float64 of shape (3,), expected an array of length 2"),
        ("data", {"depth": [1, 2]}, "data['depth'] is a list"),
        ("labels", ["mug"], "labels is a list, expected Labels"),
        ("image_size", (0, 5), "image_size is (0, 5)"),
        ("image_size", None, "image_size is None"),
    ],
)
def test_array_that_does_not_fit_is_named_with_what_was_expected(field: str, value: Any, message: str) -> None:
    Instances(**SOUND)
    with pytest.raises(InstancesError) as refused:
        Instances(**{**SOUND, field: value})
    assert message in str(refused.value)


@pytest.mark.parametrize("ids, message", [([1], "2 names and 1 category ids"), ([4, 4], "twice")])
def test_labels_that_contradict_each_other_are_refused(ids: Any, message: str) -> None:
    with pytest.raises(InstancesError, match=message):
        Labels(["a", "b"], ids)


def test_tracks_and_data_follow_their_instances(three: Instances) -> None:
    tracked = replace(three.with_tracks(np.array([7, 8, 9])), data={"depth": np.array([[1.0], [2.0], [3.0]])})
    for chosen, tracks in ((tracked[1:], [8, 9]), (tracked[tracked.scores > 0.8], [7]), (tracked[-1], [9])):
        assert chosen.track_ids is not None
        assert chosen.track_ids.tolist() == tracks
        assert (chosen.data["depth"][:, 0] + 6).tolist() == tracks
    assert [result["track_id"] for result in tracked.to_coco(1)] == [7, 8, 9]
    assert "track_id" not in three.to_coco(1)[0]


def test_agnostic_nms_leaves_the_surest_of_an_overlap_whatever_its_class() -> None:
    boxes = [[0, 0, 40, 40], [0, 0, 40, 38], [30, 30, 70, 55], [0, 0, 20, 20]]
    instances = instances_of(outputs(boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 0]))
    np.testing.assert_array_equal(instances.agnostic_nms(0.7).scores, instances.scores[[0, 2, 3]])
    assert len(instances.agnostic_nms(1.0)) == 4
    assert len(instances[[]].agnostic_nms()) == 0
