"""The changes of a report come in the order in which somebody should look at them."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest

from blendmask_edge.comparison.detections import Detection
from blendmask_edge.comparison.result import APPEARED, MASK, VANISHED, Change, Comparison
from blendmask_edge.imaging.rle import encode_crops
from blendmask_edge.report.changes import change_sections
from blendmask_edge.report.page import Table


def detection(score: float) -> Detection:
    """Return a detection of four pixels."""
    (rle,) = encode_crops([(np.ones((2, 2), np.bool_), (1, 1))], (8, 8))
    return Detection("cup", score, (1, 1, 2, 2), rle)


@pytest.mark.parametrize(
    ("vanished_first", "names"),
    [(True, ["lost.png", "bent.png", "new.png"]), (False, ["new.png", "lost.png", "bent.png"])],
)
def test_what_was_lost_or_bent_comes_before_what_appeared_where_that_is_asked(
    vanished_first: bool, names: List[str]
) -> None:
    changes = (
        Change("new.png", APPEARED, None, detection(0.95)),
        Change("lost.png", VANISHED, detection(0.6), None),
        Change("bent.png", MASK, detection(0.7), detection(0.7), 0.5),
    )
    comparison = Comparison("float", "cpu", 3, 0, changes, 0.5, 0.9, {})
    sections = change_sections(comparison, 12, overlays=False, vanished_first=vanished_first)
    (table,) = sections[-1].blocks
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == names
