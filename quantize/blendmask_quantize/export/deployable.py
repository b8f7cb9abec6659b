"""The deployable graph: one image in; boxes, scores, class ids and mask logits out; plain operators only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.export.predictors import BoxPredictors, split_predictors
from blendmask_quantize.model.blender import ASSEMBLER, assembler_weights
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import InputConfig, ModelConfig
from blendmask_quantize.model.detect import decode, locations
from blendmask_quantize.model.nms import FAST_ROUNDS, suppression_rounds
from blendmask_quantize.model.predictor import pad_value

_BASES_SCALE = 0.25
_BLOCK = 64
_TAPS = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))


@dataclass(frozen=True)
class Bounds:
    """Static sizes of the selection; up to them it equals the reference.

    Attributes:
        candidates: pairs of location and class selected over all levels. Of more pairs above the threshold, the lowest
            are dropped.
        rounds: passes of Cluster-NMS. Of a chain of boxes that each hide the next, as many boxes as this, after the
            first, are decided as the reference does; an even number never loses a box that the reference keeps. Always
            1 for a configuration with Fast NMS, which is one pass by definition.
        detections: rows of the outputs, K.
    """

    candidates: int = 512
    rounds: int = 12
    detections: int = 100

    def within(self, config: ModelConfig, size: tuple[int, int]) -> Bounds:
        """Return the sizes that a network offers at an input size, at most those asked for.

        A level offers at most `candidates_per_level` pairs (PRE_NMS_TOPK_TEST); `detections` of the configuration
        (POST_NMS_TOPK_TEST) limits the rows, unless it is 0 or less.

        Args:
            config: gives classes, levels and limits.
            size: height and width of the network input, pixels.

        Raises:
            ConfigError: nothing could be selected.
        """
        inference = config.inference
        offered = sum(min(pairs, inference.candidates_per_level) for pairs in level_pairs(config, size))
        candidates, detections = min(self.candidates, offered), self.detections
        if inference.detections > 0:
            detections = min(detections, inference.detections)
        if min(candidates, detections) < 1:
            raise ConfigError(
                f"{candidates} candidates and {detections} detections would be selected from an image: both are 1 or "
                "more; raise PRE_NMS_TOPK_TEST of the configuration, or the number of detections asked for"
            )
        rounds = FAST_ROUNDS if inference.nms == "fast" else self.rounds
        return Bounds(candidates, rounds, min(detections, candidates))


class Outputs(NamedTuple):
    """Results of the graph, batch of one; rows by descending score, the empty ones last.

    Attributes:
        boxes: float32 (1, K, 4), x0 y0 x1 y1, network input pixels; clipped to the input only where the configuration
            says `clip_before_pooling`. What of the input is padding the graph does not know.
        scores: float32 (1, K), 0 in empty rows.
        class_ids: int32 (1, K), -1 in empty rows.
        mask_logits: float32 (1, K, R, R).
    """

    boxes: Tensor
    scores: Tensor
    class_ids: Tensor
    mask_logits: Tensor


class Chosen(NamedTuple):
    """Rows of candidates or detections, by descending score.

    Attributes:
        score: (C,), 0 where empty.
        class_id, location: (C,) int64; the location is counted over all levels.
        box: (C, 4), x0 y0 x1 y1, network input pixels.
    """

    score: Tensor
    class_id: Tensor
    location: Tensor
    box: Tensor


class DeployableGraph(nn.Module):
    """Network and post-processing as one module that `torch.export` follows.

    Args:
        model: gives configuration and top layer.
        network: normalized image to `Predictions`; the float network or a rendered one. Of a traced one, the graph
            computes box distances at the candidates alone; see `split_predictors`.
        size: height and width of the input, multiples of the input divisor.
        bounds: sizes of the selection that are asked for; cut to what the network offers at this size.
        live_rows: whether the outputs have the rows alone that hold a detection, one at least, and selection and
            suppression the candidates alone that score enough, which makes shapes depend on the image; TensorRT takes
            no such graph.
    """

    top_weight: Tensor
    top_bias: Tensor
    box_weight: Tensor
    box_bias: Tensor
    basis_weights: Tensor
    places: Tensor
    neighbors: Tensor
    padding: Tensor
    mean: Tensor
    inverse_std: Tensor
    pad_value: Tensor
    stretch: Tensor

    def __init__(
        self, model: BlendMask, network: nn.Module, size: tuple[int, int], bounds: Bounds, *, live_rows: bool = False
    ) -> None:
        super().__init__()
        self.config, self.size, self.live_rows = model.config, size, live_rows
        self._given = (network,)  # a tuple, so that its weights are no part of this module
        self.network, boxes = _lean(network)
        self.asked, self.bounds = bounds, bounds.within(self.config, size)
        sizes, strides = level_sizes(self.config, size), self.config.head.strides
        self._take_blender(model)
        self._take_boxes(boxes)
        self.register_buffer("places", _places(sizes, strides))
        self.register_buffer("neighbors", _neighbors(sizes))
        self.register_buffer("stretch", _stretch(self.config.attention_size, self.config.resolution))
        self.register_buffer("mean", _per_channel(self.config.input.mean))
        self.register_buffer("inverse_std", 1 / _per_channel(self.config.input.std))
        self.register_buffer("pad_value", torch.tensor(pad_value(self.config.input)).float()[:, None, None])

    def _take_blender(self, model: BlendMask) -> None:
        """Copy the top layer; the assembler has none, and weights that are the same for all instances."""
        config, top = self.config, model.top_layer
        if top is None:
            weights = assembler_weights(config.bases.count, config.resolution)
            self.register_buffer("basis_weights", weights[:, None])
            return
        bias = torch.zeros(top.out_channels) if top.bias is None else top.bias.detach().clone()
        self.register_buffer("top_weight", top.weight.detach().permute(0, 2, 3, 1).flatten(1).clone())
        self.register_buffer("top_bias", bias)
        self.register_buffer("padding", torch.zeros(1, top.in_channels))

    def _take_boxes(self, boxes: BoxPredictors | None) -> None:
        self.predicts_boxes = boxes is not None
        if boxes is not None:
            self.register_buffer("box_weight", boxes.weight)
            self.register_buffer("box_bias", boxes.bias)
            self.register_buffer("padding", torch.zeros(1, boxes.weight.shape[1] // 9))

    @property
    def given(self) -> nn.Module:
        """The network that the graph was made of, with all its predictors."""
        return self._given[0]

    def forward(self, image: Tensor, score_threshold: Tensor | None = None) -> Outputs:
        """Results for `image`, uint8 (1, H, W, 3) RGB, resized and padded.

        Args:
            image: uint8 (1, H, W, 3).
            score_threshold: float32 (1,), least score of a row, where it is above the configuration's.
        """
        return self.postprocess(self.network(self.normalize(image)), score_threshold)

    def postprocess(self, predictions: Predictions, score_threshold: Tensor | None = None) -> Outputs:
        """Results from raw predictions; see `forward`."""
        kept = self.suppress(self.select(predictions, score_threshold))
        if self.config.inference.clip_before_pooling:
            kept = kept._replace(box=torch.minimum(F.relu(kept.box), torch.tensor(self.size[::-1] * 2)))
        logits = self.masks(predictions, kept.box, kept.location)
        class_ids = torch.where(kept.score > 0, kept.class_id, -1).to(torch.int32)
        return Outputs(kept.box[None], kept.score[None], class_ids[None], logits[None])

    def masks(self, predictions: Predictions, boxes: Tensor, locations: Tensor) -> Tensor:
        """Mask logits (N, R, R) of detections with boxes (N, 4) found at locations (N,)."""
        if self.config.blender == ASSEMBLER:
            return self.assemble(predictions.bases, boxes)
        return self.blend(predictions.bases, boxes, self.attention(predictions.towers, locations))

    def normalize(self, image: Tensor) -> Tensor:
        """Network input (1, 3, H, W) from uint8 (1, H, W, 3) RGB, exactly 0 where the image is padded."""
        planes = image.float().permute(0, 3, 1, 2)  # TensorRT casts uint8 images, but does not transpose them
        ordered = planes[:, [2, 1, 0]] if self.config.input.channels == "bgr" else planes
        normalized = (ordered - self.mean) * self.inverse_std
        return normalized if _pads_exactly(self.config.input) else normalized * self._inside(planes)

    def _inside(self, planes: Tensor) -> Tensor:
        """Mask (1, 1, H, W) of RGB planes (1, 3, H, W): 0 in the padding, 1 before it.

        Pixels are whole gray levels and a pixel mean need not be, so padding with the rounded mean is not 0 after
        normalization. Padding is recognized by its color: the rows at the bottom and the columns at the right that
        show nothing else. An image that ends in rows of exactly that color loses less than half a gray level there.
        """
        differs = (planes - self.pad_value).abs().amax(dim=1)
        rows, columns = _up_to_last(differs.amax(dim=2)), _up_to_last(differs.amax(dim=1))
        return rows[:, None, :, None] * columns[:, None, None, :]

    def select(self, predictions: Predictions, score_threshold: Tensor | None = None) -> Chosen:
        """Select the best pairs of location and class: the best of each level, then the best of all levels.

        Pairs that score less than `score_threshold` (1,) are left empty. They hide none that score more, so suppression
        decides about those as it does without a threshold.
        """
        product, location, class_id = self._best_pairs(predictions, score_threshold)
        score = self._accepted(product, score_threshold).sqrt()
        found = _scored(score, location, class_id) if self.live_rows else (score, location, class_id)
        return self._with_boxes(predictions, *found)

    def _accepted(self, product: Tensor, score_threshold: Tensor | None) -> Tensor:
        """Products (N,), 0 where they are too small."""
        accepted = product > self.config.inference.score_threshold
        if score_threshold is not None:
            accepted = accepted & (product.sqrt() >= score_threshold)
        return torch.where(accepted, product, 0.0)

    def _best_pairs(self, predictions: Predictions, score_threshold: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Product, location and class (C,) of the best pairs, highest product first."""
        limit, parts, first = self.config.inference.candidates_per_level, [], 0
        levels = [_scores(*level) for level in zip_longest(predictions.logits, predictions.centerness)]
        if limit >= self.bounds.candidates:  # the best C pairs of all levels hold no more than C of any level
            return self._best_of(torch.cat(levels, dim=1), self.bounds.candidates, score_threshold)
        for scores in levels:
            product, location, class_id = self._best_of(scores, limit, score_threshold)
            parts.append((product, location + first, class_id))
            first += scores.shape[1]
        products, locations, class_ids = (torch.cat(part) for part in zip(*parts, strict=True))
        product, pair = torch.topk(products, self.bounds.candidates)
        return product, locations.index_select(0, pair), class_ids.index_select(0, pair)

    def _best_of(self, scores: Tensor, limit: int, score_threshold: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Product, location and class of the best `limit` pairs, of logits (classes + 1, L), the last the centerness.

        The best n pairs lie in the n locations with the best class each, so the rest is dropped before classes are
        compared; of live rows, those too whose best class does not score enough.
        """
        logits, centerness = scores[:-1], scores[-1].sigmoid()
        classes, count = self.config.num_classes, min(limit, scores.shape[1])
        best, locations = torch.topk(logits.amax(dim=0).sigmoid() * centerness, count)
        pairs = min(limit, classes * count)
        if self.live_rows:
            least = min(max(_BLOCK, -(-pairs // classes)), count)
            locations = locations[: _in_blocks(self._accepted(best, score_threshold), least)]
        products = logits.index_select(1, locations).sigmoid() * centerness.index_select(0, locations)
        product, pair = torch.topk(products.T.flatten(), pairs)
        row = ((pair.float() + 0.5) / classes).to(torch.int64)  # runtimes differ in how they divide integers
        return product, locations.index_select(0, row), pair - row * classes

    def _with_boxes(self, predictions: Predictions, score: Tensor, location: Tensor, class_id: Tensor) -> Chosen:
        """Candidates with their boxes."""
        places = self.places.index_select(0, location)
        positions, strides = places[:, :2], places[:, 2:]
        if self.predicts_boxes:
            patches = self._patches(predictions.towers, location)
            every = F.relu(F.linear(patches, self.box_weight, self.box_bias)).unflatten(1, (-1, 4))
            distances = (every * strides[:, :, None]).sum(dim=1)  # the stride is 0 of all levels but the location's
        else:
            distances = _joined(predictions.regression).index_select(1, location).T * strides.sum(dim=1, keepdim=True)
        return Chosen(score, class_id, location, decode(positions, distances, 1))

    def suppress(self, found: Chosen) -> Chosen:
        """Survivors of class-wise suppression: a fixed point that equals the greedy order once it stops changing."""
        score, rows = self._surviving(found), self.bounds.detections
        score, row = torch.topk(score, _count(score, 1, rows) if self.live_rows else rows)
        return Chosen(score, *(part.index_select(0, row) for part in found[1:]))

    def _surviving(self, found: Chosen) -> Tensor:
        """Scores (C,), 0 where suppressed; a threshold of 0 or less suppresses nothing, as in the reference."""
        if self.config.inference.nms_threshold <= 0:
            return found.score
        # A power of two changes no comparison, and keeps areas within half precision.
        scale = 2.0 ** -math.ceil(math.log2(max(self.size)))
        overlaps = _overlap(found.box * scale, self.config.inference.nms_threshold)
        same = found.class_id[:, None] == found.class_id[None, :]
        rank = torch.arange(self.bounds.candidates)[: found.score.shape[0]]
        hides = overlaps & same & (rank[None, :] > rank[:, None])
        return found.score * suppression_rounds(hides.to(found.score.dtype), self.bounds.rounds)[0]

    def attention(self, towers: Sequence[Tensor], location: Tensor) -> Tensor:
        """Attention vectors (K, bases * M * M) at the selected locations: gathered 3x3 patches, one product."""
        return F.linear(self._patches(towers, location), self.top_weight, self.top_bias)

    def _patches(self, towers: Sequence[Tensor], location: Tensor) -> Tensor:
        """What a 3x3 convolution reads at the locations (N,): (N, 9 * C), channels last."""
        cells = torch.cat([*(tower.permute(0, 2, 3, 1).flatten(0, 2) for tower in towers), self.padding])
        patches = cells.index_select(0, self.neighbors.index_select(0, location).flatten())
        return patches.view(location.shape[0], -1)

    def blend(self, bases: Tensor, boxes: Tensor, attention: Tensor) -> Tensor:
        """Mask logits (N, R, R): ROIAlign, weighted by the softmax of the attention (N, bases * M * M)."""
        pooled, side = self._pool(bases.flatten(0, 1), boxes), self.config.attention_size
        maps = attention.unflatten(1, (-1, side, side)).transpose(0, 1)
        # The size is known, so that the interpolation is two products, quicker than resizing in every runtime.
        weights = self.stretch[None, None] @ (maps @ self.stretch.T)
        # Softmax written out along the first axis: runtimes are slow where they find it along one that is not the last.
        weights = torch.exp(weights - weights.amax(dim=0))
        return (pooled * weights).sum(dim=0) / weights.sum(dim=0)

    def assemble(self, bases: Tensor, boxes: Tensor) -> Tensor:
        """Mask logits (N, R, R): each location of a grid over the box from the basis that is its own."""
        return (self._pool(bases.flatten(0, 1), boxes) * self.basis_weights).sum(dim=0)

    def _pool(self, bases: Tensor, boxes: Tensor) -> Tensor:
        """Bases (B, H, W) inside N boxes, (B, N, R, R), one bilinear sample a bin, as ROIAlign takes it.

        The samples of a box form a grid along the axes, so sampling is one product along x and one along y, which every
        runtime does several times faster than GridSample; of all boxes and bases at once, the longer axis goes first.
        """
        _, height, width = bases.shape
        # OpenVINO does not take the product of a constant with a tensor of another rank.
        along_x = self._samples(boxes[:, 0::2], width)[None]
        along_y = self._samples(boxes[:, 1::2], height)[None]
        if width < height:
            return (along_y.flatten(1, 2) @ bases).unflatten(1, along_y.shape[1:3]) @ along_x.transpose(2, 3)
        across = along_x.flatten(1, 2) @ bases.transpose(1, 2)
        return along_y @ across.unflatten(1, along_x.shape[1:3]).transpose(2, 3)

    def _samples(self, ends: Tensor, locations: int) -> Tensor:
        """Weights (K, R, locations) of the bases' locations in each bin of K boxes along one axis.

        Args:
            ends: (K, 2), where the boxes begin and end along the axis, network input pixels.
            locations: locations of the bases along the axis. A sample beyond the first or last center reads that
                location; one more than a location outside the map reads nothing.
        """
        resolution = self.config.resolution
        bins = (torch.arange(resolution) + 0.5) / resolution
        at = (ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * bins) * _BASES_SCALE - 0.5
        distance = at.clamp(0, locations - 1)[:, :, None] - torch.arange(locations)
        inside = ((at >= -1) & (at <= locations)).float()
        return F.relu(1 - distance.abs()) * inside[:, :, None]


def _lean(network: nn.Module) -> tuple[nn.Module, BoxPredictors | None]:
    return split_predictors(network) if isinstance(network, fx.GraphModule) else (network, None)


def _stretch(locations: int, target: int) -> Tensor:
    """Matrix (target, locations) that interpolates linearly along an axis, as `F.interpolate` does."""
    return F.interpolate(torch.eye(locations)[None], size=target, mode="linear", align_corners=False)[0].T.contiguous()


def _per_channel(values: Sequence[float]) -> Tensor:
    """One value where all channels agree, which runtimes broadcast much faster, else (3, 1, 1)."""
    return torch.tensor(values[0]) if len(set(values)) == 1 else torch.tensor(values)[:, None, None]


def _pads_exactly(config: InputConfig) -> bool:
    """Whether the pad value is 0 after normalization."""
    return all(float(value).is_integer() for value in config.mean)


def _up_to_last(values: Tensor) -> Tensor:
    """1 up to the last place of (1, N) whole numbers that is not 0, 0 behind it."""
    places = torch.arange(1, values.shape[1] + 1).float()
    last = (_at_most_one(values) * places).amax(dim=1, keepdim=True)
    return _at_most_one(F.relu(last + 1 - places))


def _at_most_one(values: Tensor) -> Tensor:
    """0 where a whole number is 0, else 1; arithmetic, since runtimes differ in how they compare and cast."""
    return 1 - F.relu(1 - values)


def level_sizes(config: ModelConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of every pyramid level, finest first, for an input of height and width `size`."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in config.head.strides]


def level_pairs(config: ModelConfig, size: tuple[int, int]) -> list[int]:
    """Pairs of location and class of every pyramid level, finest first."""
    return [config.num_classes * height * width for height, width in level_sizes(config, size)]


def _joined(levels: Sequence[Tensor]) -> Tensor:
    """Maps (1, C, h, w) of all levels as one (C, locations)."""
    return torch.cat([level.flatten(2) for level in levels], dim=2)[0]


def _scores(logits: Tensor, centerness: Tensor | None) -> Tensor:
    """Class logits and centerness of a level, (classes + 1, locations); `split_predictors` may have joined them."""
    return torch.cat([part.flatten(0, 1).flatten(1) for part in (logits, centerness) if part is not None])


def _places(sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> Tensor:
    """Position of each location of all levels, x and y in pixels, then the stride of its level in that level's column.

    Returns:
        (locations, 2 + levels); the other columns of the strides are 0.
    """
    positions = [locations(*size, stride).float() for size, stride in zip(sizes, strides, strict=True)]
    columns = torch.diag(torch.tensor(strides).float())
    levels = zip(positions, columns, strict=True)
    return torch.cat([torch.cat([level, column.expand(len(level), -1)], dim=1) for level, column in levels])


def _neighbors(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Locations (locations, 9) under a 3x3 kernel at each location of all levels; one past the last is the padding."""
    locations = sum(height * width for height, width in sizes)
    first, rows = 0, []
    for height, width in sizes:
        y, x = (torch.cartesian_prod(torch.arange(height), torch.arange(width))[:, None] + _TAPS).unbind(-1)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        rows.append(torch.where(inside, first + y * width + x, locations))
        first += height * width
    return torch.cat(rows)


def _scored(score: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Drop candidates that score 0, in blocks; of scores in descending order, and what belongs to them."""
    kept = _in_blocks(score, _BLOCK)
    return tuple(part[:kept] for part in (score, *others))


def _in_blocks(values: Tensor, least: int) -> Any:
    """How many rows hold all values above 0, which come first; in blocks, so that few sizes occur: runtimes prepare for
    each that is new."""
    least = min(least, len(values))
    rows: Any = ((values[::_BLOCK] > 0).sum() * _BLOCK).clamp(min=least, max=len(values)).item()
    torch._check(rows >= least)
    torch._check(rows <= len(values))
    return rows


def _count(score: Tensor, least: int, most: int) -> Any:
    """How many scores are above 0, within bounds."""
    count: Any = (score > 0).sum().clamp(min=least, max=most).item()
    torch._check(count >= least)
    torch._check(count <= most)
    torch._check(count <= score.shape[0])
    return count


def _overlap(boxes: Tensor, threshold: float) -> Tensor:
    """Which pairs (C, C) have an intersection over union above the threshold, without dividing."""
    x0, y0, x1, y1 = (boxes[:, side : side + 1] for side in range(4))
    widths = F.relu(torch.minimum(x1, x1.T) - torch.maximum(x0, x0.T))
    heights = F.relu(torch.minimum(y1, y1.T) - torch.maximum(y0, y0.T))
    shared, area = widths * heights, (x1 - x0) * (y1 - y0)
    return shared > threshold * (area + area.T - shared)
