"""How far a quantized network is from the float one: the instances of both, matched and compared image by image.

Instances are matched by class and box, so that what is said of the masks is said of the same instances. Bases,
coefficients and blend show in the masks alone: boxes and scores can be perfect where every mask is wrong.

A graph has a fixed number of rows. Where all are taken, the next best instances are cut off, and the least rounding
decides which of those that score alike: an instance that the other network lacks counts only if it scores more than the
last row of that network by `SAME_SCORE`. A network that fills its rows with wrong instances is noticed by its spurious
instances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.instances import Instances

CONFIDENT = 0.3
"""Score from which an instance of one network must have its like among all those of the other."""
MATCH_IOU = 0.5
"""Least IoU of the boxes of one instance in two networks."""
SAME_SCORE = 0.05
"""Difference of scores that rounding may make; larger mean differences are worth a warning."""
LOW = 0.05
"""The quantile of the mask IoU that says how bad the bad masks are."""


@dataclass(frozen=True)
class Fidelity:
    """Agreement of a quantized network with the instances of the float network.

    Attributes:
        images: how many were looked at.
        matched: instances that the float network is sure of and the quantized one finds too, with whatever score.
        missed: instances that the float network is sure of and the quantized one does not find.
        spurious: instances that the quantized network is sure of and the float one does not find.
        score_drift: mean absolute difference of the scores of the matched; NaN where none is, as in what follows.
        box_iou: mean IoU of their boxes.
        mask_iou, mask_iou_low: mean and lower 5 % quantile of the IoU of their masks.
    """

    images: int
    matched: int
    missed: int
    spurious: int
    score_drift: float
    box_iou: float
    mask_iou: float
    mask_iou_low: float

    @property
    def instances(self) -> int:
        """Instances that the float network is sure of."""
        return self.matched + self.missed

    def record(self) -> dict[str, Any]:
        """The fields in JSON's types, without those that are not a number."""
        return {name: value for name, value in vars(self).items() if not math.isnan(value)}


def compare(
    reference: Predictor, candidate: Predictor, images: Iterable[NDArray[np.uint8]], rows: int | None = None
) -> Fidelity:
    """Show images to the float network and to a quantized one, and compare what they find.

    Args:
        reference, candidate: image to instances, such as a `NetworkPredictor` or a `MaskPredictor`.
        images: (H, W, 3) uint8 RGB each; some 16 suffice.
        rows: as of `compare_instances`.
    """
    return compare_instances(((reference(image), candidate(image)) for image in images), rows)


def compare_instances(
    pairs_of_instances: Iterable[tuple[Instances, Instances]], rows: int | None = None
) -> Fidelity:  # fmt: skip
    """Compare what the float network and a quantized one detect.

    Args:
        pairs_of_instances: of the float network and of the quantized one, for each image.
        rows: largest number of instances that they give in an image; None where nothing is cut off.
    """
    return total([compare_image(*pair, rows) for pair in pairs_of_instances])


def total(images: Sequence[ComparedImage]) -> Fidelity:
    """Sum the comparisons of all images."""
    pairs = np.concatenate([np.empty((0, 3)), *(image.pairs for image in images)])
    drift, box_iou, mask_iou = pairs.mean(axis=0).tolist() if len(pairs) else (math.nan,) * 3
    low = float(np.quantile(pairs[:, 2], LOW)) if len(pairs) else math.nan
    missed, spurious = (sum(getattr(image, name) for image in images) for name in ("missed", "spurious"))
    return Fidelity(len(images), len(pairs), missed, spurious, drift, box_iou, mask_iou, low)


@dataclass(frozen=True)
class ComparedImage:
    """One image: score difference, box IoU and mask IoU (N, 3) of the matched, and numbers of the others."""

    pairs: NDArray[np.float64]
    missed: int
    spurious: int


def compare_image(reference: Instances, candidate: Instances, rows: int | None = None) -> ComparedImage:
    """Compare what both networks detect in one image; see `compare_instances`."""
    overlaps = _box_overlaps(reference, candidate)
    overlaps[reference.class_ids[:, None] != candidate.class_ids] = 0
    sure = int((reference.scores >= CONFIDENT).sum())
    matched, partners = _match(overlaps[:sure])
    claimed = int((candidate.scores >= CONFIDENT).sum())
    claims, _ = _match(overlaps.T[:claimed])
    drift = np.abs(reference.scores[matched] - candidate.scores[partners])
    ious = overlaps[matched, partners], _mask_overlaps(reference[matched], candidate[partners])
    pairs = np.stack([drift, *ious], axis=1).astype(np.float64)
    missed = _lacking(reference.scores[:sure], matched, _cut(candidate, rows))
    return ComparedImage(pairs, missed, _lacking(candidate.scores[:claimed], claims, _cut(reference, rows)))


def _cut(instances: Instances, rows: int | None) -> float:
    """Score up to which rounding decides what is among the instances; below 0 where rows are left."""
    return float(instances.scores[-1]) + SAME_SCORE if rows is not None and len(instances) >= rows else -1.0


def _lacking(scores: NDArray[np.float32], matched: Sequence[int], cut: float) -> int:
    """Number of instances without a partner that score more than what is cut off."""
    return int((np.delete(scores, matched) > cut).sum())


def _match(overlaps: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Each row in turn takes the column that overlaps it most among those left, if that overlaps enough."""
    rows, columns, left = [], [], overlaps.copy()
    for row in range(len(left) if left.size else 0):
        column = int(left[row].argmax())
        if left[row, column] >= MATCH_IOU:
            rows.append(row)
            columns.append(column)
            left[:, column] = 0
    return rows, columns


def _box_overlaps(first: Instances, second: Instances) -> NDArray[np.float64]:
    """IoU (N, M) of the boxes."""
    sides = [np.concatenate([i.boxes[:, :2], i.boxes[:, 2:] - i.boxes[:, :2]], axis=1) for i in (first, second)]
    if not (len(first) and len(second)):
        return np.zeros((len(first), len(second)))
    return np.asarray(rle_codec.iou(*(side.astype(np.float64) for side in sides), [0] * len(second)))


def _mask_overlaps(first: Instances, second: Instances) -> NDArray[np.float64]:
    """IoU (N,) of the masks row by row; 1 where both are empty."""
    overlaps = np.ones(len(first))
    for row, (one, other) in enumerate(zip(first.rles(), second.rles(), strict=True)):
        if rle_codec.area(one) or rle_codec.area(other):
            overlaps[row] = rle_codec.iou([one], [other], [0])[0, 0]
    return overlaps
