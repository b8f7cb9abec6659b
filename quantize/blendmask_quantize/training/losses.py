"""The five training losses, under their reference names.

Follows ``adet/modeling/fcos/fcos_outputs.py``, ``adet/layers/iou_loss.py``, ``adet/modeling/blendmask/blender.py`` and
``basis_module.py``. Every loss is computed in float32 at least, whatever the autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.attention import attention_at
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.training.loss_options import REFERENCE, LossOptions
from blendmask_quantize.training.targets import InstanceTargets, Targets

ReduceMean: TypeAlias = Callable[[Tensor], Tensor]
"""The mean of a tensor over all processes; carries no gradient."""

Attention: TypeAlias = Callable[[Tensor], Tensor]
"""From ascending rows of the targets, (P,) int64, to their attention vectors (P, K * M * M), or (P, 0) without."""

_SEMANTIC_STRIDE = 8  # input pixels per location of the semantic logits
_SMALLEST_CENTERNESS_SUM = 1e-6


def single_process(value: Tensor) -> Tensor:
    """Return the value: the mean over one process."""
    return value


def attention_of(top_layer: nn.Conv2d | None, towers: Sequence[Tensor], targets: Targets) -> Attention:
    """Bind the top layer to one step's towers; it is evaluated only at the rows asked for, with one call a level."""
    return partial(_gather_attention, top_layer, towers, targets)


def training_losses(
    predictions: Predictions,
    targets: Targets,
    instances: InstanceTargets,
    semantic: Tensor | None,
    attention: Attention,
    options: LossOptions = REFERENCE,
    *,
    reduce_mean: ReduceMean = single_process,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Return the scalar losses by name; the training objective is their plain sum.

    Args:
        predictions: of the network in training mode.
        targets: of the same levels and images.
        instances: every instance of the batch, numbered as in ``targets.instance_index``.
        semantic: (N, H, W) integer map at network input size, 0 for nothing, else class + 1. None leaves out
            ``loss_basis_sem``.
        attention: the step's top layer, see `attention_of`.
        options: weights and sampling.
        reduce_mean: averages the normalizers over the processes.
        generator: draws the mask positives; on the CPU. None uses torch's default.

    Raises:
        ConfigError: a semantic map is given but the network returned no semantic logits.
    """
    positives = targets.positives
    quality = targets.centerness[positives]
    num_positives, quality_sum = _normalizers(quality, reduce_mean)
    regression = _flatten(predictions.regression)[positives]
    centerness = _at_least_float32(_flatten(predictions.centerness)[positives, 0])
    classification = focal_loss(_flatten(predictions.logits), targets.labels, options.focal_alpha, options.focal_gamma)
    centerness_sum = F.binary_cross_entropy_with_logits(centerness, quality.to(centerness), reduction="sum")
    rows, scale = _draw(positives, options.mask_positives, generator)
    logits, ground_truth, weight = _masks_at(predictions.bases, targets, instances, attention, rows)
    losses = {
        "loss_fcos_cls": classification / num_positives,
        "loss_fcos_loc": location_loss(regression, targets.regression[positives], quality) / quality_sum,
        "loss_fcos_ctr": centerness_sum / num_positives,
        "loss_mask": mask_loss(logits, ground_truth, weight) * scale / quality_sum,
    }
    if options.dice_weight:
        losses["loss_dice"] = options.dice_weight * dice_loss(logits, ground_truth, weight) * scale / quality_sum
    if semantic is not None:
        losses["loss_basis_sem"] = options.semantic_weight * _semantic_loss(predictions.semantic, semantic)
    return losses


def focal_loss(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sum the sigmoid focal loss of (T, classes) logits, in float32; the label ``classes`` is background."""
    one_hot = torch.zeros((len(labels), logits.shape[1] + 1), dtype=torch.float32, device=logits.device)
    one_hot[torch.arange(len(labels), device=logits.device), labels] = 1
    total: Tensor = sigmoid_focal_loss(logits.float(), one_hot[:, :-1], alpha, gamma, reduction="sum")
    return total


def location_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum weight * (1 - GIoU) over P boxes given as distances (P, 4) left, top, right, bottom in strides.

    As in the reference, one is added to intersection and union of the IoU, but not in the hull term.
    """
    predicted = _at_least_float32(predicted)
    target = target.to(predicted)
    intersection = _area(torch.minimum(predicted, target))
    union = _area(predicted) + _area(target) - intersection
    hull = _area(torch.maximum(predicted, target))
    giou = (intersection + 1) / (union + 1) - (hull - union) / hull
    return (weight * (1 - giou)).sum()


def _area(distances: Tensor) -> Tensor:
    return (distances[:, 0] + distances[:, 2]) * (distances[:, 1] + distances[:, 3])


def _normalizers(quality: Tensor, reduce_mean: ReduceMean) -> tuple[Tensor, Tensor]:
    """The number of positives and the sum of their centerness, averaged over the processes in one exchange."""
    count = torch.full_like(quality.sum(), len(quality))
    num_positives, quality_sum = reduce_mean(torch.stack([count, quality.sum()])).unbind()
    return num_positives.clamp(min=1), quality_sum.clamp(min=_SMALLEST_CENTERNESS_SUM)


def _draw(positives: Tensor, limit: int | None, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """At most ``limit`` of the rows, ascending, and what makes their sum stand for all of them."""
    if limit is None or len(positives) <= limit:
        return positives, 1.0
    sampled = torch.randperm(len(positives), generator=generator)[:limit].sort().values
    return positives[sampled.to(positives.device)], len(positives) / limit


def _gather_attention(top_layer: nn.Conv2d | None, towers: Sequence[Tensor], targets: Targets, rows: Tensor) -> Tensor:
    # Rows ascend and the targets are ordered by level, so the levels' results follow each other.
    of_level = [rows[targets.level[rows] == level] for level in range(len(towers))]
    return torch.cat(
        [
            attention_at(top_layer, tower, targets.image[here], targets.y[here], targets.x[here])
            for tower, here in zip(towers, of_level, strict=True)
        ]
    )


def mask_loss(logits: Tensor, ground_truth: Tensor, weight: Tensor) -> Tensor:
    """Sum weight (P,) * mean cross-entropy between blended logits and true masks (P, R, R)."""
    error = F.binary_cross_entropy_with_logits(logits, ground_truth.to(logits), reduction="none")
    return (error.mean(dim=(1, 2)) * weight).sum()


def dice_loss(logits: Tensor, ground_truth: Tensor, weight: Tensor) -> Tensor:
    """Sum weight (P,) * (1 - Dice overlap) of blended probabilities and true masks (P, R, R), in float32."""
    probability = _at_least_float32(logits).sigmoid()
    shared = (probability * ground_truth).sum(dim=(1, 2))
    sizes = probability.square().sum(dim=(1, 2)) + ground_truth.sum(dim=(1, 2))
    return (weight * (1 - (2 * shared + 1) / (sizes + 1))).sum()


def _masks_at(
    bases: Tensor, targets: Targets, instances: InstanceTargets, attention: Attention, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Blended logits and true masks (P, R, R) of the rows, and their centerness (P,)."""
    index = targets.instance_index[rows]
    side = instances.masks.shape[-1]
    if len(rows) == 0:
        nothing = bases.sum() * 0
        return nothing.expand(1, side, side), instances.masks.new_zeros(1, side, side), nothing.detach()[None]
    pooled = pool_bases(bases, instances.boxes, instances.image, side)
    vectors = attention(rows)
    logits = blend(pooled[index], vectors, math.isqrt(vectors.shape[1] // bases.shape[1]))
    return logits, instances.masks[index], targets.centerness[rows]


def _semantic_loss(logits: Tensor | None, semantic: Tensor) -> Tensor:
    if logits is None:
        raise ConfigError(
            "a semantic target was given but the predictions hold no semantic logits: put the network in training "
            "mode, or pass semantic=None for a network without the semantic head"
        )
    locations = semantic[:, ::_SEMANTIC_STRIDE, ::_SEMANTIC_STRIDE].long()
    return F.cross_entropy(_at_least_float32(logits), locations)


def _flatten(levels: Sequence[Tensor]) -> Tensor:
    """Join (N, C, h, w) maps into (T, C) rows, in the order of `Targets`."""
    return torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels])


def _at_least_float32(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float64 else value.float()
