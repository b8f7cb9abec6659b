"""Predictions and targets of torchvision carry instances and give them back."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from blendmask_edge import ConfigError, DependencyError, Instances, InstancesError
from blendmask_edge.integrations.torchvision import from_torchvision, to_torchvision
from tests.sdk.integrations.instances import LABELS, SIZE, assert_same


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
