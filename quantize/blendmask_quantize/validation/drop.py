"""The share of the float network's mask AP that a quantized network loses."""

from __future__ import annotations

from torch import nn

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.average_precision import score
from blendmask_quantize.runs.progress import OnStep, ignore
from blendmask_quantize.validation.ground_truth import GroundTruth
from blendmask_quantize.validation.network_predictor import PredictorOf


class DropCriterion:
    """Mask AP that networks lose against the float one, on held-out images.

    Args:
        predictor_of: makes a predictor of a network.
        float_network: the reference.
        data: the images and their instances.
        on_image: called after each image and network.

    Raises:
        AnnotationError: the float network does not detect any of the instances.
    """

    def __init__(
        self, predictor_of: PredictorOf, float_network: nn.Module, data: GroundTruth, on_image: OnStep = ignore
    ) -> None:
        self.predictor_of, self.data, self.on_image = predictor_of, data, on_image
        self.float_ap = self._mask_ap(float_network)
        if self.float_ap <= 0:
            raise AnnotationError(
                f"the float network has a mask AP of 0 on {len(data.frames)} held-out images, so no drop can be "
                "measured: give the annotations of these images, of the classes that the network knows"
            )

    def __call__(self, network: nn.Module) -> float:
        """Mask AP lost, as a share of that of the float network; below 0 where it is gained."""
        return 1 - self._mask_ap(network) / self.float_ap

    def _mask_ap(self, network: nn.Module) -> float:
        results = self.data.results(self.predictor_of(network), self.on_image)
        return score(self.data.coco, results, self.data.ids)["mask_ap"]
