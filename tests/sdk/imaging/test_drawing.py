"""Overlays can be read: classes differ in color, instances in shade, and labels cover each other nowhere."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendmask_edge.imaging.colors import class_color, lab, shade
from blendmask_edge.imaging.drawing import Mark, draw_marks
from blendmask_edge.imaging.labels import place_labels

SIZE = (300, 400)


def distances(count: int) -> np.ndarray:
    """Return how far apart the colors of the first classes look."""
    places = lab(np.array([class_color(class_id) for class_id in range(count)], np.uint8))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    return apart[np.triu_indices(count, 1)]


@pytest.mark.parametrize("count, least", [(16, 35), (20, 30), (80, 13)])
def test_classes_have_colors_that_differ(count: int, least: float) -> None:
    assert distances(count).min() >= least


def test_instances_of_a_class_have_shades_of_their_own_near_its_color() -> None:
    for class_id in range(20):
        color = class_color(class_id)
        shades = {shade(color, number) for number in range(4)}
        assert len(shades) == 4
        assert shade(color, 0) == color


boxes_of = st.lists(
    st.tuples(st.integers(0, 399), st.integers(0, 299), st.integers(1, 200), st.integers(1, 200)), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(boxes=boxes_of, width=st.integers(1, 150), height=st.integers(1, 40))
def test_labels_lie_in_the_image_and_cover_each_other_nowhere(
    boxes: List[Tuple[int, int, int, int]], width: int, height: int
) -> None:
    corners = [(x, y, min(400, x + w), min(300, y + h)) for x, y, w, h in boxes]
    covered = np.zeros(SIZE, np.int64)
    places = place_labels(corners, [(width, height)] * len(corners), SIZE)
    for place in places:
        if place is not None:
            x, y = place
            assert 0 <= x <= 400 - width
            assert 0 <= y <= 300 - height
            covered[y : y + height, x : x + width] += 1
    assert covered.max(initial=0) <= 1
    assert all(place is not None for place in places[:4])


def test_label_lies_above_its_box_and_inside_it_at_the_upper_edge() -> None:
    assert place_labels([(50, 60, 90, 90)], [(40, 15)], SIZE) == [(50, 45)]
    assert place_labels([(50, 5, 90, 90)], [(40, 15)], SIZE) == [(50, 5)]


def test_second_label_of_one_place_stands_beside_the_first() -> None:
    first, second = place_labels([(50, 60, 90, 90)] * 2, [(40, 15)] * 2, SIZE)
    assert first == (50, 45)
    assert second == (50, 60)


def test_two_instances_of_one_class_are_drawn_in_two_shades() -> None:
    marks = [Mark(np.ones((50, 50), np.bool_), (x, 200), (x, 200, x + 50, 250), 0, "a") for x in (20, 300)]
    drawn = draw_marks(np.full((*SIZE, 3), 100, np.uint8), marks)
    assert (drawn[225, 45] != drawn[225, 325]).any()
