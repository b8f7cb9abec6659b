"""A network as teacher: its outputs for a batch, and the distances of a student from them.

Every loss is 0 where the student agrees. Distances of probabilities are Kullback-Leibler divergences (Hinton et
al., "Distilling the Knowledge in a Neural Network", 2015); what only instances matter for is compared at the locations
where the teacher sees one, as detectors are distilled best (Wang et al., "Distilling Object Detectors with Fine-grained
Feature Imitation", CVPR 2019).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from blendmask_quantize.model.attention import attention_at
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.detect import candidates, select
from blendmask_quantize.training.distill_weights import DistillWeights

_SMALLEST = 1e-6
DETECTIONS = 20
"""Instances of an image whose masks are compared, the teacher's surest."""


@dataclass(frozen=True)
class Instances:
    """Locations of a batch at which the teacher detects something, D of them.

    Attributes:
        level, image, y, x: (D,) int64.
        boxes: (D, 4), x0 y0 x1 y1, network input pixels.
        scores: (D,).
    """

    level: Tensor
    image: Tensor
    y: Tensor
    x: Tensor
    boxes: Tensor
    scores: Tensor


@dataclass(frozen=True)
class TeacherOutputs:
    """The outputs of the teacher for one batch.

    Attributes:
        predictions: raw outputs.
        positives: (P,) int64 rows, levels joined as (level, image, row-major), where some class passes the threshold.
        quality: (P,), their probability of the likeliest class times centerness.
        instances: detections after suppression.
        mask_logits: (D, R, R), their blended masks.
    """

    predictions: Predictions
    positives: Tensor
    quality: Tensor
    instances: Instances
    mask_logits: Tensor


class Teacher(nn.Module):
    """The float network, and the top layer that teacher and student share; both are copies without gradient.

    Args:
        model: gives configuration and top layer.
        network: normalized batch to `Predictions`, float.
    """

    def __init__(self, model: BlendMask, network: fx.GraphModule) -> None:
        super().__init__()
        self.config = model.config
        self.network = copy.deepcopy(network)
        self.top_layer = copy.deepcopy(model.top_layer)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> TeacherOutputs:
        """Return the outputs for a normalized batch (N, 3, H, W)."""
        return teacher_outputs(self.network(x), self.top_layer, self.config)

    def losses(self, student: Predictions, outputs: TeacherOutputs, weights: DistillWeights) -> dict[str, Tensor]:
        """Return the scalar losses of a student's predictions for the same batch, by name, weighted."""
        masks = self.mask_logits(student, outputs.instances)
        terms = distances(student, outputs, masks)
        return {f"distill_{f.name}": getattr(weights, f.name) * terms[f.name] for f in fields(weights)}

    def mask_logits(self, predictions: Predictions, instances: Instances) -> Tensor:
        """Return blended mask logits (D, R, R) in the boxes of `instances`, from the attention at their locations."""
        return blended_masks(predictions, instances, self.top_layer, self.config)


@torch.no_grad()
def teacher_outputs(predictions: Predictions, top_layer: nn.Conv2d | None, config: ModelConfig) -> TeacherOutputs:
    """Return what a student compares itself with, from the predictions of its teacher.

    Args:
        predictions: of the teacher.
        top_layer: of the teacher.
        config: of the teacher.
    """
    probability = flatten(predictions.logits).sigmoid().amax(dim=1)
    quality = probability * flatten(predictions.centerness)[:, 0].sigmoid()
    positives = torch.nonzero(quality > config.inference.score_threshold).flatten()
    instances = _instances(predictions, config)
    logits = blended_masks(predictions, instances, top_layer, config)
    return TeacherOutputs(predictions, positives, quality[positives], instances, logits)


def _instances(predictions: Predictions, config: ModelConfig) -> Instances:
    parts = []
    for image in range(len(predictions.bases)):
        one = _image(predictions, image)
        selected = select(candidates(one, config.head.strides, config.inference), config.inference)
        selected = selected[torch.arange(min(len(selected.scores), DETECTIONS), device=selected.level.device)]
        width = selected.level.new_tensor([logits.shape[-1] for logits in one.logits])[selected.level]
        here = torch.full_like(selected.level, image)
        row, column = selected.location // width, selected.location % width
        parts.append(Instances(selected.level, here, row, column, selected.boxes, selected.scores))
    return Instances(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Instances)))


def blended_masks(
    predictions: Predictions, instances: Instances, top_layer: nn.Conv2d | None, config: ModelConfig
) -> Tensor:
    """Return blended mask logits (D, R, R) in the boxes of `instances`, from the attention at their locations.

    Args:
        predictions: of a network.
        instances: locations and boxes of the same batch.
        top_layer: of that network.
        config: of that network.
    """
    pooled = pool_bases(predictions.bases, instances.boxes, instances.image, config.resolution)
    attention = _attention(top_layer, predictions.towers, instances)
    return blend(pooled, attention.float(), config.attention_size)


def distances(student: Predictions, outputs: TeacherOutputs, mask_logits: Tensor) -> dict[str, Tensor]:
    """Return scalar distances from the teacher, named as in `DistillWeights`; each is 0 where both agree.

    Args:
        student: predictions for the same batch.
        outputs: of the teacher.
        mask_logits: (D, R, R), the student's blended masks of the teacher's instances.
    """
    teacher, rows = outputs.predictions, outputs.positives
    tower = flatten(teacher.towers)[rows]
    return {
        **detection_distances(student, outputs),
        "towers": _relative_square(flatten(student.towers)[rows] - tower, tower),
        "bases": relative_distance(student.bases, teacher.bases),
        "masks": mask_distance(mask_logits, outputs),
    }


def detection_distances(student: Predictions, outputs: TeacherOutputs) -> dict[str, Tensor]:
    """Return distances of classes, centerness and boxes, which networks of any two architectures have in common."""
    teacher, rows, quality = outputs.predictions, outputs.positives, outputs.quality
    centerness, regression = (
        (flatten(getattr(student, name))[rows], flatten(getattr(teacher, name))[rows])
        for name in ("centerness", "regression")
    )
    return {
        "classes": divergence(flatten(student.logits), flatten(teacher.logits)).sum() / max(len(rows), 1),
        "centerness": _mean(divergence(*centerness)[:, 0], quality),
        "boxes": _mean(_box_loss(*regression), quality),
    }


def mask_distance(mask_logits: Tensor, outputs: TeacherOutputs) -> Tensor:
    """Return the divergence of a student's blended masks (D, R, R) from those of the teacher's instances."""
    return _mean(divergence(mask_logits, outputs.mask_logits).mean(dim=(1, 2)), outputs.instances.scores)


def relative_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of two maps (N, C, h, w), relative to the variance of the teacher's."""
    return _relative_square(student - teacher, teacher - teacher.mean(dim=(0, 2, 3), keepdim=True))


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of Bernoulli logits, elementwise; its gradient is p - q."""
    target = teacher.sigmoid()
    cross = F.binary_cross_entropy_with_logits(student, target, reduction="none")
    return cross - F.binary_cross_entropy_with_logits(teacher, target, reduction="none")


def flatten(levels: Sequence[Tensor]) -> Tensor:
    """Join (N, C, h, w) maps into float32 rows (T, C), in the order level, image, row-major."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2).float() for level in levels])


def _image(predictions: Predictions, image: int) -> Predictions:
    here = slice(image, image + 1)
    logits, regression, centerness, towers = (tuple(level[here] for level in part) for part in predictions[:4])
    return Predictions(logits, regression, centerness, towers, predictions.bases[here], None)


def _attention(top_layer: nn.Conv2d | None, towers: Sequence[Tensor], instances: Instances) -> Tensor:
    vectors = towers[0].new_zeros((len(instances.level), 0 if top_layer is None else top_layer.out_channels))
    for level, tower in enumerate(towers):
        mine = instances.level == level
        vectors[mine] = attention_at(top_layer, tower, instances.image[mine], instances.y[mine], instances.x[mine])
    return vectors


def _box_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - GIoU (P,) of distances left, top, right, bottom (P, 4); 0 where the teacher's box has no area."""
    sign = torch.tensor([-1.0, -1.0, 1.0, 1.0], device=student.device)
    loss: Tensor = generalized_box_iou_loss(student * sign, teacher * sign)
    solid = (teacher[:, 0] + teacher[:, 2]) * (teacher[:, 1] + teacher[:, 3]) > 0
    return loss * solid


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=_SMALLEST)


def _relative_square(difference: Tensor, reference: Tensor) -> Tensor:
    return difference.square().sum() / reference.square().sum().clamp(min=_SMALLEST)
