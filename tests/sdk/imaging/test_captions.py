"""Captions of an overlay lie in the image and cover each other nowhere."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.imaging.captions import place_captions

SIZE = (300, 400)
boxes_of = st.lists(
    st.tuples(st.integers(0, 399), st.integers(0, 299), st.integers(1, 200), st.integers(1, 200)), max_size=40
)


@given(boxes=boxes_of, width=st.integers(1, 150), height=st.integers(1, 40))
def test_captions_lie_in_the_image_and_cover_each_other_nowhere(
    boxes: List[Tuple[int, int, int, int]], width: int, height: int
) -> None:
    corners = [(x, y, min(400, x + w), min(300, y + h)) for x, y, w, h in boxes]
    covered = np.zeros(SIZE, np.int64)
    places = place_captions(corners, [(width, height)] * len(corners), SIZE)
    for place in places:
        if place is not None:
            x, y = place
            assert 0 <= x <= 400 - width
            assert 0 <= y <= 300 - height
            covered[y : y + height, x : x + width] += 1
    assert covered.max(initial=0) <= 1
    assert all(place is not None for place in places[:4])


def test_caption_lies_above_its_box_and_inside_it_at_the_upper_edge() -> None:
    assert place_captions([(50, 60, 90, 90)], [(40, 15)], SIZE) == [(50, 45)]
    assert place_captions([(50, 5, 90, 90)], [(40, 15)], SIZE) == [(50, 5)]


def test_second_caption_of_one_place_stands_beside_the_first() -> None:
    first, second = place_captions([(50, 60, 90, 90)] * 2, [(40, 15)] * 2, SIZE)
    assert first == (50, 45)
    assert second == (50, 60)
