"""Overlays can be read: instances are tinted and outlined, captions are legible, and two of a class are told apart."""

from __future__ import annotations

import numpy as np

from blendmask_edge.imaging.drawing import Mark, draw_marks

SIZE = (300, 400)


def test_two_instances_of_one_class_are_drawn_in_two_shades() -> None:
    marks = [Mark(np.ones((50, 50), np.bool_), (x, 200), (x, 200, x + 50, 250), 0, "a") for x in (20, 300)]
    drawn = draw_marks(np.full((*SIZE, 3), 100, np.uint8), marks)
    assert (drawn[225, 45] != drawn[225, 325]).any()


def drawn_square(caption: str = "") -> np.ndarray:
    """Return a gray image with one red mask with a hole."""
    mask = np.ones((60, 60), np.bool_)
    mask[20:40, 20:40] = False
    mark = Mark(mask, (100, 200), (100, 200, 160, 260), 0, caption, (200, 0, 0))
    return draw_marks(np.full((*SIZE, 3), 100, np.uint8), [mark])


def test_mask_is_tinted_and_outlined_at_its_edge_and_at_its_hole() -> None:
    drawn = drawn_square()
    for y, x in ((200, 100), (259, 159), (219, 125), (240, 130), (230, 119)):
        assert tuple(drawn[y, x]) == (200, 0, 0)
    assert tuple(drawn[210, 110]) == (140, 60, 60)
    assert tuple(drawn[230, 130]) == tuple(drawn[270, 170]) == (100, 100, 100)


def test_caption_is_white_on_the_dark_color_of_its_mask() -> None:
    bar = drawn_square("cup 0.91")[170:200, 100:]
    assert (bar >= (230, 150, 150)).all(axis=2).sum() > 20
    assert (bar == (200, 0, 0)).all(axis=2).sum() > 200


def test_what_lies_at_the_edge_of_a_small_image_is_drawn_as_far_as_it_fits() -> None:
    mark = Mark(np.ones((4, 5), np.bool_), (0, 0), (0, 0, 5, 4), 0, "a long caption", (200, 0, 0))
    assert draw_marks(np.zeros((4, 5, 3), np.uint8), [mark]).shape == (4, 5, 3)
    empty = Mark(np.zeros((0, 0), np.bool_), (0, 0), (0, 0, 0, 0), 0, "", (200, 0, 0))
    assert not draw_marks(np.zeros((40, 50, 3), np.uint8), [empty]).all()
