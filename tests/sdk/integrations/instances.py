"""Classes, size and comparison of the instances that adapters carry."""

from __future__ import annotations

import numpy as np

from blendmask_edge import Instances, Labels

LABELS = Labels(["mug", "bowl", "plate"], [47, 51, 90])
SIZE = (40, 60)


def assert_same(one: Instances, other: Instances, tracks: bool = False) -> None:
    """Compare what adapters carry."""
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    np.testing.assert_array_equal(one.masks, other.masks)
    assert one.image_size == other.image_size
    if tracks:
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
