"""Instances go to other libraries and come back the same, through the real libraries where they are installed."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from blendmask_edge import ConfigError, DependencyError, Instances, InstancesError, Labels
from blendmask_edge.integrations.coco import from_coco, to_coco
from blendmask_edge.integrations.id_image import from_id_image, to_id_image
from blendmask_edge.integrations.polygons import Polygon, from_polygons, to_polygons
from blendmask_edge.integrations.supervision import from_supervision, to_supervision
from blendmask_edge.integrations.torchvision import from_torchvision, to_torchvision

LABELS = Labels(["mug", "bowl", "plate"], [47, 51, 90])
SIZE = (40, 60)


@pytest.fixture
def three() -> Instances:
    """Return three instances whose masks overlap, of a predictor's kind."""
    return Instances(
        boxes=np.array([[5.5, 5, 30, 28.25], [20, 10, 50, 40], [0, 0, 12, 9]], np.float32),
        scores=np.array([0.9, 0.6, 0.25], np.float32),
        class_ids=np.array([1, 0, 2]),
        image_size=SIZE,
        labels=LABELS,
        mask_logits=np.random.default_rng(0).normal(1, 3, (3, 14, 14)).astype(np.float32),
        track_ids=np.array([4, -1, 0]),
    )


def assert_same(one: Instances, other: Instances, tracks: bool = False) -> None:
    """Compare what adapters carry."""
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    np.testing.assert_array_equal(one.masks, other.masks)
    assert one.image_size == other.image_size
    if tracks:
        np.testing.assert_array_equal(one.track_ids, other.track_ids)


def test_supervision_round_trip(three: Instances) -> None:
    supervision = pytest.importorskip("supervision", reason="needs the package supervision")
    detections = to_supervision(three)
    assert isinstance(detections, supervision.Detections)
    assert detections.data["class_name"].tolist() == three.class_names
    assert_same(from_supervision(detections, LABELS), three, tracks=True)
    assert_same(from_supervision(detections[[2, 0]], LABELS), three[[0, 2]], tracks=True)
    annotated = supervision.MaskAnnotator().annotate(np.zeros((*SIZE, 3), np.uint8), detections)
    np.testing.assert_array_equal(annotated.any(axis=2), three.masks.any(axis=0))
    bare = supervision.Detections(xyxy=three.boxes, mask=three.masks, class_id=three.class_ids)
    assert from_supervision(bare, LABELS).scores.tolist() == [1, 1, 1]
    with pytest.raises(InstancesError, match="no mask"):
        from_supervision(supervision.Detections(xyxy=three.boxes), LABELS)


def test_torchvision_round_trip(three: Instances) -> None:
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    prediction = to_torchvision(three)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in prediction.items()} == {
        "boxes": (torch.float32, (3, 4)),
        "labels": (torch.int64, (3,)),
        "scores": (torch.float32, (3,)),
        "masks": (torch.float32, (3, 1, *SIZE)),
    }
    assert_same(from_torchvision(prediction, LABELS), three)
    tight = torchvision.ops.masks_to_boxes(prediction["masks"][:, 0])
    assert (torchvision.ops.box_iou(tight, prediction["boxes"]).diagonal() > 0.5).all()
    drawn = torchvision.utils.draw_segmentation_masks(
        torch.zeros(3, *SIZE, dtype=torch.uint8), prediction["masks"][1] > 0.5, alpha=1.0, colors="white"
    )
    np.testing.assert_array_equal(drawn[0].numpy() > 0, three.masks[1])


def test_torchvision_targets_and_soft_masks_are_read(three: Instances) -> None:
    target = {"boxes": three.boxes, "labels": three.class_ids + 1, "masks": three.masks.astype(np.uint8)}
    assert from_torchvision(target, LABELS).scores.tolist() == [1, 1, 1]
    soft = {**target, "masks": np.where(three.masks, 0.6, 0.3)[:, None].astype(np.float32)}
    np.testing.assert_array_equal(from_torchvision(soft, LABELS).masks, three.masks)
    assert from_torchvision(soft, LABELS, mask_threshold=0.7).masks.sum() == 0
    for wrong, error in (({"boxes": three.boxes}, InstancesError), ({**target, "labels": [0, 1, 2]}, InstancesError)):
        with pytest.raises(error):
            from_torchvision(wrong, LABELS)
    with pytest.raises(ConfigError, match="mask_threshold"):
        from_torchvision(target, LABELS, mask_threshold=2)


def test_torch_is_asked_for_when_it_is_missing(three: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyError, match="pip install torch"):
        to_torchvision(three)


def test_coco_round_trip(three: Instances) -> None:
    results = json.loads(json.dumps(to_coco(three, 7)))
    assert_same(from_coco(results, LABELS, SIZE), three, tracks=True)
    assert_same(from_coco(results[::-1], LABELS, SIZE), three, tracks=True)


def uncompressed(mask: np.ndarray) -> Dict[str, Any]:
    """Return a mask as COCO's uncompressed RLE."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int), [1 - int(mask[-1, -1])]])
    changes = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff(changes, prepend=0).tolist()}


def test_every_form_of_a_coco_annotation_is_read() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[10:20, 15:40] = True
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    forms: List[Any] = [packed, uncompressed(mask), [[15, 10, 40, 10, 40, 20, 15, 20]]]
    for form in forms:
        found = from_coco([{"category_id": 90, "segmentation": form}], LABELS, SIZE)
        np.testing.assert_array_equal(found.masks[0], mask)
        assert (found.class_names, found.scores.tolist(), found.track_ids) == (["plate"], [1], None)
        assert found.boxes.tolist() == [[15, 10, 40, 20]]


@pytest.mark.parametrize(
    "annotation",
    [
        {"category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]},
        {"category_id": 47},
        {"category_id": 47, "segmentation": {"size": [4, 4], "counts": [16]}},
        {"category_id": 47, "segmentation": [["a", "b"]]},
        {"category_id": 47, "segmentation": [[0, 0, 1e9, 0, 5, 5]]},
        {"category_id": 47, "segmentation": {"size": list(SIZE), "counts": [9999999]}},
        {"category_id": 47, "segmentation": {"size": list(SIZE), "counts": "\x01"}},
        {"category_id": 47, "segmentation": [[0, 0, 5, 0, 5, 5]], "bbox": "wide"},
        7,
    ],
    ids=str,
)
def test_wrong_annotations_are_named(annotation: Any) -> None:
    with pytest.raises(InstancesError, match=r"annotations\[0\]"):
        from_coco([annotation], LABELS, SIZE)


@given(image=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 3)))
@settings(max_examples=50)
def test_id_image_round_trip(image: np.ndarray) -> None:
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    found = from_id_image(image, np.array([2, 0, 1]), LABELS, scores)
    np.testing.assert_array_equal(to_id_image(found), image)
    assert found.class_names == ["plate", "mug", "bowl"]


def test_higher_score_lies_on_top_of_an_id_image(three: Instances) -> None:
    image = to_id_image(three)
    for row in range(3):
        above = three.masks[:row].any(axis=0)
        np.testing.assert_array_equal(image == row + 1, three.masks[row] & ~above)
    numbered = to_id_image(three, np.array([700, 5, 65535]))
    assert set(np.unique(numbered)) <= {0, 5, 700, 65535}
    np.testing.assert_array_equal(numbered == 700, image == 1)


@pytest.mark.parametrize("ids", [[0, 1, 2], [1, 2], [1, 2, 65536], [0.5, 1, 2]])
def test_wrong_ids_are_refused(three: Instances, ids: Any) -> None:
    with pytest.raises(InstancesError, match="ids"):
        to_id_image(three, np.array(ids))
    with pytest.raises(InstancesError, match="ids"):
        from_id_image(np.full((3, 3), 9), np.array([0, 1]), LABELS)
    with pytest.raises(InstancesError):
        from_id_image(np.full((3, 3), 0.5), np.array([0, 1]), LABELS)


@given(mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
@settings(max_examples=150)
def test_polygons_of_every_corner_give_the_mask_back(mask: np.ndarray) -> None:
    one = Instances.from_masks(mask[None], np.float32([0.5]), np.array([1]), LABELS)
    polygons = to_polygons(one, tolerance=0)
    again = from_polygons(polygons, np.array([1]), LABELS, mask.shape)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.masks, one.masks)


def test_ring_has_one_part_and_one_hole_and_few_corners() -> None:
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (40, 40), 30, 1, cv2.FILLED)
    cv2.circle(mask, (40, 40), 12, 0, cv2.FILLED)
    ring = Instances.from_masks(mask[None].astype(bool), np.float32([1]), np.array([0]), LABELS)
    ((exact,),), ((simple,),) = to_polygons(ring, 0), to_polygons(ring, 2)
    assert len(exact.holes) == len(simple.holes) == 1
    assert len(simple.exterior) < len(exact.exterior) / 3
    assert simple.exterior.shape[1] == 2
    filled = from_polygons([[simple]], np.array([0]), LABELS, (80, 80)).masks[0]
    assert (filled != ring.masks[0]).sum() < 0.08 * ring.masks.sum()
    assert not filled[40, 40]


def test_polygons_agree_with_supervision() -> None:
    converters = pytest.importorskip("supervision.detection.utils.converters", reason="needs the package supervision")
    mask = np.zeros((50, 60), np.bool_)
    mask[5:20, 10:30] = mask[30:45, 8:50] = True
    one = Instances.from_masks(mask[None], np.float32([1]), np.array([0]), LABELS)
    (parts,) = to_polygons(one, 0)
    theirs = converters.mask_to_polygons(mask)
    assert sorted(len(part) for part in theirs) == sorted(len(part.exterior) for part in parts)
    joined = np.zeros(mask.shape, np.bool_)
    for part in parts:
        joined |= converters.polygon_to_mask(part.exterior, (60, 50)).astype(bool)
    np.testing.assert_array_equal(joined, mask)


def test_wrong_polygons_are_refused(three: Instances) -> None:
    for tolerance in (-1, "1", float("nan")):
        with pytest.raises(ConfigError, match="tolerance"):
            to_polygons(three, tolerance)  # type: ignore[arg-type]
    with pytest.raises(InstancesError, match=r"polygons\[0\]"):
        from_polygons([[np.zeros((3, 2))]], np.array([0]), LABELS, SIZE)  # type: ignore[list-item]
    assert to_polygons(three[[]]) == []
    assert isinstance(to_polygons(three)[0][0], Polygon)


def test_nothing_goes_round_as_nothing(three: Instances) -> None:
    none = three[[]]
    assert len(from_coco(to_coco(none, 1), LABELS, SIZE)) == 0
    assert not to_id_image(none).any()
