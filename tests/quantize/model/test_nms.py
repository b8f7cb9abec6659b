"""Suppression equals the plain definition of its kind, class by class."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.errors import ConfigError
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


def fast_by_definition(boxes: list[Box], scores: list[float], classes: list[int], threshold: float) -> list[int]:
    """Hidden by any higher one of the class, whether or not that one is hidden itself."""

    def hidden(index: int) -> bool:
        rivals = [i for i in range(len(boxes)) if scores[i] > scores[index] and classes[i] == classes[index]]
        return any(overlap(boxes[i], boxes[index]) > threshold for i in rivals)

    return [index for index in sorted(range(len(boxes)), key=lambda i: -scores[i]) if not hidden(index)]


DEFINITIONS = {"batched": by_definition, "cluster": by_definition, "fast": fast_by_definition}


def run(boxes: list[Box], scores: list[float], classes: list[int], threshold: float, kind: str) -> list[int]:
    tensors = (
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(classes).long(),
    )
    return suppress(*tensors, threshold, kind).tolist()


@pytest.fixture(params=DEFINITIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("method", DEFINITIONS)
@given(boxes=st.lists(st.one_of(NEAR, FAR), max_size=24), data=st.data(), threshold=THRESHOLDS)
def test_it_equals_the_definition(method, boxes, data, threshold):
    ranks = data.draw(st.permutations(range(len(boxes))))
    scores = [(rank + 1) / (len(boxes) + 1) for rank in ranks]
    classes = data.draw(st.lists(st.integers(0, 3), min_size=len(boxes), max_size=len(boxes)))
    assert run(boxes, scores, classes, threshold, method) == DEFINITIONS[method](boxes, scores, classes, threshold)


@given(seed=st.integers(0, 10**6), count=st.integers(0, 300), threshold=st.floats(0.05, 0.95))
def test_cluster_equals_batched_on_random_boxes(seed, count, threshold):
    """Crowded, so that chains of suppression are long."""
    generator = torch.Generator().manual_seed(seed)
    corners, sides = (torch.rand((count, 2), generator=generator) * extent for extent in (200, 120))
    scores, classes = torch.rand(count, generator=generator), torch.randint(0, 3, (count,), generator=generator)
    boxes = torch.cat([corners - 50, corners - 50 + sides], dim=1)
    batched, cluster, fast = (
        suppress(boxes, scores, classes, threshold, kind).tolist() for kind in ("batched", "cluster", "fast")
    )
    assert cluster == batched
    assert set(fast) <= set(batched)


def test_a_hidden_box_hides_others_in_fast_nms_only():
    chain = [(0.0, 0.0, 10.0, 10.0), (3.0, 0.0, 13.0, 10.0), (6.0, 0.0, 16.0, 10.0)]
    assert run(chain, [0.9, 0.8, 0.7], [0] * 3, 0.5, "batched") == [0, 2]
    assert run(chain, [0.9, 0.8, 0.7], [0] * 3, 0.5, "cluster") == [0, 2]
    assert run(chain, [0.9, 0.8, 0.7], [0] * 3, 0.5, "fast") == [0]


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_a_threshold_of_nothing_keeps_every_box_best_first(kind: str, threshold: float):
    assert run([(0.0, 0.0, 10.0, 10.0)] * 3, [0.2, 0.9, 0.5], [0] * 3, threshold, kind) == [1, 2, 0]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="'soft': use batched, fast, cluster"):
        run([], [], [], 0.6, "soft")


def test_classes_never_meet_however_far_boxes_leave_the_image(kind):
    """The offsets of the reference's library routine lose one of these."""
    boxes = [(0.0, 0.0, 300.0, 300.0), (-270.0, -270.0, 5.0, 5.0)]
    for scores in ([0.9, 0.8], [0.8, 0.9]):
        assert set(run(boxes, scores, [0, 1], 0.6, kind)) == {0, 1}


def test_many_classes_of_one_box_are_all_kept(kind):
    boxes, scores = [(10.0, 10.0, 900.0, 700.0)] * 80, [1 - i / 100 for i in range(80)]
    assert len(run(boxes, scores, list(range(80)), 0.6, kind)) == 80


def test_an_overlap_equal_to_the_threshold_is_kept(kind):
    boxes = [(0.0, 0.0, 4.0, 4.0), (0.0, 0.0, 4.0, 2.0)]
    assert run(boxes, [0.9, 0.8], [0, 0], 0.5, kind) == [0, 1]
    assert run(boxes, [0.9, 0.8], [0, 0], 0.49, kind) == [0]


def test_identical_boxes_without_area_do_not_hide_each_other(kind):
    assert run([(5.0, 5.0, 5.0, 9.0)] * 2, [0.9, 0.8], [0, 0], 0.6, kind) == [0, 1]


def test_no_boxes(kind):
    assert run([], [], [], 0.6, kind) == []
