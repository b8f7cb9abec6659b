"""Polygons give masks back, with holes and every corner."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from blendmask_edge import ConfigError, Instances, InstancesError
from blendmask_edge.integrations.polygons import Polygon, from_polygons, to_polygons
from tests.sdk.integrations.instances import LABELS, SIZE


@given(mask=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)))
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
    assert to_polygons(three, np.float32(1))
    for tolerance in (-1, "1", float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="tolerance"):
            to_polygons(three, tolerance)  # type: ignore[arg-type]
    with pytest.raises(InstancesError, match=r"polygons\[0\]"):
        from_polygons([[np.zeros((3, 2))]], np.array([0]), LABELS, SIZE)  # type: ignore[list-item]
    assert to_polygons(three[[]]) == []
    assert isinstance(to_polygons(three)[0][0], Polygon)
