"""Images of instance ids carry instances and give them back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blendmask_edge import Instances, InstancesError
from blendmask_edge.integrations.id_image import from_id_image, to_id_image
from tests.sdk.integrations.instances import LABELS


@given(image=hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 3)))
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
