"""Ranges are what the images show; every variant is rendered from the same ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx

from blendmask_calibration import CalibrationError
from blendmask_calibration.estimators import ESTIMATORS, Range
from blendmask_edge.errors import ConfigError
from blendmask_quantize.pipeline.recipe_names import RECIPES, get_recipe
from blendmask_quantize.quantization.placement import VARIANTS, calibration_points, place
from blendmask_quantize.quantization.ptq import activation_qparams_by_name, observe_ranges, render
from blendmask_quantize.quantization.quantizer import IntegerConv2d
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import image, network_input, small_network
from tests.quantize.tiny import TINY


@pytest.fixture(scope="module")
def traced() -> fx.GraphModule:
    model = small_network(TINY)
    with torch.no_grad():
        norm = model.backbone.bottom_up.res2[0].conv2.norm
        norm.weight[1], norm.bias[1] = 0, 60
    return trace_network(model)


@pytest.fixture(scope="module")
def inputs() -> list[Tensor]:
    return [network_input(small_network(TINY), image(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def ranges(traced: fx.GraphModule, inputs: list[Tensor]) -> dict[str, Range]:
    return observe_ranges(traced, inputs, "max")


def test_the_max_range_is_the_largest_magnitude_over_all_images(
    traced: fx.GraphModule, inputs: list[Tensor], ranges: dict[str, Range]
) -> None:
    seen: dict[str, float] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            if n.name in ranges:
                seen[n.name] = max(seen.get(n.name, 0.0), result.abs().max().item())
            return result

    with torch.no_grad():
        for x in inputs:
            Watch(traced).run(x)
    assert {name: actual.high for name, actual in ranges.items()} == pytest.approx(seen)


def test_ranges_are_signed_where_the_placement_says_so(traced: fx.GraphModule, ranges: dict[str, Range]) -> None:
    for point in calibration_points(traced):
        actual = ranges[point.node]
        assert actual.low == (-actual.high if point.signed else 0.0)


def test_a_signed_tensor_that_happens_to_be_positive_is_judged_by_127_steps(traced: fx.GraphModule) -> None:
    bright = [torch.rand((1, 3, 64, 96), generator=torch.Generator().manual_seed(0)) ** 8 * 5]
    levels: dict[str, int] = {}

    def watching(histogram: object, levels_given: int) -> Range:  # noqa: ARG001
        levels["first"] = levels.get("first", levels_given)
        return Range(-1.0, 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ESTIMATORS, "watching", watching)
        observe_ranges(traced, bright, "watching")
    assert calibration_points(traced)[0].node == "x"
    assert levels["first"] == 127


def test_each_image_is_reported(traced: fx.GraphModule, inputs: list[Tensor]) -> None:
    calls: list[int] = []
    observe_ranges(traced, inputs, "max", lambda actual: calls.append(len(actual.logits)))
    assert calls == [3] * len(inputs)


def test_an_unknown_estimator_is_refused_before_any_image_is_read(traced: fx.GraphModule) -> None:
    def never() -> Tensor:
        raise AssertionError("an image was read")

    with pytest.raises(CalibrationError, match="median"):
        observe_ranges(traced, (never() for _ in range(1)), "median")


def test_variants_share_weights_and_ranges(traced: fx.GraphModule, ranges: dict[str, Range]) -> None:
    cpu, tensorrt = (render(traced, ranges, variant) for variant in VARIANTS)
    convs = {name: module for name, module in cpu.named_modules() if isinstance(module, IntegerConv2d)}
    assert len(convs) == len(place(traced, "cpu").convs)
    for name, conv in convs.items():
        other = tensorrt.get_submodule(name)
        assert isinstance(other, IntegerConv2d)
        assert torch.equal(conv.integers, other.integers)
        assert torch.equal(conv.weight_scale, other.weight_scale)
        assert torch.all(conv.weight_scale > 0)
    qparams_list = [activation_qparams_by_name(place(traced, variant), ranges, variant) for variant in VARIANTS]
    signed = {point.node: point.signed for point in place(traced, "tensorrt").points}
    for name, qparams in qparams_list[1].items():
        assert qparams_list[0][name].scale == pytest.approx(
            qparams.scale if signed[name] else qparams.scale * 127 / 255
        )


def test_the_bias_is_an_integer_in_steps_of_input_times_weight(
    traced: fx.GraphModule, ranges: dict[str, Range]
) -> None:
    cpu = render(traced, ranges, "cpu")
    qparams_list = activation_qparams_by_name(place(traced, "cpu"), ranges, "cpu")
    stem = cpu.get_submodule("backbone.bottom_up.stem.conv1.conv")
    assert isinstance(stem, IntegerConv2d)
    torch.testing.assert_close(stem.bias_scale, stem.weight_scale * qparams_list["x"].scale)


def test_a_dead_channel_stays_what_it_was(traced: fx.GraphModule, ranges: dict[str, Range]) -> None:
    for variant in VARIANTS:
        conv = render(traced, ranges, variant).get_submodule("backbone.bottom_up.res2.0.conv2.conv")
        dead = conv(torch.randn(1, 4, 6, 6))[0, 1]
        torch.testing.assert_close(dead, torch.full_like(dead, 60), rtol=1e-3, atol=1e-3)


def test_rendering_leaves_the_float_network_as_it_was(
    traced: fx.GraphModule, inputs: list[Tensor], ranges: dict[str, Range]
) -> None:
    with torch.no_grad():
        before = traced(inputs[0]).bases
        render(traced, ranges, "cpu")
        assert torch.equal(traced(inputs[0]).bases, before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_rendered_network_is_close_to_the_float_one(
    traced: fx.GraphModule, inputs: list[Tensor], ranges: dict[str, Range], variant: str
) -> None:
    with torch.no_grad():
        expected, actual = traced(inputs[0]).bases, render(traced, ranges, variant)(inputs[0]).bases
    assert (actual - expected).abs().mean() < 0.1 * expected.std()


def test_recipes_are_found_by_name_and_the_nearest_is_suggested() -> None:
    assert all(get_recipe(name) is recipe for name, recipe in RECIPES.items())
    with pytest.raises(ConfigError, match="did you mean ptq"):
        get_recipe("ptqq")
    with pytest.raises(ConfigError, match="ptq"):
        get_recipe("zzzz")
