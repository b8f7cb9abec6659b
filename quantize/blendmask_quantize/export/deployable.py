"""The deployable graph: one image in; boxes, scores, class ids and mask logits out; plain operators only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.export.blending import Blending
from blendmask_quantize.export.bounds import Bounds, level_sizes
from blendmask_quantize.export.live_rows import BLOCK, count_scored, in_blocks, scored
from blendmask_quantize.export.normalization import Normalization
from blendmask_quantize.export.precision import as_dtype
from blendmask_quantize.export.predictors import BoxPredictors, split_predictors
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.detect import decode, locations
from blendmask_quantize.model.nms import suppression_rounds

_TAPS = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))


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

    Attributes:
        remainder: precision of the products behind the network: suppression, attention, masks. Boxes, scores and
            outputs stay float32.
        top_k: the highest values of a vector and their places, as `torch.topk`; compilers may want it in another form.
    """

    top_weight: Tensor
    top_bias: Tensor
    box_weight: Tensor
    box_bias: Tensor
    places: Tensor
    neighbors: Tensor
    padding: Tensor
    pair_rows: Tensor

    def __init__(
        self, model: BlendMask, network: nn.Module, size: tuple[int, int], bounds: Bounds, *, live_rows: bool = False
    ) -> None:
        super().__init__()
        self.config, self.size, self.live_rows = model.config, size, live_rows
        self.remainder = torch.float32
        self.top_k: Callable[[Tensor, Any], tuple[Tensor, Tensor]] = torch.topk
        self._given = (network,)  # a tuple, so that its weights are not part of this module
        self.network, boxes = _lean(network)
        self.asked, self.bounds = bounds, bounds.within(self.config, size)
        sizes, strides = level_sizes(self.config, size), self.config.head.strides
        self.normalize, self.blend = Normalization(self.config.input), Blending(self.config)
        self._take_top_layer(model.top_layer)
        self._take_boxes(boxes)
        self.register_buffer("places", _places(sizes, strides))
        # A table, since runtimes differ in how they divide integers, and TensorRT may divide floats in half.
        rows = torch.arange(self.bounds.candidates).repeat_interleave(self.config.num_classes)
        self.register_buffer("pair_rows", rows)
        self.register_buffer("neighbors", _neighbors(sizes))

    def _take_top_layer(self, top: nn.Conv2d | None) -> None:
        """Copy the weights that predict attention; the assembler has none."""
        if top is None:
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
        detections = self.suppress(self.select(predictions, score_threshold))
        if self.config.inference.clip_before_pooling:
            corners = torch.tensor(self.size[::-1] * 2)
            detections = detections._replace(box=torch.minimum(F.relu(detections.box), corners))
        logits = self.masks(predictions, detections.box, detections.location)
        class_ids = torch.where(detections.score > 0, detections.class_id, -1).to(torch.int32)
        return Outputs(detections.box[None], detections.score[None], class_ids[None], logits[None])

    def masks(self, predictions: Predictions, boxes: Tensor, locations: Tensor) -> Tensor:
        """Mask logits (N, R, R) of detections with boxes (N, 4) at locations (N,)."""
        attention = self.attention(predictions.towers, locations) if self.blend.uses_attention else None
        return as_dtype(self.blend(as_dtype(predictions.bases, self.remainder), boxes, attention), torch.float32)

    def select(self, predictions: Predictions, score_threshold: Tensor | None = None) -> Chosen:
        """Select the best pairs of location and class: the best of each level, then the best of all levels.

        Pairs that score less than `score_threshold` (1,) are left empty. They hide none that score more, so suppression
        decides about those as it does without a threshold.
        """
        product, location, class_id = self._best_pairs(predictions, score_threshold)
        score = self._accepted(product, score_threshold).sqrt()
        pairs = scored(score, location, class_id) if self.live_rows else (score, location, class_id)
        return self._with_boxes(predictions, *pairs)

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
        product, pair = self.top_k(products, self.bounds.candidates)
        return product, locations.index_select(0, pair), class_ids.index_select(0, pair)

    def _best_of(self, scores: Tensor, limit: int, score_threshold: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Product, location and class of the best `limit` pairs, of logits (classes + 1, L), the last the centerness.

        The best n pairs lie in the n locations with the best class each, so the rest is dropped before classes are
        compared; of live rows, those too whose best class does not score enough.
        """
        logits, centerness = scores[:-1], scores[-1].sigmoid()
        classes, count = self.config.num_classes, min(limit, scores.shape[1])
        best, locations = self.top_k(logits.amax(dim=0).sigmoid() * centerness, count)
        pairs = min(limit, classes * count)
        if self.live_rows:
            least = min(max(BLOCK, -(-pairs // classes)), count)
            locations = locations[: in_blocks(self._accepted(best, score_threshold), least)]
        products = logits.index_select(1, locations).sigmoid() * centerness.index_select(0, locations)
        product, pair = self.top_k(products.T.flatten(), pairs)
        row = self.pair_rows.index_select(0, pair)
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

    def suppress(self, candidates: Chosen) -> Chosen:
        """Survivors of class-wise suppression: a fixed point that equals the greedy order once it stops changing."""
        score, rows = self._surviving(candidates), self.bounds.detections
        score, row = self.top_k(score, count_scored(score, 1, rows) if self.live_rows else rows)
        return Chosen(score, *(part.index_select(0, row) for part in candidates[1:]))

    def _surviving(self, candidates: Chosen) -> Tensor:
        """Scores (C,), 0 where suppressed; a threshold of 0 or less suppresses nothing, as in the reference."""
        if self.config.inference.nms_threshold <= 0:
            return candidates.score
        # A power of two changes no comparison, and keeps areas within half precision.
        scale = 2.0 ** -math.ceil(math.log2(max(self.size)))
        overlaps = _overlap(candidates.box * scale, self.config.inference.nms_threshold)
        same = candidates.class_id[:, None] == candidates.class_id[None, :]
        rank = torch.arange(self.bounds.candidates)[: candidates.score.shape[0]]
        hides = overlaps & same & (rank[None, :] > rank[:, None])
        shown = suppression_rounds(hides.to(self.remainder), self.bounds.rounds)[0]
        return candidates.score * as_dtype(shown, candidates.score.dtype)

    def attention(self, towers: Sequence[Tensor], location: Tensor) -> Tensor:
        """Attention vectors (K, bases * M * M) at the selected locations: gathered 3x3 patches, one product."""
        patches = self._patches(towers, location)
        return F.linear(*(as_dtype(x, self.remainder) for x in (patches, self.top_weight, self.top_bias)))

    def _patches(self, towers: Sequence[Tensor], location: Tensor) -> Tensor:
        """The inputs of a 3x3 convolution at the locations (N,): (N, 9 * C), channels last."""
        cells = torch.cat([*(tower.permute(0, 2, 3, 1).flatten(0, 2) for tower in towers), self.padding])
        patches = cells.index_select(0, self.neighbors.index_select(0, location).flatten())
        return patches.view(location.shape[0], -1)


def _lean(network: nn.Module) -> tuple[nn.Module, BoxPredictors | None]:
    return split_predictors(network) if isinstance(network, fx.GraphModule) else (network, None)


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


def _overlap(boxes: Tensor, threshold: float) -> Tensor:
    """Which pairs (C, C) have an intersection over union above the threshold, without dividing."""
    x0, y0, x1, y1 = (boxes[:, side : side + 1] for side in range(4))
    widths = F.relu(torch.minimum(x1, x1.T) - torch.maximum(x0, x0.T))
    heights = F.relu(torch.minimum(y1, y1.T) - torch.maximum(y0, y0.T))
    shared, area = widths * heights, (x1 - x0) * (y1 - y0)
    return shared > threshold * (area + area.T - shared)
