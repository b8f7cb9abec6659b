"""The criterion of training with quantizers: mask AP on images that were not trained on."""

from __future__ import annotations

from torch import nn

from blendmask_edge.evaluation.average_precision import collect_results, score
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.runs.progress import OnStep, ignore
from blendmask_quantize.validation.graph_predictor import PredictorOf
from blendmask_quantize.validation.ground_truth import GroundTruth


class MaskCriterion:
    """Mask AP of the variants on held-out images.

    Args:
        predictor_of: makes a predictor of a network.
        ground_truth: the instances in the images.
        on_image: called after each image and variant.
    """

    def __init__(self, predictor_of: PredictorOf, ground_truth: GroundTruth, on_image: OnStep = ignore) -> None:
        self.predictor_of, self.ground_truth, self.on_image = predictor_of, ground_truth, on_image

    def __call__(self, calibrated: Calibrated) -> dict[str, float]:
        """Mask AP, 0..1, by variant."""
        return {variant: self._mask_ap(calibrated.render(variant)) for variant in VARIANTS}

    def _mask_ap(self, network: nn.Module) -> float:
        truth = self.ground_truth
        results = collect_results(self.predictor_of(network), truth.folder, truth.coco, truth.ids, self.on_image)
        return score(truth.coco, results, truth.ids)["mask_ap"]
