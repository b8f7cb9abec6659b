"""The criterion of training with quantizers: mask AP on images that were not trained on."""

from __future__ import annotations

from torch import nn

from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.runs.progress import OnStep, ignore
from blendmask_quantize.validation.graph_predictor import PredictorOf


class MaskCriterion:
    """Mask AP of the variants on held-out images.

    Args:
        predictor_of: makes a predictor of a network.
        held_out: the images with their instances.
        on_image: called after each image and variant.
    """

    def __init__(self, predictor_of: PredictorOf, held_out: AnnotatedImages, on_image: OnStep = ignore) -> None:
        self.predictor_of, self.held_out, self.on_image = predictor_of, held_out, on_image

    def __call__(self, calibrated: Calibrated) -> dict[str, float]:
        """Mask AP, 0..1, by variant."""
        return {variant: self._mask_ap(calibrated.render(variant)) for variant in VARIANTS}

    def _mask_ap(self, network: nn.Module) -> float:
        return evaluate(self.predictor_of(network), self.held_out, self.on_image)["mask_ap"]
