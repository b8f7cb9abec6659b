"""Where quantizers stand: the rules of both families of runtimes, on whole networks and on the cases that decide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.nodes import kind, tensor_inputs
from blendmask_quantize.quantization.placement import VARIANTS, Placement, calibration_points, place
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.quantizer import ActivationQuantizer, IntegerConv2d
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import (
    DEFORMABLE,
    DLA,
    FIVE_LEVELS,
    LITE,
    image,
    network_input,
    size_of,
    small_network,
)
from tests.quantize.tiny import TINY

PASSED = ("nearest", "max_pool")


@pytest.fixture(scope="module", params=[TINY, LITE, FIVE_LEVELS, DLA], ids=lambda config: config.name)
def start(request: pytest.FixtureRequest) -> Calibrated:
    model = small_network(request.param)
    traced = trace_network(model)
    x = network_input(model, image(0, size_of(model.config)))
    return Calibrated(traced, observe_ranges(traced, [x], "max"))


class Rendered:
    """A rendered network, and what is said of its nodes."""

    def __init__(self, start: Calibrated, variant: str) -> None:
        self.variant, self.network = variant, start.render(variant)
        self.nodes: list[fx.Node] = list(self.network.graph.nodes)

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.network.get_submodule(str(node.target)) if node.op == "call_module" else None

    def rounds(self, node: fx.Node) -> bool:
        return isinstance(self.module(node), ActivationQuantizer)

    def kind(self, node: fx.Node) -> str:
        if isinstance(self.module(node), IntegerConv2d):
            return "conv"
        return "quantizer" if self.rounds(node) else kind(self.network, node)

    def of_kind(self, *kinds: str) -> list[fx.Node]:
        return [node for node in self.nodes if self.kind(node) in kinds]

    def rounded(self, node: fx.Node) -> bool:
        """Whether a tensor carries rounded values: straight from a quantizer, or through what rounding passes."""
        while self.kind(node) in PASSED:
            node = tensor_inputs(node)[0]
        return self.rounds(node)


@pytest.fixture(scope="module", params=VARIANTS)
def rendered(request: pytest.FixtureRequest, start: Calibrated) -> Rendered:
    return Rendered(start, request.param)


def test_no_quantizer_stands_between_a_convolution_or_sum_and_its_activation(rendered: Rendered) -> None:
    activations = rendered.of_kind("relu")
    assert activations
    for activation in activations:
        source = tensor_inputs(activation)[0]
        assert not rendered.rounds(source) or len(source.users) > 1, f"{source} cuts {activation} off"


def test_every_integer_convolution_reads_rounded_values(rendered: Rendered) -> None:
    convs = [node for node in rendered.nodes if isinstance(rendered.module(node), IntegerConv2d)]
    assert len(convs) >= 40
    assert all(rendered.rounded(tensor_inputs(conv)[0]) for conv in convs)


def test_box_predictors_stay_float_and_nothing_else_does(rendered: Rendered) -> None:
    for conv in rendered.of_kind("conv"):
        is_float = not isinstance(rendered.module(conv), IntegerConv2d)
        assert is_float == ("bbox_pred" in str(conv.target)), conv.target


def test_results_of_the_network_are_not_rounded(rendered: Rendered) -> None:
    (results,) = (node for node in rendered.nodes if node.target is Predictions)
    logits, regression, centerness, _, bases, _ = results.args
    for result in (*logits, *regression, *centerness, bases):
        assert not rendered.rounds(result), result


def test_sums_have_one_rounded_operand_in_tensorrt_and_two_on_the_cpu(rendered: Rendered) -> None:
    sums = rendered.of_kind("add")
    with_conv = [n for n in sums if any(isinstance(rendered.module(o), IntegerConv2d) for o in tensor_inputs(n))]
    if rendered.variant == "cpu":
        assert all(rendered.rounded(operand) for node in sums for operand in tensor_inputs(node))
        return
    assert len(with_conv) >= 10
    for node in with_conv:
        assert sum(rendered.rounded(operand) for operand in tensor_inputs(node)) == 1, node


def test_the_unrounded_operand_of_a_tensorrt_sum_goes_nowhere_else(start: Calibrated) -> None:
    rendered = Rendered(start, "tensorrt")
    for node in rendered.of_kind("add"):
        for operand in tensor_inputs(node):
            if rendered.kind(operand) == "conv":
                assert list(operand.users) == [node]


def test_on_the_cpu_every_group_is_complete(start: Calibrated) -> None:
    rendered = Rendered(start, "cpu")
    for node in rendered.of_kind("add", "concat", "bilinear", *PASSED):
        behind = list(node.users)
        if [rendered.kind(user) for user in behind] == ["relu"]:
            behind = list(behind[0].users)
        assert all(rendered.rounds(user) for user in behind), node


def test_nearest_resizing_and_max_pooling_keep_the_scale(start: Calibrated) -> None:
    placement, traced = place(start.traced, "cpu"), start.traced
    ranges = {point.node: point.range_of for point in placement.points}
    passed = [node for node in traced.graph.nodes if kind(traced, node) in PASSED]
    assert passed
    for node in passed:
        assert ranges[node.name] == ranges[tensor_inputs(node)[0].name]


def test_rounding_again_behind_them_changes_nothing(start: Calibrated) -> None:
    rendered = Rendered(start, "cpu")
    x = torch.randn((1, 2, 8, 8), generator=torch.Generator().manual_seed(0)) * 3
    for node in rendered.of_kind(*PASSED):
        before, after = rendered.module(tensor_inputs(node)[0]), rendered.module(next(iter(node.users)))
        assert before is not None
        assert after is not None
        assert torch.equal(after(before(x)), before(x))


def test_bilinear_resizing_shares_the_scale_of_what_it_reads(start: Calibrated) -> None:
    traced = start.traced
    resized = [node for node in traced.graph.nodes if kind(traced, node) == "bilinear"]
    assert len(resized) == 3
    for variant in VARIANTS:
        ranges = {point.node: point.range_of for point in place(traced, variant).points}
        assert all(ranges.get(n.name, tensor_inputs(n)[0].name) == tensor_inputs(n)[0].name for n in resized)
    rendered = Rendered(start, "cpu")
    for node in rendered.of_kind("bilinear"):
        before, after = rendered.module(tensor_inputs(node)[0]), rendered.module(next(iter(node.users)))
        assert isinstance(before, ActivationQuantizer)
        assert isinstance(after, ActivationQuantizer)
        assert before.qparams == after.qparams


def test_a_sum_that_ignored_layers_alone_make_stays_float() -> None:
    model = small_network(LITE)
    block = "backbone.bottom_up.blocks.1"
    makers = (f"{block}.0.project", f"{block}.1.project")
    sums = {}
    for ignored in ((), makers[:1], makers):
        traced = trace_network(model, ignored)
        first = next(node for node in traced.graph.nodes if kind(traced, node) == "add")
        points = {point.node for point in place(traced, "cpu").points}
        sums[ignored] = [operand.name in points for operand in tensor_inputs(first)]
    assert sums[()] == [True, True]
    assert sums[makers[:1]] == [True, True], "one operand is still made of integers"
    assert not all(sums[makers])


def test_group_normalization_is_not_touched() -> None:
    traced = trace_network(small_network(FIVE_LEVELS))
    norms = [node for node in traced.graph.nodes if kind(traced, node) == "group_norm"]
    assert norms
    for variant in VARIANTS:
        assert not {node.name for node in norms} & {point.node for point in place(traced, variant).points}


def test_variants_differ_in_rounded_tensors_only(start: Calibrated) -> None:
    cpu, tensorrt = (place(start.traced, variant) for variant in VARIANTS)
    assert cpu.convs == tensorrt.convs
    assert {point.node for point in tensorrt.points} < {point.node for point in cpu.points}
    common = {point.node: point for point in cpu.points}
    assert all(common[point.node] == point for point in tensorrt.points)


def test_every_range_that_some_variant_needs_is_calibrated_once(start: Calibrated) -> None:
    calibrated = [point.node for point in calibration_points(start.traced)]
    assert len(calibrated) == len(set(calibrated))
    needed = {point.range_of for variant in VARIANTS for point in place(start.traced, variant).points}
    assert set(calibrated) == needed == set(start.ranges)


class Sum(nn.Module):
    """Two branches of convolutions and their sum, in a given order, behind which another convolution stands."""

    def __init__(self, *, shared_first: bool) -> None:
        super().__init__()
        self.stem, self.branch, self.last = (nn.Conv2d(2, 2, 1) for _ in range(3))
        self.shared_first = shared_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.branch(x)
        return F.relu(self.last(x + y if self.shared_first else y + x)) * 1.0


@pytest.mark.parametrize("shared_first", [True, False])
def test_a_convolution_that_others_read_is_the_rounded_operand(shared_first: bool) -> None:
    traced = fx.symbolic_trace(Sum(shared_first=shared_first))
    names = {point.node for point in place(traced, "tensorrt").points}
    assert "stem" in names
    assert "branch" not in names


class Branches(nn.Module):
    """A convolution whose result goes on with and without an activation, as P6 does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.plain, self.rectified = (nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return (self.plain(x) + self.rectified(F.relu(x))) * 1.0


def signs(placement: Placement) -> dict[str, bool]:
    return {point.node: point.signed for point in placement.points}


def test_a_tensor_read_with_and_without_activation_is_rounded_as_both() -> None:
    assert signs(place(fx.symbolic_trace(Branches()), "tensorrt")) == {
        "x": True, "first": True, "relu": False, "rectified": True,
    }  # fmt: skip


class Pooled(nn.Module):
    """Pooling and resizing between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.interpolate(self.second(x), scale_factor=2.0, mode="nearest")
        return self.third(x) * 1.0


def test_in_tensorrt_one_rounding_before_pooling_and_resizing_is_enough() -> None:
    assert signs(place(fx.symbolic_trace(Pooled()), "tensorrt")) == {"x": True, "relu": False, "second": True}


def test_a_concatenation_of_rectified_tensors_is_unsigned() -> None:
    traced = trace_network(small_network(DLA))
    signed = {point.node: point.signed for point in place(traced, "cpu").points}
    joined = [node for node in traced.graph.nodes if kind(traced, node) == "concat"]
    assert len(joined) == 6
    assert not any(signed[node.name] for node in joined)


def test_deformable_convolutions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot quantize TINY_DEFORMABLE: .*\(res4, res5\).*such as R_101_3x"):
        trace_network(small_network(DEFORMABLE))
