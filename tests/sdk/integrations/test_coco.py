"""COCO results carry instances, and annotations of every form are read."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from blendmask_edge import Instances, InstancesError
from blendmask_edge.integrations.coco import from_coco, to_coco
from blendmask_edge.integrations.id_image import to_id_image
from tests.sdk.integrations.instances import LABELS, SIZE, assert_same


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
    for box, expected in ((None, 15), ([], 15), ((16, 10, 24, 10), 16), (np.array([17, 10, 23, 10]), 17)):
        found = from_coco([{"category_id": 90, "segmentation": packed, "bbox": box}], LABELS, SIZE)
        assert found.boxes.tolist() == [[expected, 10, 40, 20]]


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


def test_nothing_goes_round_as_nothing(three: Instances) -> None:
    none = three[[]]
    assert len(from_coco(to_coco(none, 1), LABELS, SIZE)) == 0
    assert not to_id_image(none).any()
