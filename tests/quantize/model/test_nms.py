"""Suppression equals the plain definition, class by class."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blendmask_quantize.model.nms import suppress

Box = tuple[float, float, float, float]

# Quarter pixels, so that overlaps are computed without rounding.
COORDINATES = st.integers(-1200, 2400).map(lambda quarters: quarters / 4)
SIZES = st.integers(0, 1200).map(lambda quarters: quarters / 4)
FAR = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), COORDINATES, COORDINATES, SIZES, SIZES)
NEAR = st.builds(lambda x, y, w, h: (x, y, x + 8 + w, y + 8 + h), *[st.integers(0, 4)] * 4)
THRESHOLDS = st.sampled_from([0.25, 0.5, 0.6, 0.75])


def overlap(a: Box, b: Box) -> float:
    """Intersection over union; none for two boxes without area."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def by_definition(boxes: list[Box], scores: list[float], classes: list[int], threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        rivals = [k for k in kept if classes[k] == classes[index]]
        if all(overlap(boxes[k], boxes[index]) <= threshold for k in rivals):
            kept.append(index)
    return kept


def run(boxes: list[Box], scores: list[float], classes: list[int], threshold: float) -> list[int]:
    tensors = (
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(classes).long(),
    )
    return suppress(*tensors, threshold).tolist()


@settings(max_examples=150, deadline=None)
@given(boxes=st.lists(st.one_of(NEAR, FAR), max_size=24), data=st.data(), threshold=THRESHOLDS)
def test_it_equals_the_definition(boxes, data, threshold):
    ranks = data.draw(st.permutations(range(len(boxes))))
    scores = [(rank + 1) / (len(boxes) + 1) for rank in ranks]
    classes = data.draw(st.lists(st.integers(0, 3), min_size=len(boxes), max_size=len(boxes)))
    assert run(boxes, scores, classes, threshold) == by_definition(boxes, scores, classes, threshold)


def test_classes_never_meet_however_far_boxes_leave_the_picture():
    """The offsets of the reference's library routine lose one of these."""
    boxes = [(0.0, 0.0, 300.0, 300.0), (-270.0, -270.0, 5.0, 5.0)]
    for scores in ([0.9, 0.8], [0.8, 0.9]):
        assert set(run(boxes, scores, [0, 1], 0.6)) == {0, 1}


def test_many_classes_of_one_box_are_all_kept():
    assert len(run([(10.0, 10.0, 900.0, 700.0)] * 80, [1 - i / 100 for i in range(80)], list(range(80)), 0.6)) == 80


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = [(0.0, 0.0, 4.0, 4.0), (0.0, 0.0, 4.0, 2.0)]
    assert run(boxes, [0.9, 0.8], [0, 0], 0.5) == [0, 1]
    assert run(boxes, [0.9, 0.8], [0, 0], 0.49) == [0]


def test_identical_boxes_without_area_do_not_hide_each_other():
    assert run([(5.0, 5.0, 5.0, 9.0)] * 2, [0.9, 0.8], [0, 0], 0.6) == [0, 1]


def test_without_a_threshold_every_box_stays_in_its_place():
    assert run([(0.0, 0.0, 4.0, 4.0)] * 3, [0.1, 0.9, 0.5], [0, 0, 0], 0) == [0, 1, 2]


def test_no_boxes():
    assert run([], [], [], 0.6) == []
