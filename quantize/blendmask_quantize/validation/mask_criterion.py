"""The criterion of training with quantizers: instances on images that were not trained on, matched for mask AP."""

from __future__ import annotations

from torch import nn

from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_edge.evaluation.predictions import predict_annotated
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.runs.progress import OnStep, ignore
from blendmask_quantize.validation.network_predictor import PredictorOf


class MaskCriterion:
    """Match the instances that the variants detect in held-out images.

    Args:
        predictor_of: makes a predictor of a network.
        held_out: the images with their instances.
        on_image: called after each image and variant.
    """

    def __init__(self, predictor_of: PredictorOf, held_out: AnnotatedImages, on_image: OnStep = ignore) -> None:
        self.predictor_of, self.held_out, self.on_image = predictor_of, held_out, on_image

    def __call__(self, calibrated: Calibrated) -> dict[str, Matches]:
        """Match the instances of each variant with those of the images; `Matches` gives mask AP, 0 to 1."""
        return {variant: self._match(calibrated.render(variant)) for variant in VARIANTS}

    def _match(self, network: nn.Module) -> Matches:
        results = predict_annotated(self.predictor_of(network), self.held_out, self.on_image)
        return Matches.of(self.held_out.coco, results, self.held_out.ids)
