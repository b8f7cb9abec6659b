"""Detections of supervision carry instances and give them back."""

from __future__ import annotations

import numpy as np
import pytest

from blendmask_edge import Instances, InstancesError
from blendmask_edge.integrations.supervision import from_supervision, to_supervision
from tests.sdk.integrations.instances import LABELS, SIZE, assert_same


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
