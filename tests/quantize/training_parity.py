"""How closely one training step agrees with the reference's: stages in training mode, losses, gradients.

Free of the test runner, so that a study can publish the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.training.loop import freeze
from blendmask_quantize.training.losses import Attention, attention_of, location_loss, training_losses
from blendmask_quantize.training.targets import InstanceTargets, Targets, assign
from tests.quantize.parity import Agreement, Arrays, Reference, Tolerance, compare, features

CASES = ("r50", "rt_bnhead")
LOSSES = Tolerance(1e-5, 1e-7)
GRADIENTS = Tolerance(1e-2, 1e-6)
_LEAST_GRADIENT = 1e-8


def unpack(bits: np.ndarray, shape: np.ndarray) -> Tensor:
    """Booleans of the given shape from bits packed in C order."""
    return torch.from_numpy(np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool))


@dataclass(frozen=True)
class TrainingReference(Reference):
    """One case's batch of two images."""

    @cached_property
    def stored(self) -> Arrays:
        """Stage outputs in training mode, as they lie in the file."""
        return dict(np.load(self.folder / "training/forward.npz"))

    @cached_property
    def about(self) -> dict[str, Any]:
        """Losses, and shape and largest magnitude of every array."""
        return self.json("training/meta.json")

    @cached_property
    def arrays(self) -> Arrays:
        """The recorded targets."""
        return dict(np.load(self.folder / "training/targets.npz"))

    @property
    def gradients(self) -> dict[str, dict[str, Any]]:
        """What was recorded of the gradient of each parameter that is not frozen."""
        grads = self.json("training/grads.json")
        return {name: about for name, about in grads.items() if about.get("grad", "") is not None}

    @property
    def head(self) -> dict[str, Any]:
        """The detector's keys of the configuration."""
        return self.json("config.json")["MODEL"]["FCOS"]

    @property
    def boxes(self) -> list[Tensor]:
        """(M, 4) of each image."""
        return [torch.from_numpy(self.arrays[f"img{i}.gt_boxes"]) for i in range(2)]

    @property
    def classes(self) -> list[Tensor]:
        """(M,) of each image."""
        return [torch.from_numpy(self.arrays[f"img{i}.gt_classes"]).long() for i in range(2)]

    @property
    def bitmaps(self) -> list[Tensor]:
        """(M, h, w) masks of each resized image."""
        return [unpack(self.arrays[f"img{i}.gt_masks_packed"], self.arrays[f"img{i}.gt_masks_shape"]) for i in range(2)]

    @property
    def object_masks(self) -> Tensor:
        """(12, 56, 56) mask targets."""
        return unpack(self.arrays["mask_targets_packed"], self.arrays["mask_targets_shape"])

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each level."""
        return [(-(-288 // stride),) * 2 for stride in self.head["FPN_STRIDES"]]

    def assigned(self) -> Targets:
        """Our targets of the recorded instances."""
        head = self.head
        bounds = head["SIZES_OF_INTEREST"]
        return assign(self.boxes, self.classes, self.level_sizes, head["FPN_STRIDES"], bounds, head["NUM_CLASSES"])

    def instances(self) -> InstanceTargets:
        """The recorded instances with the recorded masks."""
        split = self.object_masks.split([len(boxes) for boxes in self.boxes])
        return InstanceTargets.from_images(self.boxes, split)

    def semantic(self) -> Tensor:
        """(2, 288, 288), padded with background."""
        padded = torch.zeros((2, 288, 288), dtype=torch.int64)
        for i in range(2):
            part = torch.from_numpy(self.arrays[f"img{i}.sem_target"])
            padded[i, : part.shape[0], : part.shape[1]] = part
        return padded

    def network_input(self, model: BlendMask) -> Tensor:
        """(2, 3, 288, 288): each image normalized, then padded with zeros."""
        images = np.load(self.folder.parent / "training_data/images.npz")
        padded = []
        for index in range(2):
            rgb = torch.from_numpy(images[f"img{index}.bgr_resized"][..., ::-1].copy()).permute(2, 0, 1)[None]
            padding = (0, 288 - rgb.shape[3], 0, 288 - rgb.shape[2])
            padded.append(F.pad(model.normalize(rgb), padding))
        return torch.cat(padded)


@dataclass(frozen=True)
class TrainedStep:
    """A network after one forward and backward of the recorded batch.

    Attributes:
        losses: by name.
        state: parameters with their gradients, and buffers.
        forward: stage outputs by their recorded names.
    """

    losses: dict[str, Tensor]
    state: dict[str, Tensor]
    forward: Arrays


def train_one_step(reference: TrainingReference, dtype: torch.dtype) -> TrainedStep:
    """One step of the case's network on the recorded batch, without an update."""
    model = reference.model(dtype).train()
    freeze(model)
    forward, predictions = features(model, reference.network_input(model))
    targets, instances = reference.assigned(), reference.instances()
    attention = attention_of(model.top_layer, predictions.towers, targets)
    losses = training_losses(predictions, targets, instances, reference.semantic(), attention)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    forward |= _positives(predictions, targets, instances, attention, model.config.attention_size)
    return TrainedStep(losses, model.state_dict(keep_vars=True), forward)


def training_agreements(reference: TrainingReference, dtype: torch.dtype) -> list[Agreement]:
    """Run one step and compare every stage, loss and gradient norm."""
    step = train_one_step(reference, dtype)
    result = [compare(reference, stage, ours, dtype) for stage, ours in step.forward.items()]
    for name, wanted in reference.about["losses_f64"].items():
        result.append(_relative(f"losses.{name}", step.losses[name], wanted, LOSSES, dtype))
    for name, about in reference.gradients.items():
        gradient = step.state[name].grad
        if gradient is not None and about["l2"] >= _LEAST_GRADIENT:
            result.append(_relative(f"gradients.{name}", gradient.norm(), about["l2"], GRADIENTS, dtype))
    return result


def _relative(stage: str, result: Tensor, wanted: float, tolerance: Tolerance, dtype: torch.dtype) -> Agreement:
    allowed = tolerance.double if dtype == torch.float64 else tolerance.single
    return Agreement(stage, abs(result.item() - wanted) / abs(wanted), allowed)


@torch.no_grad()
def _positives(
    predictions: Predictions, targets: Targets, instances: InstanceTargets, attention: Attention, size: int
) -> Arrays:
    """Overlap, blended mask and its mean cross-entropy at every positive location."""
    rows = targets.positives
    regression = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in predictions.regression])[rows]
    ones = torch.ones(1, dtype=regression.dtype)
    apart = [
        location_loss(ours[None], wanted[None], ones)
        for ours, wanted in zip(regression, targets.regression[rows], strict=True)
    ]
    index = targets.instance_index[rows]
    pooled = pool_bases(predictions.bases, instances.boxes, instances.image, instances.masks.shape[-1])
    logits = blend(pooled[index], attention(rows), size)
    ground_truth = instances.masks[index].to(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, ground_truth, reduction="none").mean(dim=(1, 2))
    numbers = {"giou": 1 - torch.stack(apart), "mask_logits": logits.flatten(1), "mask_bce_mean": entropy}
    return {f"pos.{name}": value.numpy() for name, value in numbers.items()}
