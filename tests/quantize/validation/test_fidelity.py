"""A quantized network against its float network: each change shows in its own metric, and only there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.instances import Instances
from blendmask_quantize.validation.fidelity import Fidelity, compare, compare_instances
from tests.quantize.tiny import LABELS

SIZE = (60, 200)


def instances(*rows: tuple[float, float, int], filled: float = 1.0) -> Instances:
    """Instances of 20x40 pixels by left edge, score and class; `filled` is the share of the box in the mask."""
    lefts, scores, class_ids = (np.array(column) for column in zip(*sorted(rows, key=lambda row: -row[1]), strict=True))
    boxes = np.stack([lefts, np.full(len(rows), 10), lefts + 20, np.full(len(rows), 50)], axis=1)
    logits = np.full((len(rows), 28, 28), -9, np.float32)
    logits[:, : round(28 * filled)] = 9
    return Instances(boxes.astype(np.float32), scores.astype(np.float32), class_ids, SIZE, LABELS, logits)


NONE = instances((0, 1, 0))[:0]
TWO = instances((10, 0.9, 0), (100, 0.5, 1))


def test_a_network_agrees_with_itself() -> None:
    assert compare(lambda _: TWO, lambda _: TWO, [np.zeros((*SIZE, 3), np.uint8)] * 3) == Fidelity(
        images=3, matched=6, missed=0, spurious=0, score_drift=0, box_iou=1, mask_iou=1, mask_iou_low=1
    )


def test_broken_masks_show_in_the_masks_alone() -> None:
    result = compare_instances([(TWO, instances((10, 0.9, 0), (100, 0.5, 1), filled=0.25))])
    assert (result.matched, result.missed, result.spurious, result.score_drift, result.box_iou) == (
        2,
        0,
        0,
        0,
        1,
    )
    assert result.mask_iou == pytest.approx(0.25)


def test_scores_that_shift_show_in_the_scores_alone() -> None:
    result = compare_instances([(TWO, instances((10, 0.7, 0), (100, 0.4, 1)))])
    assert (result.matched, result.missed, result.spurious, result.mask_iou) == (2, 0, 0, 1)
    assert result.score_drift == pytest.approx(0.15)


def test_boxes_that_move_show_in_boxes_and_masks() -> None:
    result = compare_instances([(TWO, instances((14, 0.9, 0), (104, 0.5, 1)))])
    assert result.box_iou == pytest.approx(16 / 24)
    assert result.mask_iou == pytest.approx(16 / 24, abs=0.05)


@pytest.mark.parametrize(
    "candidate",
    [instances((10, 0.9, 0)), instances((10, 0.9, 0), (100, 0.5, 2)), instances((10, 0.9, 0), (112, 0.5, 1))],
    ids=["missing", "another class", "another place"],
)
def test_an_object_without_its_like_is_lost_and_the_other_spurious(candidate: Instances) -> None:
    result = compare_instances([(TWO, candidate)])
    assert (result.instances, result.matched, result.missed) == (2, 1, 1)
    assert result.spurious == len(candidate) - 1


def test_an_object_is_matched_once() -> None:
    twice = instances((10, 0.9, 0), (12, 0.8, 0))
    assert compare_instances([(TWO[:1], twice)]).spurious == 1
    assert compare_instances([(twice, TWO[:1])]).missed == 1


def test_instances_near_the_threshold_are_neither_lost_nor_spurious() -> None:
    surer, less_sure = instances((10, 0.31, 0)), instances((10, 0.29, 0))
    assert (compare_instances([(surer, less_sure)]).matched, compare_instances([(surer, less_sure)]).missed) == (1, 0)
    assert (compare_instances([(less_sure, surer)]).instances, compare_instances([(less_sure, surer)]).spurious) == (
        0,
        0,
    )


def test_what_is_cut_off_where_all_rows_are_taken_is_decided_by_rounding() -> None:
    one, other = instances((10, 0.9, 0), (100, 0.8, 1)), instances((10, 0.9, 0), (150, 0.79, 1))
    for rows, differing in ((2, 0), (3, 1), (None, 1)):
        result = compare_instances([(one, other)], rows)
        assert (result.matched, result.missed, result.spurious) == (1, differing, differing)


def test_what_scores_more_than_a_full_set_of_rows_is_missed() -> None:
    one, other = instances((10, 0.9, 0), (100, 0.8, 1)), instances((100, 0.8, 1), (150, 0.6, 1))
    result = compare_instances([(one, other)], rows=2)
    assert (result.matched, result.missed, result.spurious) == (1, 1, 0)
    assert compare_instances([(other, one)], rows=2).spurious == 1


def test_rows_full_of_wrong_instances_are_spurious_whatever_they_cut_off() -> None:
    one = instances((10, 0.8, 0), (40, 0.7, 0), (70, 0.6, 0))
    wrong = instances((100, 0.9, 1), (130, 0.9, 1), (160, 0.9, 1))
    for rows in (3, 4):
        assert compare_instances([(one, wrong)], rows).spurious == 3


def test_two_empty_masks_agree() -> None:
    empty = instances((10, 0.9, 0), filled=0)
    assert compare_instances([(empty, empty)]).mask_iou == 1
    assert compare_instances([(empty, TWO[:1])]).mask_iou == 0


@pytest.mark.parametrize("pair", [(NONE, NONE), (NONE, TWO), (TWO, NONE)])
def test_where_nothing_is_matched_there_is_no_number(pair: tuple[Instances, Instances]) -> None:
    result = compare_instances([pair])
    assert (result.missed, result.spurious) == (len(pair[0]), len(pair[1]))
    assert math.isnan(result.mask_iou)
    assert set(result.record()) == {"images", "matched", "missed", "spurious"}


def test_the_low_quantile_shows_the_few_masks_that_broke() -> None:
    good, bad = TWO[:1], replace(TWO[:1], mask_logits=-TWO[:1].mask_logits)
    result = compare_instances([(good, good)] * 9 + [(good, bad)])
    assert result.mask_iou == pytest.approx(0.9)
    assert result.mask_iou_low < 0.6


rows = st.lists(st.tuples(st.integers(0, 170), st.floats(0.23, 1), st.integers(0, 2)), min_size=1, max_size=6)


@given(rows, rows)
def test_every_sure_object_is_matched_or_missed(
    first: list[tuple[int, float, int]], second: list[tuple[int, float, int]]
) -> None:
    one, other = instances(*first), instances(*second)
    there, back = compare_instances([(one, other)]), compare_instances([(other, one)])
    assert there.instances == int((one.scores >= 0.3).sum())
    assert (there.spurious, back.spurious) == (back.missed, there.missed)


def test_images_are_looked_at_one_by_one() -> None:
    shown: list[int] = []

    def images() -> Iterable[np.ndarray]:
        for number in range(3):
            yield np.full((*SIZE, 3), number, np.uint8)

    def watch(image: np.ndarray) -> Instances:
        shown.append(int(image[0, 0, 0]))
        return TWO

    compare(watch, watch, images())
    assert shown == [0, 0, 1, 1, 2, 2]
