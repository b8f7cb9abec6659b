"""The teacher of a quantized network: its own float network, or a larger one with the same outputs."""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor, fx

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.distill_weights import DistillWeights
from blendmask_quantize.training.distillation import (
    Teacher,
    detection_distances,
    mask_distance,
    relative_distance,
)


class QatTeacher:
    """The teacher of a quantized network.

    Another network than its own float one teaches classes, centerness, boxes, bases and blended masks. Towers are
    compared only with the own network, whose channels are the same.

    Args:
        model: the network that is quantized, in float; gives normalization and top layer.
        network: the same, traced.
        other: the network to learn from instead, such as that before pruning.
    """

    def __init__(self, model: BlendMask, network: fx.GraphModule, other: Checkpoint | None = None) -> None:
        self.model = model
        self.own = Teacher(model, network)
        self.other = None if other is None else Teacher(other.model, trace_network(other.model))
        self.other_model = None if other is None else other.model

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return the input of the quantized network for pixels (N, 3, H, W), uint8 RGB."""
        return self.model.normalize(pixels)

    def losses(self, student: Predictions, pixels: Tensor, weights: DistillWeights) -> dict[str, Tensor]:
        """Return the scalar losses of a student's predictions for pixels (N, 3, H, W), by name, weighted."""
        self.own.to(pixels.device)
        if self.other is None or self.other_model is None:
            return self.own.losses(student, self.own(self.normalize(pixels)), weights)
        outputs = self.other.to(pixels.device)(self.other_model.normalize(pixels))
        masks = self.own.mask_logits(student, outputs.instances)
        distances = detection_distances(student, outputs) | {"masks": mask_distance(masks, outputs)}
        if student.bases.shape == outputs.predictions.bases.shape:
            distances["bases"] = relative_distance(student.bases, outputs.predictions.bases)
        names = [field.name for field in fields(weights) if field.name in distances]
        return {f"distill_{name}": getattr(weights, name) * distances[name] for name in names}
