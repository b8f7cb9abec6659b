"""Run-length encoding of a crop is that of the dense mask."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from blendmask_edge.imaging.rle import encode_crops


@st.composite
def placed_crops(draw: st.DrawFn) -> Tuple[np.ndarray, Tuple[int, int], Tuple[int, int]]:
    """Draw a mask, its place and the size of an image that holds it, edges and whole columns included."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    y, x = draw(st.integers(0, height)), draw(st.integers(0, width))
    rows, columns = draw(st.integers(0, height - y)), draw(st.integers(0, width - x))
    share = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    crop = np.random.default_rng(draw(st.integers(0, 1000))).random((rows, columns)) < share
    return crop, (x, y), (height, width)


@given(placed=placed_crops())
def test_rle_of_a_crop_is_the_rle_of_the_dense_mask(placed: Tuple[Any, Any, Any]) -> None:
    crop, (x, y), size = placed
    dense = np.zeros(size, np.uint8, order="F")
    dense[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    assert encode_crops([(crop, (x, y))], size)[0]["counts"] == coco_mask.encode(dense)["counts"].decode()


def test_crops_are_encoded_together_in_their_order() -> None:
    crops = [(np.ones((h, w), np.bool_), (w, h)) for h, w in ((1, 2), (0, 0), (3, 1))]
    assert encode_crops(crops, (9, 9)) == [encode_crops([crop], (9, 9))[0] for crop in crops]
    assert encode_crops([], (9, 9)) == []
