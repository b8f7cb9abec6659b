"""Pasting equals a direct computation at every pixel of the image, and the reference's own masks."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.imaging import clip_boxes, paste, paste_all, sigmoid
from blendmask_edge.imaging.edges import edges_of_maps
from blendmask_edge.imaging.rle import encode_crops, encode_edges
from tests.reference_values import PARITY

IMAGE = (40, 52)
EDGES = st.one_of(st.floats(-30, 80, width=32), st.integers(-30, 80).map(lambda value: value / 2))
BOXES = st.tuples(EDGES, EDGES, EDGES, EDGES).map(lambda box: np.array(box, np.float32))


def paste_directly(probabilities: np.ndarray, box: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return the pasted values of the whole image in float64, pixel by pixel."""
    cells = len(probabilities)
    x0, y0, x1, y1 = clip_boxes(box, size).astype(np.float64)
    values = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            u = (x + 0.5 - x0) / (x1 - x0) * cells - 0.5
            v = (y + 0.5 - y0) / (y1 - y0) * cells - 0.5
            for row in (np.floor(v), np.floor(v) + 1):
                for column in (np.floor(u), np.floor(u) + 1):
                    if 0 <= row < cells and 0 <= column < cells:
                        weight = (1 - abs(v - row)) * (1 - abs(u - column))
                        values[y, x] += weight * probabilities[int(row), int(column)]
    return values


def whole(crop: np.ndarray, start: Tuple[int, int], size: Tuple[int, int]) -> np.ndarray:
    """Return the crop in its place in the image."""
    mask = np.zeros(size, np.bool_)
    mask[start[1] : start[1] + crop.shape[0], start[0] : start[0] + crop.shape[1]] = crop
    return mask


@given(box=BOXES, cells=st.sampled_from([1, 2, 7, 56]), seed=st.integers(0, 100))
def test_paste_equals_direct_sampling_of_the_whole_image(box: np.ndarray, cells: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).random((cells, cells), dtype=np.float32)
    crop, start = paste(probabilities, box, IMAGE)
    x0, y0, x1, y1 = clip_boxes(box, IMAGE)
    if not (x0 < x1 and y0 < y1):
        assert crop.size == 0
        return
    values = paste_directly(probabilities, box, IMAGE)
    sure = np.abs(values - 0.5) > 1e-3
    np.testing.assert_array_equal(whole(crop, start, IMAGE)[sure], (values >= 0.5)[sure])


@given(boxes=st.lists(BOXES, max_size=4), seed=st.integers(0, 100))
def test_masks_pasted_together_equal_each_pasted_alone(boxes: List[np.ndarray], seed: int) -> None:
    probabilities = np.random.default_rng(seed).random((len(boxes), 7, 7), dtype=np.float32)
    together = paste_all(probabilities, np.array(boxes, np.float32).reshape(-1, 4), IMAGE)
    assert len(together) == len(boxes)
    for (crop, corner), mask, box in zip(together, probabilities, boxes):
        alone, expected = paste(mask, box, IMAGE)
        assert corner == expected
        np.testing.assert_array_equal(crop, alone)


@given(boxes=st.lists(BOXES, max_size=4), cells=st.sampled_from([1, 2, 7, 56]), seed=st.integers(0, 100))
def test_masks_are_encoded_as_they_are_pasted(boxes: List[np.ndarray], cells: int, seed: int) -> None:
    probabilities = np.random.default_rng(seed).random((len(boxes), cells, cells), dtype=np.float32)
    arrays = probabilities, np.array(boxes, np.float32).reshape(-1, 4), IMAGE
    assert encode_edges(edges_of_maps(*arrays), IMAGE) == encode_crops(paste_all(*arrays), IMAGE)


@given(box=BOXES)
def test_crop_covers_the_clipped_box_and_no_more(box: np.ndarray) -> None:
    crop, (x, y) = paste(np.ones((56, 56), np.float32), box, IMAGE)
    x0, y0, x1, y1 = clip_boxes(box, IMAGE)
    if crop.size:
        assert (x, y) == (np.floor(x0), np.floor(y0))
        assert crop.shape == (np.ceil(y1) - y, np.ceil(x1) - x)


def test_certain_mask_fills_the_pixels_whose_centers_lie_in_the_box() -> None:
    crop, start = paste(np.ones((56, 56), np.float32), np.array([10.4, 5.0, 30.4, 25.6], np.float32), IMAGE)
    expected = np.zeros(IMAGE, np.bool_)
    expected[5:26, 10:30] = True
    np.testing.assert_array_equal(whole(crop, start, IMAGE), expected)


def test_probability_of_one_half_counts_as_foreground() -> None:
    crop, _ = paste(sigmoid(np.zeros((56, 56), np.float32)), np.array([5, 5, 35, 35], np.float32), IMAGE)
    assert crop[1:-1, 1:-1].all()


def test_mask_of_a_box_leaving_the_image_is_squeezed_into_its_visible_part() -> None:
    left = np.zeros((56, 56), np.float32)
    left[:, :28] = 1
    crop, (x, _) = paste(left, np.array([-20, 0, 20, 40], np.float32), IMAGE)
    assert x == 0
    assert crop[:, :10].all()
    assert not crop[:, 10:].any()


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [60, 5, 70, 9], [9, 9, 5, 5], [np.nan, 0, 5, 5], [-9, -9, -1, -1]])
def test_box_without_area_gives_no_pixel(box: List[float]) -> None:
    crop, _ = paste(np.ones((56, 56), np.float32), np.array(box, np.float32), IMAGE)
    assert crop.shape == (0, 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "box, shape",
    [
        ([5, 5, np.nextafter(np.float32(5), np.float32(6)), 9], (4, 1)),
        ([0, 0, 1e-44, 9], (9, 1)),
        ([-np.inf, -1e38, np.inf, 1e38], IMAGE),
    ],
)
def test_slivers_and_endless_boxes_are_pasted_without_a_warning(box: List[float], shape: Tuple[int, int]) -> None:
    assert paste(np.ones((56, 56), np.float32), np.array(box, np.float32), IMAGE)[0].shape == shape


def test_sigmoid_is_exact_where_it_decides_and_never_overflows() -> None:
    with np.errstate(all="raise"):
        values = sigmoid(np.array([-1e4, -80, 0, 80, 1e4], np.float32))
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1], atol=1e-7)
    assert values[2] == 0.5
    logits = np.linspace(-9, 9, 999, dtype=np.float32)
    np.testing.assert_allclose(sigmoid(logits), 1 / (1 + np.exp(-logits.astype(np.float64))), atol=2e-7)


def unpack(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Return one of the packed boolean arrays."""
    shape = arrays["masks_shape"]
    return np.unpackbits(arrays[name])[: np.prod(shape)].reshape(shape).astype(np.bool_)


def test_masks_equal_the_reference_outside_its_uncertain_pixels() -> None:
    arrays = np.load(PARITY / "units/postprocess.npz")
    (height, width), (network_height, network_width) = arrays["output_hw"], arrays["image_hw"]
    scale = np.array([width / network_width, height / network_height] * 2, np.float32)
    boxes = clip_boxes(arrays["boxes"] * scale, (height, width))
    has_area = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    np.testing.assert_array_equal(np.flatnonzero(has_area), arrays["kept"])
    np.testing.assert_allclose(boxes[has_area], arrays["final_boxes"], atol=1e-4)
    masks = [whole(*paste(p, b, (height, width)), (height, width)) for p, b in zip(arrays["mask_prob"], boxes)]
    certain = ~unpack(arrays, "uncertain_packed")
    expected = unpack(arrays, "masks_packed")
    np.testing.assert_array_equal(np.array(masks)[has_area] & certain, expected & certain)
