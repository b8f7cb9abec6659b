"""A student network beside its teacher: adapters between their features, and the losses between their outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.pyramid import Features
from blendmask_quantize.training.distill_weights import StudentWeights
from blendmask_quantize.training.distillation import (
    TeacherOutputs,
    blended_masks,
    detection_distances,
    mask_distance,
    relative_distance,
    teacher_outputs,
)
from blendmask_quantize.training.samples import Batch


class StudentNetwork(nn.Module):
    """The student with a 1x1 adapter for each feature map that is compared, from its channels to the teacher's.

    Args:
        student: the network.
        teacher: gives the channels.
        semantic: whether the semantic head, which learns from labels only, is evaluated.
    """

    def __init__(self, student: BlendMask, teacher: BlendMask, *, semantic: bool = False) -> None:
        super().__init__()
        self.student, self.semantic = student, semantic
        pairs = zip(_map_widths(student), _map_widths(teacher), strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in pairs)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Predictions]:
        """Return adapted maps, and predictions, of a normalized batch (N, 3, H, W)."""
        features = self.student.backbone(x)
        adapted = [adapter(map_) for adapter, map_ in zip(self.adapters, _maps(features), strict=True)]
        semantic = self.student.basis_module.semantic(features.levels[0]) if self.semantic else None
        return adapted, self.student.predictions(features)._replace(semantic=semantic)


class TeacherNetwork:
    """A copy of a trained network that does not change.

    Args:
        model: the network.
    """

    def __init__(self, model: BlendMask) -> None:
        self._model = copy.deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Features, TeacherOutputs]:
        """Return the features of a batch and the outputs, computed on its device."""
        model = self._model.to(batch.pixels.device)
        features = model.backbone(model.normalize(batch.pixels))
        return features, teacher_outputs(model.predictions(features), model.top_layer, model.config)


def student_losses(
    adapted: Sequence[Tensor], predictions: Predictions, student: BlendMask, teacher: tuple[Features, TeacherOutputs],
    weights: StudentWeights,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the scalar distances of a student from its teacher, by name, weighted; each is 0 where both agree.

    Args:
        adapted: feature maps of the student, in the teacher's channels.
        predictions: of the student.
        student: gives top layer and configuration.
        teacher: features and outputs for the same batch.
        weights: factors of the losses.
    """
    features, outputs = teacher
    masks = blended_masks(predictions, outputs.instances, student.top_layer, student.config)
    distances = [relative_distance(*pair) for pair in zip(adapted, _maps(features), strict=True)]
    terms = {
        "features": torch.stack(distances).mean(),
        **detection_distances(predictions, outputs),
        "masks": mask_distance(masks, outputs),
    }
    return {f"distill_{f.name}": getattr(weights, f.name) * terms[f.name] for f in fields(weights)}


def check_teacher(student: ModelConfig, teacher: Checkpoint) -> None:
    """See that every output of a student has its counterpart.

    Args:
        student: the network that learns.
        teacher: the trained network.

    Raises:
        ConfigError: they have other classes, pyramid levels or mask resolutions.
    """
    of_teacher = teacher.config
    for what, own, wanted in (
        ("classes", student.num_classes, of_teacher.num_classes),
        ("strides", student.head.strides, of_teacher.head.strides),
        ("a mask resolution of", student.resolution, of_teacher.resolution),
    ):
        if own != wanted:
            raise ConfigError(
                f"{teacher.path} cannot teach {student.name}: it has {what} {wanted}, the student {own}; name a "
                "configuration with the same"
            )


def _maps(features: Features) -> tuple[Tensor, ...]:
    return (features.fine, *features.levels)


def _map_widths(model: BlendMask) -> list[int]:
    """Channels of the compared maps, also of a pruned network."""
    side = max(model.config.input.divisor, *model.config.head.strides)
    backbone = copy.deepcopy(model.backbone).to("meta").eval()
    return [map_.shape[1] for map_ in _maps(backbone(torch.empty((1, 3, side, side), device="meta")))]
