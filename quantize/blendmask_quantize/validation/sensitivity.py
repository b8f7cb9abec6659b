"""The change by each layer or block of a network when it alone is quantized."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch

from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.predictions import Results
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.sensitivity.layers import Layer
from blendmask_quantize.quantization.sensitivity.partial import PartialRuns, quantized_only
from blendmask_quantize.runs.progress import OnStep
from blendmask_quantize.validation.fidelity import ComparedImage, Fidelity, compare_image, total
from blendmask_quantize.validation.ground_truth import GroundTruth
from blendmask_quantize.validation.network_predictor import PredictorOf

Groups = Mapping[str, Sequence[Layer]]
"""Layers that are quantized together, by name."""


@dataclass(frozen=True)
class Change:
    """The change when some layers are quantized and all others stay float; mean over the variants.

    Attributes:
        masks: mean of 1 - IoU of the blended masks, over the instances of the float network; 1 for a missed one.
        scores: mean absolute difference of the scores of matched instances, 0 to 1.
        missed, spurious: instances that are not detected, or that the float network does not detect; share of the
            instances of the float network.
        mask_ap: mask AP less that of the float network; None without labels.
        retention: mask AP over that of the float network; None without labels, or where the float network has none.
    """

    masks: float
    scores: float
    missed: float
    spurious: float
    mask_ap: float | None = None
    retention: float | None = None

    @property
    def total(self) -> float:
        """One number to rank layers by: masks, scores and spurious instances together."""
        return self.masks + self.scores + self.spurious

    @property
    def drop(self) -> float:
        """Share of the float network's mask AP that is lost; 0 where it is gained or was not measured."""
        return 0.0 if self.retention is None else max(1 - self.retention, 0.0)

    def record(self) -> dict[str, float]:
        """The fields that were measured, in JSON's types."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class _Trial:
    """Some layers in one variant, over the images so far."""

    nodes: frozenset[str]
    variant: str
    images: list[ComparedImage] = field(default_factory=list)
    results: Results = field(default_factory=list)


@torch.no_grad()
def measure_changes(
    calibrated: Calibrated, groups: Groups, predictor_of: PredictorOf, data: GroundTruth, variants: Sequence[str],
    on_trial: OnStep, *, rows: int | None = None, with_ap: bool = False,
) -> dict[str, Change]:  # fmt: skip
    """Quantize each group of layers alone, and compare the instances with those of the float network.

    Args:
        calibrated: weights and ranges.
        groups: of layers.
        predictor_of: makes a predictor of a network.
        data: images to compare on.
        variants: whose quantizers are used.
        on_trial: called after each image, group and variant.
        rows: largest number of instances that a predictor gives in an image; None where nothing is cut off.
        with_ap: also measure mask AP against the instances of `data`.

    Returns:
        The change by name of the group, in the order of `groups`.
    """
    runs = PartialRuns(calibrated.traced)
    predict = predictor_of(runs)
    trials = {name: [_Trial(_nodes(layers), variant) for variant in variants] for name, layers in groups.items()}
    expected: Results = []
    for number, frame in zip(data.ids, data.frames, strict=True):
        runs.choose(None)
        reference = predict(frame)
        expected += reference.to_coco(number) if with_ap else []
        for trial in (trial for several in trials.values() for trial in several):
            runs.choose(quantized_only(calibrated, trial.nodes, trial.variant))
            instances = predict(frame)
            trial.images.append(compare_image(reference, instances, rows))
            trial.results += instances.to_coco(number) if with_ap else []
            on_trial()
    float_ap = _mask_ap(data, expected) if with_ap else None
    return {name: _change(several, data, float_ap) for name, several in trials.items()}


def _nodes(layers: Sequence[Layer]) -> frozenset[str]:
    return frozenset(node for layer in layers for node in layer.nodes)


def _mask_ap(data: GroundTruth, results: Results) -> float:
    return score(data.coco, results, data.ids).get("mask_ap", 0.0)


def _change(trials: Sequence[_Trial], data: GroundTruth, float_ap: float | None) -> Change:
    compared = [_compared(total(trial.images)) for trial in trials]
    means = {name: fmean(one[name] for one in compared) for name in compared[0]}
    if float_ap is None:
        return Change(**means)
    mask_ap = fmean(_mask_ap(data, trial.results) for trial in trials)
    return Change(**means, mask_ap=mask_ap - float_ap, retention=mask_ap / float_ap if float_ap else None)


def _compared(fidelity: Fidelity) -> dict[str, float]:
    instances = max(fidelity.instances, 1)
    differing = 0.0 if math.isnan(fidelity.mask_iou) else fidelity.matched * (1 - fidelity.mask_iou)
    return {
        "masks": (differing + fidelity.missed) / instances,
        "scores": 0.0 if math.isnan(fidelity.score_drift) else fidelity.score_drift,
        "missed": fidelity.missed / instances,
        "spurious": fidelity.spurious / instances,
    }
