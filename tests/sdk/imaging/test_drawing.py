"""Overlays can be read: two instances of one class are told apart."""

from __future__ import annotations

import numpy as np

from blendmask_edge.imaging.drawing import Mark, draw_marks

SIZE = (300, 400)


def test_two_instances_of_one_class_are_drawn_in_two_shades() -> None:
    marks = [Mark(np.ones((50, 50), np.bool_), (x, 200), (x, 200, x + 50, 250), 0, "a") for x in (20, 300)]
    drawn = draw_marks(np.full((*SIZE, 3), 100, np.uint8), marks)
    assert (drawn[225, 45] != drawn[225, 325]).any()
