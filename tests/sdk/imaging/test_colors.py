"""Classes differ in color, instances of one class in shade."""

from __future__ import annotations

import numpy as np
import pytest

from blendmask_edge.imaging.colors import class_color, lab, shade


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
