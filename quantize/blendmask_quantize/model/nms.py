"""Class-wise non-maximum suppression, three ways.

- batched: greedy, each box against the survivors above it (AdelaiDet `layers/ml_nms.py`);
- cluster: the same result by passes over a matrix of overlaps, repeated until nothing changes (Zheng et al., "Enhancing
  Geometric Factors in Model Learning and Inference", 2020);
- fast: one such pass, so a suppressed box still suppresses others (YOLACT, Bolya et al., ICCV 2019, section 5).

The deployable graph makes a fixed number of passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import InferenceConfig

FAST_ROUNDS = 1
"""Passes of Fast NMS."""


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, kind: str = "batched") -> Tensor:
    """Indices kept by suppression within each class, by descending score.

    Args:
        boxes: (P, 4), x0 y0 x1 y1.
        scores, classes: (P,).
        threshold: intersection over union above which the lower score is dropped; 0 or less keeps every box.
        kind: "batched", "fast" or "cluster".

    Raises:
        ConfigError: an unknown kind.
    """
    method = suppression(kind)
    if threshold <= 0 or len(boxes) == 0:
        return scores.argsort(descending=True, stable=True)
    return method(boxes, scores, classes, threshold)


def suppress_within(boxes: Tensor, scores: Tensor, classes: Tensor, config: InferenceConfig, rounds: int) -> Tensor:
    """Return the indices that the matrix form keeps after a number of passes, by descending score.

    Args:
        boxes, scores, classes: as for `suppress`.
        config: threshold and kind; "fast" makes one pass whatever `rounds` says.
        rounds: passes.
    """
    rounds = FAST_ROUNDS if config.nms == "fast" else rounds
    if config.nms_threshold <= 0 or len(boxes) == 0:
        return scores.argsort(descending=True, stable=True)
    return _by_matrix(boxes, scores, classes, config.nms_threshold, rounds)


def suppression(kind: str) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """The method that `InferenceConfig.nms` names: boxes, scores, classes and threshold to kept indices.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in _METHODS:
        raise ConfigError(f"unknown suppression {kind!r}: use {', '.join(_METHODS)}")
    return _METHODS[kind]


def suppression_rounds(hides: Tensor, rounds: int) -> Tensor:
    """Return which boxes survive, (1, P) of 0 and 1, after passes of the matrix form; Fast NMS is one pass.

    From all boxes, each pass keeps those that no box kept by the pass before hides. An even number of passes never
    loses a box that greedy suppression keeps; as many as there are boxes give its result.

    Args:
        hides: (P, P), 1 where the box of the row suppresses that of the column if it is kept itself; rows by descending
            score, so only above the diagonal.
        rounds: number of passes.
    """
    if rounds == 0:
        return torch.ones_like(hides[:1])
    keep, shows = F.relu(1 - hides.sum(dim=0, keepdim=True)), hides * -1
    for _ in range(rounds - 1):
        keep = F.relu(keep @ shows + 1)
    return keep


def _batched(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Boxes of different classes are moved apart by more than their common extent, in double precision, so that they
    never meet wherever they lie."""
    apart = boxes.double() - boxes.min().double()
    apart = apart + (classes.double() * (apart.max() + 1))[:, None]
    return nms(apart, scores.double(), threshold)


def _fast(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    return _by_matrix(boxes, scores, classes, threshold, FAST_ROUNDS)


def _cluster(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    return _by_matrix(boxes, scores, classes, threshold, None)


def _by_matrix(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, rounds: int | None) -> Tensor:
    """Passes over one matrix a class; None makes them until nothing changes."""
    order = scores.argsort(descending=True, stable=True)
    keep = torch.zeros_like(order, dtype=torch.bool)
    for class_id in classes.unique():
        mine = (classes[order] == class_id).nonzero()[:, 0]
        ours = boxes[order[mine]].double()
        hides = (box_iou(ours, ours) > threshold).float().triu(diagonal=1)
        survives = suppression_rounds(hides, rounds) if rounds is not None else _settled(hides)
        keep[mine] = survives[0] > 0
    return order[keep]


def _settled(hides: Tensor) -> Tensor:
    """As `suppression_rounds`, with as many passes as change something; a pass decides one box more at least."""
    keep = torch.ones_like(hides[:1])
    while not torch.equal(keep, following := F.relu(1 - keep @ hides)):
        keep = following
    return keep


_METHODS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "batched": _batched,
    "fast": _fast,
    "cluster": _cluster,
}
