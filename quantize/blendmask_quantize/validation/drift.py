"""The criterion of refinement: drift of quantized networks from the float one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from torch import nn

from blendmask_edge.evaluation.predictions import predict_images
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.refine.steps import Drift
from blendmask_quantize.validation.fidelity import compare_instances
from blendmask_quantize.validation.network_predictor import PredictorOf


class DriftCriterion:
    """Drift of quantized networks: the instances that they and the float network detect on some images, compared.

    Args:
        predictor_of: makes a predictor of a network.
        reference: the float network.
        images: preprocessed, uint8 (1, H, W, 3) RGB.
    """

    def __init__(self, predictor_of: PredictorOf, reference: nn.Module, images: Sequence[NDArray[np.uint8]]) -> None:
        self.predictor_of, self.frames = predictor_of, [image[0] for image in images]
        self.expected = list(predict_images(predictor_of(reference), self.frames))

    def __call__(self, calibrated: Calibrated) -> Drift | None:
        """The mean over the variants; None where there is no instance to compare."""
        compared = []
        for variant in VARIANTS:
            instances = predict_images(self.predictor_of(calibrated.render(variant)), self.frames)
            compared.append(compare_instances(zip(self.expected, instances, strict=True)))
        if not all(one.matched for one in compared):
            return None
        return Drift(
            masks=1 - fmean(one.mask_iou for one in compared),
            boxes=1 - fmean(one.box_iou for one in compared),
            scores=fmean(one.score_drift for one in compared),
        )
