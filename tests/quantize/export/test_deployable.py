"""The deployable graph finds what the reference finds, up to its stated bounds, and loses what it says past them."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import box_iou

from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging import preprocess
from blendmask_quantize.export.bounds import Bounds, level_sizes
from blendmask_quantize.export.deployable import Chosen, DeployableGraph, Outputs
from blendmask_quantize.model.blender import blend, pool_bases
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.detect import Candidates, Detections, attention, candidates, detect, select
from blendmask_quantize.model.nms import suppress
from blendmask_quantize.model.predictor import network_input as file_to_input
from blendmask_quantize.model.predictor import pad_value
from tests.quantize.parity import Reference
from tests.quantize.small_networks import (
    ASSEMBLER,
    CLIPPED,
    FIVE_LEVELS,
    FROZEN,
    WEIGHTED_SUM,
    image,
    network_input,
    size_of,
    slow,
    small_network,
)
from tests.quantize.tiny import TINY
from tests.reference_values import recorded_cases

SEEDS = st.integers(0, 10**6)
SCORE_ROUNDING = 1e-6
BOX_ROUNDING = 1e-4
"""Pixels: some units of the last place of a coordinate of a few hundred pixels, a float32 sum in another order."""
MANY = Bounds(candidates=10**4, rounds=40, detections=100)
MODELS = {config.name: small_network(config) for config in (TINY, FIVE_LEVELS)}
BLENDERS = {config.name: small_network(config) for config in (WEIGHTED_SUM, ASSEMBLER)}
EVERY = [MODELS["TINY"], *slow(MODELS["TINY_FIVE_LEVELS"]), *BLENDERS.values()]


def make_graph(model: BlendMask, bounds: Bounds = MANY, size: tuple[int, int] | None = None) -> DeployableGraph:
    """The graph of a network that is not run: predictions are handed to `postprocess`."""
    return DeployableGraph(model, nn.Identity(), size or size_of(model.config), bounds)


graph_of = functools.cache(make_graph)


def random_predictions(config: ModelConfig, seed: int, bias: float = -3.0) -> Predictions:
    """Raw outputs whose class logits lie around `bias`; boxes reach over the image's borders."""
    generator = torch.Generator().manual_seed(seed)
    size = size_of(config)

    def levels(channels: int) -> list[Tensor]:
        return [torch.randn((1, channels, *level), generator=generator) for level in level_sizes(config, size)]

    logits = tuple(2 * level + bias for level in levels(config.num_classes))
    regression = tuple((2 * level).relu() for level in levels(4))
    centerness = tuple(level + 1 for level in levels(1))
    towers = tuple(level.relu() for level in levels(config.pyramid_width))
    bases = torch.randn((1, config.bases.count, size[0] // 4, size[1] // 4), generator=generator)
    return Predictions(logits, regression, centerness, towers, bases, None)


def reference(model: BlendMask, predictions: Predictions, found: Candidates) -> Detections:
    """What the reference makes of given candidates."""
    kept = select(found, model.config.inference)
    pooled = pool_bases(predictions.bases, kept.boxes, torch.zeros_like(kept.level), model.config.resolution)
    return Detections(kept, blend(pooled, attention(model, predictions, kept), model.config.attention_size))


def all_candidates(model: BlendMask, predictions: Predictions) -> Candidates:
    return candidates(predictions, model.config.head.strides, model.config.inference)


def assert_same(found: Outputs, expected: Detections, rows: int) -> None:
    """The first rows are the reference's, and the rest is empty; scores equal up to rounding come in either order."""
    count = min(len(expected.candidates.scores), rows)
    kept = expected.candidates
    torch.testing.assert_close(found.scores[0, :count], kept.scores[:count])
    runs = np.append(0, np.cumsum(np.diff(kept.scores[:count].numpy()) < -SCORE_ROUNDING))[:count]
    here = tie_order(runs, found.class_ids[0, :count], found.boxes[0, :count])
    there = tie_order(runs, kept.class_id[:count], kept.boxes[:count])
    assert torch.equal(found.class_ids[0, here], kept.class_id[there].int())
    torch.testing.assert_close(found.boxes[0, here], kept.boxes[there], rtol=1e-5, atol=BOX_ROUNDING)
    torch.testing.assert_close(found.mask_logits[0, here], expected.mask_logits[there], rtol=1e-4, atol=1e-4)
    assert not found.scores[0, count:].any()
    assert torch.all(found.class_ids[0, count:] == -1)


def tie_order(runs: NDArray[np.int64], class_ids: Tensor, boxes: Tensor) -> Tensor:
    """The rows with each run of equal scores ordered by class and box."""
    corners = boxes.numpy().round(2)
    return torch.from_numpy(np.lexsort((*corners.T[::-1], class_ids.numpy(), runs)))


def head(found: Candidates, count: int) -> Candidates:
    return found[found.scores.argsort(descending=True)[:count]]


@pytest.mark.slow
@pytest.mark.parametrize("model", EVERY, ids=lambda model: model.config.name)
@given(seed=SEEDS, bias=st.floats(-6, -1))
@example(seed=1327, bias=-3.3584928567502534)  # two scores that only rounding tells apart
def test_it_equals_the_reference_while_the_bounds_hold(model: BlendMask, seed: int, bias: float) -> None:
    predictions = random_predictions(model.config, seed, bias)
    expected = reference(model, predictions, all_candidates(model, predictions))
    found = graph_of(model).postprocess(predictions)
    assert [tuple(output.shape) for output in found] == [(1, 100, 4), (1, 100), (1, 100), (1, 100, 28, 28)]
    assert_same(found, expected, 100)


@given(SEEDS, st.integers(20, 60))
def test_past_the_candidate_cap_the_lowest_pairs_are_lost_and_nothing_else(seed: int, cap: int) -> None:
    model = MODELS["TINY"]
    predictions = random_predictions(model.config, seed, -1.0)
    found = all_candidates(model, predictions)
    assume(len(found.scores) > cap)
    expected = reference(model, predictions, head(found, cap))
    assert_same(graph_of(model, Bounds(cap, 40, 20)).postprocess(predictions), expected, 20)


@given(SEEDS, st.integers(1, 30))
def test_of_more_detections_than_rows_the_best_are_kept(seed: int, rows: int) -> None:
    model = MODELS["TINY"]
    predictions = random_predictions(model.config, seed, -1.0)
    expected = reference(model, predictions, all_candidates(model, predictions))
    found = graph_of(model, replace(MANY, detections=rows)).postprocess(predictions)
    assert found.scores.shape == (1, rows)
    assert_same(found, expected, rows)


@given(seed=SEEDS, share=st.floats(0, 1))
def test_a_threshold_leaves_out_the_rows_below_it_and_changes_no_other(seed: int, share: float) -> None:
    model = MODELS["TINY"]
    predictions = random_predictions(model.config, seed, -1.0)
    whole = graph_of(model).postprocess(predictions)
    live = whole.scores[0][whole.scores[0] > 0]
    least = live[int(share * (len(live) - 1))].reshape(1)
    found = graph_of(model).postprocess(predictions, least)
    count = int((whole.scores >= least).sum())
    for ours, theirs in zip(found, whole, strict=True):
        assert torch.equal(ours[0, :count], theirs[0, :count])
    assert not found.scores[0, count:].any()
    assert torch.all(found.class_ids[0, count:] == -1)


@pytest.mark.parametrize("least", [0.0, 0.1])
def test_a_threshold_below_the_configurations_has_no_effect(least: float) -> None:
    model = MODELS["TINY"]
    predictions = random_predictions(model.config, 0)
    for ours, theirs in zip(
        graph_of(model).postprocess(predictions, torch.tensor([least])), graph_of(model).postprocess(predictions),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(ours, theirs)


def test_no_detections_leave_every_row_empty() -> None:
    model = MODELS["TINY"]
    found = graph_of(model).postprocess(random_predictions(model.config, 0, -30.0))
    assert not found.scores.any()
    assert torch.all(found.class_ids == -1)
    assert all(torch.isfinite(output).all() for output in found)


def test_a_pair_on_the_threshold_is_no_detection() -> None:
    model = MODELS["TINY"]
    predictions = random_predictions(model.config, 3, -1.0)
    found = all_candidates(model, predictions)
    exact = (predictions.logits[0][0].flatten(1).sigmoid() * predictions.centerness[0][0].flatten(1).sigmoid()).max()
    inference = replace(model.config.inference, score_threshold=exact.item())
    graph = make_graph(model)
    graph.config = replace(model.config, inference=inference)
    kept = graph.select(predictions).score
    assert exact.sqrt() not in kept[kept > 0]
    assert len(found.scores) > 0


def test_a_small_input_offers_fewer_pairs_than_the_bounds_ask_for() -> None:
    bounds = Bounds().within(TINY, (32, 32))
    assert bounds == Bounds(candidates=3 * (16 + 4 + 1), rounds=Bounds().rounds, detections=63)
    model = MODELS["TINY"]
    graph = DeployableGraph(model, model, (32, 32), Bounds())
    x = image(0, (32, 32))
    with torch.no_grad():
        assert_same(graph(torch.from_numpy(x)), detect(model, network_input(model, x)), 63)


def limited(config: ModelConfig, per_level: int, detections: int) -> ModelConfig:
    """The configuration with other limits of selection."""
    inference = replace(config.inference, candidates_per_level=per_level, detections=detections)
    return replace(config, inference=inference)


def test_each_level_offers_its_own_candidates() -> None:
    """A limit of 50 a level cuts the first two of 288, 72 and 18 pairs."""
    few = limited(TINY, 50, 100)
    assert Bounds().within(few, (64, 96)) == Bounds(candidates=50 + 50 + 18, rounds=Bounds().rounds, detections=100)


def test_rows_are_no_more_than_the_configuration_keeps() -> None:
    assert Bounds().within(limited(TINY, 1000, 30), (64, 96)).detections == 30
    assert Bounds(detections=20).within(limited(TINY, 1000, 30), (64, 96)).detections == 20
    assert Bounds().within(limited(TINY, 1000, 0), (64, 96)).detections == 100


@pytest.mark.parametrize("bounds, per_level", [(Bounds(), 0), (Bounds(candidates=0), 10), (Bounds(detections=0), 10)])
def test_limits_that_select_nothing_are_refused(bounds: Bounds, per_level: int) -> None:
    with pytest.raises(ConfigError, match="both are 1 or more"):
        bounds.within(limited(TINY, per_level, 100), (64, 96))


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.config.name)
@given(seed=SEEDS, per_level=st.integers(1, 80), detections=st.integers(1, 120), asked=st.integers(1, 120))
def test_limits_of_the_configuration_are_the_references(
    model: BlendMask, seed: int, per_level: int, detections: int, asked: int
) -> None:
    predictions = random_predictions(model.config, seed, -1.0)
    few = copy.copy(model)
    few.config = limited(model.config, per_level, detections)
    expected = reference(few, predictions, all_candidates(few, predictions))
    rows = min(asked, detections)
    assume(len(expected.candidates.scores) <= detections)  # equal scores at the cut are all kept
    found = make_graph(few, replace(MANY, detections=asked)).postprocess(predictions)
    assert found.scores.shape[1] <= rows
    assert_same(found, expected, rows)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("detections", [7, 0])
def test_thresholds_that_suppress_nothing_are_the_references(threshold: float, detections: int) -> None:
    model = copy.copy(MODELS["TINY"])
    inference = replace(model.config.inference, nms_threshold=threshold, detections=detections)
    model.config = replace(model.config, inference=inference)
    predictions = random_predictions(model.config, 3, -4.0)
    expected = reference(model, predictions, all_candidates(model, predictions))
    assert_same(graph_of(model).postprocess(predictions), expected, detections or 100)


def chain(length: int, threshold: float = 0.6) -> Chosen:
    """Boxes of one class by descending score, each of which hides the next and no other."""
    width = 40.0
    step = width * (1 - threshold) / (1 + threshold) * 0.9
    left = torch.arange(length) * step
    boxes = torch.stack([left, torch.zeros(length), left + width, torch.full((length,), 30.0)], dim=1)
    return Chosen(torch.linspace(0.9, 0.5, length), torch.zeros(length, dtype=torch.long), torch.arange(length), boxes)


def greedy(found: Chosen) -> list[int]:
    kept = suppress(found.box, found.score, found.class_id, 0.6)
    return kept[found.score[kept] > 0].tolist()


def survivors(found: Chosen, rounds: int) -> list[int]:
    """Rows that the graph keeps, by their locations."""
    count = len(found.score)
    graph = copy.copy(graph_of(MODELS["TINY"]))
    graph.bounds = Bounds(candidates=count, rounds=rounds, detections=count)
    kept = graph.suppress(found)
    return kept.location[kept.score > 0].tolist()


@given(st.integers(1, 12), st.integers(1, 14))
def test_chains_up_to_the_rounds_are_decided_as_greedy_does(rounds: int, length: int) -> None:
    assume(length <= rounds + 1)
    assert survivors(chain(length), rounds) == greedy(chain(length)) == list(range(0, length, 2))


@given(st.integers(1, 12))
def test_the_next_longer_chain_ends_undecided(rounds: int) -> None:
    length = rounds + 2
    found = survivors(chain(length), rounds)
    assert found != greedy(chain(length))
    assert [row for row in found if row <= rounds] == [row for row in greedy(chain(length)) if row <= rounds]


def random_chosen(seed: int, count: int = 40) -> Chosen:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand((count, 2), generator=generator) * 60
    sides = torch.rand((count, 2), generator=generator) * 60
    score = torch.rand(count, generator=generator).sort(descending=True).values
    score[-5:] = 0
    classes = torch.randint(0, 2, (count,), generator=generator)
    return Chosen(score, classes, torch.arange(count), torch.cat([corners, corners + sides], dim=1))


@given(SEEDS)
def test_suppression_is_greedy_and_class_wise(seed: int) -> None:
    found = random_chosen(seed)
    assert survivors(found, 40) == greedy(found)


@given(SEEDS, st.sampled_from([0, 2, 4, 12]))
def test_an_even_number_of_rounds_never_loses_a_detection(seed: int, rounds: int) -> None:
    found = random_chosen(seed)
    assert set(survivors(found, rounds)) >= set(greedy(found))


def test_the_default_number_of_rounds_is_even() -> None:
    assert Bounds().rounds % 2 == 0


@given(SEEDS)
def test_areas_stay_within_half_precision(seed: int) -> None:
    """The comparison of overlaps on the largest image loses nothing to half precision but its rounding."""
    found = random_chosen(seed)
    large = found._replace(box=found.box * 20)
    graph = copy.copy(graph_of(MODELS["TINY"], size=(1344, 1344)))
    graph.bounds = Bounds(candidates=40, rounds=12, detections=40)
    half = graph.suppress(Chosen(large.score.half(), large.class_id, large.location, large.box.half()))
    assert torch.isfinite(half.score).all()
    assert len(half.location[half.score > 0]) == pytest.approx(len(greedy(large)), abs=2)


@pytest.mark.parametrize("name", MODELS)
def test_coefficients_equal_the_dense_convolution_at_every_location_corners_included(name: str) -> None:
    model = MODELS[name]
    towers = random_predictions(model.config, 1).towers
    with torch.no_grad():
        dense = torch.cat([model.top_layer(tower)[0].flatten(1) for tower in towers], dim=1).T
        found = graph_of(model).attention(towers, torch.arange(len(dense)))
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-5)


COORDINATES = st.floats(-80, 200, width=32)


@given(SEEDS, st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES), min_size=1, max_size=12))
def test_masks_are_roi_aligned_as_torchvision_does(seed: int, corners: list[tuple[float, ...]]) -> None:
    """Boxes anywhere: inside, over the border, more than a location outside, without area."""
    model, config = MODELS["TINY"], TINY
    generator = torch.Generator().manual_seed(seed)
    bases = torch.randn((1, config.bases.count, 16, 24), generator=generator)
    vectors = torch.randn((len(corners), config.bases.count * config.attention_size**2), generator=generator) * 3
    ends = torch.tensor(corners)
    boxes = torch.cat([torch.minimum(ends[:, :2], ends[:, 2:]), torch.maximum(ends[:, :2], ends[:, 2:])], dim=1)
    assume(not samples_on_a_border(boxes, config.resolution))
    pooled = pool_bases(bases, boxes, torch.zeros(len(boxes), dtype=torch.long), config.resolution)
    expected = blend(pooled, vectors, config.attention_size)
    torch.testing.assert_close(graph_of(model).blend(bases, boxes, vectors), expected, rtol=1e-4, atol=1e-4)


def samples_on_a_border(boxes: torch.Tensor, resolution: int) -> bool:
    """Whether a sample lies on the last location that counts of a 16 x 24 map, where rounding decides."""
    steps = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    low, high = boxes[:, None, :2].double() / 4 - 0.5, boxes[:, None, 2:].double() / 4 - 0.5
    samples = low + (high - low) * steps[None, :, None]
    borders = torch.tensor([[-1.0, -1.0], [24.0, 16.0]], dtype=torch.float64)
    return bool(((samples[:, :, None] - borders).abs() < 1e-4).any())


@pytest.mark.parametrize("position", [-2.0, -1.0, 0.0, 24.0, 25.0, 26.0])
def test_samples_on_the_last_row_that_counts_are_torchvisions(position: float) -> None:
    """A box of no area puts every sample at `position` less half a location, so the rule's borders are hit exactly."""
    bases = torch.randn((1, 4, 16, 24), generator=torch.Generator().manual_seed(0))
    at = (position + 0.5) * 4
    boxes = torch.tensor([[at, 20.0, at, 20.0], [20.0, at * 2 / 3, 20.0, at * 2 / 3]])
    vectors = torch.zeros(2, 4 * TINY.attention_size**2)
    pooled = pool_bases(bases, boxes, torch.zeros(2, dtype=torch.long), TINY.resolution)
    expected = blend(pooled, vectors, TINY.attention_size)
    torch.testing.assert_close(graph_of(MODELS["TINY"]).blend(bases, boxes, vectors), expected, rtol=1e-4, atol=1e-5)


def test_large_attention_overflows_nothing() -> None:
    vectors = torch.full((1, 4 * TINY.attention_size**2), 1e4)
    logits = graph_of(MODELS["TINY"]).blend(torch.ones(1, 4, 16, 24), torch.tensor([[8.0, 8, 40, 40]]), vectors)
    torch.testing.assert_close(logits, torch.ones_like(logits))


@pytest.mark.parametrize("size", [(96, 160), (160, 96), (128, 224)])
def test_levels_have_the_sizes_the_network_gives_them(size: tuple[int, int]) -> None:
    model = MODELS["TINY_FIVE_LEVELS"]
    with torch.no_grad():
        found = model(torch.zeros(1, 3, *size))
    assert [tuple(level.shape[-2:]) for level in found.logits] == level_sizes(model.config, size)


FAST = replace(TINY, name="TINY_FAST", inference=replace(TINY.inference, nms="fast"))


def test_fast_nms_is_one_round_whatever_the_bounds_ask_for() -> None:
    assert Bounds().within(FAST, (64, 96)).rounds == 1
    cluster = replace(FAST, inference=replace(FAST.inference, nms="cluster"))
    assert Bounds(rounds=7).within(cluster, (64, 96)).rounds == 7


def test_masks_of_clipped_boxes_are_those_of_the_visible_part() -> None:
    """The same detections, cut at the input's border before their masks are made."""
    model = small_network(CLIPPED)
    predictions = random_predictions(TINY, 5, -1.0)
    whole, clipped = graph_of(MODELS["TINY"]).postprocess(predictions), graph_of(model).postprocess(predictions)
    limits = torch.tensor([96.0, 64, 96, 64])
    assert torch.equal(clipped.boxes, whole.boxes.clamp(min=0).minimum(limits))
    assert torch.equal(clipped.scores, whole.scores)
    inside = (whole.boxes == clipped.boxes).all(dim=2)
    assert 10 < inside.sum() < 90
    assert torch.equal(clipped.mask_logits[inside], whole.mask_logits[inside])
    assert not torch.equal(clipped.mask_logits[~inside], whole.mask_logits[~inside])


@pytest.mark.parametrize(
    "config", [TINY, FIVE_LEVELS, FROZEN, FAST, CLIPPED, WEIGHTED_SUM, ASSEMBLER], ids=lambda config: config.name
)
def test_image_in_detections_out(config: ModelConfig) -> None:
    model, x = small_network(config), image(2, size_of(config))
    graph = DeployableGraph(model, model, size_of(config), MANY).eval()
    with torch.no_grad():
        assert_same(graph(torch.from_numpy(x)), detect(model, network_input(model, x)), 100)


@functools.cache
def whole_graph(config: ModelConfig) -> DeployableGraph:
    """The graph of an eager network."""
    model = small_network(config)
    return DeployableGraph(model, model, size_of(config), MANY).eval()


BETWEEN = replace(
    FROZEN, backbone=replace(FROZEN.backbone, depth=50), input=replace(FROZEN.input, mean=(103.53, 116.28, 123.675))
)
"""A pixel mean between gray levels; of this depth one case is known that rounding decides."""


@pytest.mark.parametrize("config", [TINY, BETWEEN, limited(BETWEEN, 28, 30)], ids=["whole", "between", "few"])
@given(seed=SEEDS, height=st.integers(1, 16), width=st.integers(1, 16))
@example(seed=19612, height=7, width=5)  # two candidates that overlap score the same up to rounding
@example(seed=0, height=3, width=14)  # a coordinate of -43.7 differs by three units of the last place of its terms
@settings(max_examples=8)
def test_it_equals_the_eager_network_from_the_file_on(config: ModelConfig, seed: int, height: int, width: int) -> None:
    """Images of any shape, which are resized and then padded below or at the right."""
    graph, pixels = whole_graph(config), image(seed, (8 * height, 8 * width))[0]
    model, size = graph.given, size_of(config)
    assert isinstance(model, BlendMask)
    prepared = preprocess(pixels, size, pad_value(config.input)).image
    with torch.no_grad():
        x, _ = file_to_input(model, pixels, size)
        torch.testing.assert_close(graph.normalize(torch.from_numpy(prepared)), x)
        assume(not decided_by_rounding(model(x), config))
        assert_same(graph(torch.from_numpy(prepared)), detect(model, x), 100)


def test_the_order_of_suppression_can_depend_on_rounding() -> None:
    """The case above: of two candidates that overlap either is first, and the other is lost."""
    config = limited(BETWEEN, 28, 30)
    model = whole_graph(config).given
    assert isinstance(model, BlendMask)
    with torch.no_grad():
        for seed, is_decided in ((19612, True), (3, False)):
            x, _ = file_to_input(model, image(seed, (56, 40))[0], size_of(config))
            assert decided_by_rounding(model(x), config) == is_decided


def decided_by_rounding(predictions: Predictions, config: ModelConfig) -> bool:
    """Whether an order or an overlap that selection depends on is closer than rounding."""
    inference, limit = config.inference, config.inference.candidates_per_level
    every = candidates(predictions, config.head.strides, replace(inference, candidates_per_level=10**6))
    offered = [every.scores[every.level == level] for level in range(len(config.head.strides))]
    found = candidates(predictions, config.head.strides, inference)
    rows = inference.detections if inference.detections > 0 else 100
    kept = select(found, replace(inference, detections=0)).scores
    if any(is_close_at(scores, limit) for scores in offered) or is_close_at(kept, rows):
        return True
    overlap = box_iou(found.boxes, found.boxes).triu(1) * (found.class_id[:, None] == found.class_id)
    apart = (found.scores[:, None] - found.scores).abs()
    tied = (overlap > inference.nms_threshold) & (apart < SCORE_ROUNDING)
    return bool((tied | ((overlap - inference.nms_threshold).abs() < 1e-5)).any())


def is_close_at(scores: Tensor, limit: int) -> bool:
    """Whether the last score within a limit and the first one past it are equal up to rounding."""
    ordered = scores.sort(descending=True).values
    return len(ordered) > limit and bool(ordered[limit - 1] - ordered[limit] < SCORE_ROUNDING)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_padding_is_exactly_zero_and_pixels_of_its_color_stay(channels: str) -> None:
    config = replace(BETWEEN, input=replace(BETWEEN.input, channels=channels))
    model, size = small_network(config), (64, 96)
    pixels = image(3, (64, 64))[0]
    pixels[10, :], pixels[:, 20], pixels[-1, :-1] = (pad_value(config.input),) * 3
    prepared = preprocess(pixels, size, pad_value(config.input)).image
    found = DeployableGraph(model, model, size, MANY).normalize(torch.from_numpy(prepared))
    assert not found[..., 64:].any()
    expected = network_input(model, pixels[None])
    assert expected[:, :, 10].all()
    torch.testing.assert_close(found[..., :64], expected)


def test_an_image_that_is_all_padding_is_zero() -> None:
    model = small_network(BETWEEN)
    canvas = np.full((1, 64, 96, 3), pad_value(BETWEEN.input), np.uint8)
    assert not DeployableGraph(model, model, (64, 96), MANY).normalize(torch.from_numpy(canvas)).any()


@pytest.mark.parametrize("case", recorded_cases())
def test_it_equals_the_recorded_reference_of_every_released_network(parity: Path, case: str) -> None:
    """From uint8 pixels on, padded as the SDK pads; two of them have small limits or many candidates."""
    recorded = Reference(parity / case)
    model, stored = recorded.model(torch.float32), recorded.stored
    size = tuple(recorded.about["padded_hw"])
    graph = DeployableGraph(model, model, size, Bounds()).eval()
    with torch.no_grad():
        found = graph(torch.from_numpy(padded(recorded, size, pad_value(model.config.input))))
    count = len(stored["det.score"])
    assert int((found.scores > 0).sum()) == count
    tie = np.append(0, np.cumsum(np.diff(stored["det.score"]) < -1e-5))
    ours = tie_order(tie, found.class_ids[0, :count], found.boxes[0, :count])
    theirs = tie_order(tie, torch.from_numpy(stored["det.class"]), torch.from_numpy(stored["det.box"]))
    for name, values, tolerance in (("score", found.scores, 3e-5), ("box", found.boxes, 5e-3)):
        expected = torch.from_numpy(stored[f"det.{name}"]).float()[theirs]
        torch.testing.assert_close(values[0, ours], expected, rtol=0, atol=tolerance)
    assert found.class_ids[0, ours].tolist() == stored["det.class"][theirs].tolist()


def padded(case: Reference, size: tuple[int, ...], value: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The recorded resized image in an input of the recorded size, (1, H, W, 3) RGB."""
    resized = case.images[1]
    canvas = np.full((1, *size, 3), value, np.uint8)
    canvas[0, : resized.shape[0], : resized.shape[1]] = resized
    return canvas


def test_it_equals_the_recorded_reference(parity: object) -> None:
    case = Reference(parity / "rt_bnhead")  # type: ignore[operator]
    model = case.model(torch.float32)
    x = case.network_input(model)
    graph = DeployableGraph(model, model, tuple(x.shape[2:]), Bounds())  # type: ignore[arg-type]

    def recorded(name: str) -> Tensor:
        return torch.from_numpy(case.stored[f"det.{name}"]).float()

    with torch.no_grad():
        found = graph.postprocess(model(x))
    count = len(case.stored["det.score"])
    assert int((found.scores > 0).sum()) == count
    torch.testing.assert_close(found.scores[0, :count], recorded("score"), rtol=0, atol=3e-5)
    torch.testing.assert_close(found.boxes[0, :count], recorded("box"), rtol=0, atol=5e-3)
    assert found.class_ids[0, :count].tolist() == case.stored["det.class"].tolist()
    index = torch.from_numpy(case.stored["det.mask_logits.idx"]).long()
    largest = case.about["arrays"]["det.mask_logits"]["absmax"]
    ours = found.mask_logits[0, :count].flatten()[index]
    torch.testing.assert_close(ours, recorded("mask_logits.val"), rtol=0, atol=5e-4 * largest)
