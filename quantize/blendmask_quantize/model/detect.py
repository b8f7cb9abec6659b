"""From raw predictions to detections: decode, select, suppress, blend (AdelaiDet `modeling/fcos/fcos_outputs.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_quantize.model.attention import attention_at
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import InferenceConfig
from blendmask_quantize.model.nms import suppress


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image, P of them; network input pixels.

    Attributes:
        level, location, class_id: (P,) int64; the location is row-major within its level.
        scores: (P,), square root of class probability times centerness.
        boxes: (P, 4), x0 y0 x1 y1.
    """

    level: Tensor
    location: Tensor
    class_id: Tensor
    scores: Tensor
    boxes: Tensor

    def __getitem__(self, index: Tensor) -> Candidates:
        """The candidates at `index`, a mask or indices."""
        return Candidates(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Detections:
    """Detections of one image: the selected candidates, highest score first, and their mask logits (P, R, R)."""

    candidates: Candidates
    mask_logits: Tensor


def locations(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Pixel positions (height * width, 2), x first, of a level's locations, row-major (`adet/utils/comm.py`)."""
    x = torch.arange(width, device=device) * stride + stride // 2
    y = torch.arange(height, device=device) * stride + stride // 2
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


def decode(locations: Tensor, regression: Tensor, stride: int) -> Tensor:
    """Boxes (P, 4) from positions (P, 2) in pixels and distances (P, 4), l t r b in strides."""
    distances = regression * stride
    locations = locations.to(regression.dtype)
    return torch.cat([locations - distances[:, :2], locations + distances[:, 2:]], dim=1)


def candidates(predictions: Predictions, strides: tuple[int, ...], config: InferenceConfig) -> Candidates:
    """Candidates of all levels above the threshold, at most `candidates_per_level` of each; batch of one."""
    parts = [
        _level_candidates(predictions, level, stride, config) for level, stride in enumerate(strides)
    ]  # fmt: skip
    return Candidates(*(torch.cat([getattr(p, name) for p in parts]) for name in Candidates.__dataclass_fields__))


def _level_candidates(predictions: Predictions, level: int, stride: int, config: InferenceConfig) -> Candidates:
    logits = predictions.logits[level][0].flatten(1).T
    product = logits.sigmoid() * predictions.centerness[level][0].flatten(1).T.sigmoid()
    location, class_id = (product > config.score_threshold).nonzero(as_tuple=True)
    scores = product[location, class_id]
    if len(scores) > config.candidates_per_level:
        scores, order = scores.topk(config.candidates_per_level)
        location, class_id = location[order], class_id[order]
    height, width = predictions.logits[level].shape[-2:]
    regression = predictions.regression[level][0].flatten(1).T[location]
    boxes = decode(locations(height, width, stride, location.device)[location], regression, stride)
    return Candidates(torch.full_like(location, level), location, class_id, scores.sqrt(), boxes)


def select(proposals: Candidates, config: InferenceConfig) -> Candidates:
    """Survivors of suppression, highest score first; scores equal to the last one are all selected."""
    selected = proposals[
        suppress(proposals.boxes, proposals.scores, proposals.class_id, config.nms_threshold, config.nms)
    ]
    if 0 < config.detections < len(selected.scores):
        selected = selected[selected.scores >= selected.scores[config.detections - 1]]
    return selected


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of each box (P, 4) inside an image of height and width `size`."""
    height, width = size
    return torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).flatten(1)


def attention(model: BlendMask, predictions: Predictions, selected: Candidates) -> Tensor:
    """Attention vectors (P, K * M * M) of the selected candidates, computed at their locations only; (P, 0) if none."""
    channels = 0 if model.top_layer is None else model.top_layer.out_channels
    result = predictions.bases.new_zeros((len(selected.scores), channels))
    for level, tower in enumerate(predictions.towers):
        mine = selected.level == level
        location, width = selected.location[mine], tower.shape[-1]
        result[mine] = attention_at(
            model.top_layer, tower, torch.zeros_like(location), location // width, location % width
        )
    return result


def find(model: BlendMask, predictions: Predictions, size: tuple[int, int] | None = None) -> Candidates:
    """The candidates that are selected, of a batch of one.

    Args:
        model: gives the configuration.
        predictions: its raw outputs.
        size: height and width of the image in the network input, to clip the boxes to; None leaves them whole.
    """
    config = model.config
    selected = select(candidates(predictions, config.head.strides, config.inference), config.inference)
    return selected if size is None else replace(selected, boxes=clip_boxes(selected.boxes, size))


def pooled_bases(model: BlendMask, predictions: Predictions, selected: Candidates) -> Tensor:
    """The bases in the boxes of the selected candidates, (P, K, R, R)."""
    return pool_bases(predictions.bases, selected.boxes, torch.zeros_like(selected.level), model.config.resolution)


@torch.no_grad()
def detect(
    model: BlendMask, x: Tensor, size: tuple[int, int] | None = None, clip_before_pooling: bool | None = None
) -> Detections:
    """Detections of one normalized image (1, 3, H, W).

    Args:
        model: the network.
        x: its input.
        size: height and width of the image inside `x`, which may be padded at the right and bottom; all of `x` if
            left out.
        clip_before_pooling: whether boxes are cut at the image's border before their masks are made; as the
            configuration says if left out.
    """
    config, predictions = model.config, model(x)
    clip = config.inference.clip_before_pooling if clip_before_pooling is None else clip_before_pooling
    return with_masks(
        model, predictions, find(model, predictions, (size or (x.shape[-2], x.shape[-1])) if clip else None)
    )


def with_masks(model: BlendMask, predictions: Predictions, selected: Candidates) -> Detections:
    """Blend the masks of selected candidates, of a batch of one."""
    vectors = attention(model, predictions, selected)
    pooled = pooled_bases(model, predictions, selected)
    return Detections(selected, blend(pooled, vectors, model.config.attention_size))
