"""Locations that nothing reads are not computed, and those that are read stay what they were."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.strides import hoist_strides
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import small_network
from tests.quantize.tiny import TINY

X = torch.randn((1, 4, 11, 14), generator=torch.Generator().manual_seed(0))


class Stage(nn.Module):
    """The end of a residual stage and what reads it: two 1x1 convolutions of stride 2, and a third reader if wanted."""

    def __init__(self, *, other_reader: bool = False, strides: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.left, self.right = (nn.Conv2d(4, 6, 1, stride=stride) for stride in strides)
        self.other_reader = other_reader

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = F.relu(x)
        y = F.relu(self.middle(F.relu(self.first(x))))
        x = F.relu(self.last(y) + x)
        return self.left(x), self.right(x), *([x * 1.0] if self.other_reader else [])


def hoisted(stage: nn.Module) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The traced stage before and after."""
    before = fx.symbolic_trace(stage).eval()
    after = copy.deepcopy(before)
    hoist_strides(after)
    after.graph.lint()
    after.recompile()
    return before, after


def strides(traced: fx.GraphModule) -> dict[str, int]:
    return {name: module.stride[0] for name, module in traced.named_modules() if isinstance(module, nn.Conv2d)}


def test_the_stride_moves_up_to_the_last_convolution_that_mixes_locations() -> None:
    before, after = hoisted(Stage())
    assert strides(after) == {"first": 1, "middle": 2, "last": 1, "left": 1, "right": 1}
    assert [kind(after, node) for node in after.graph.nodes].count("max_pool") == 1
    for one, other in zip(before(X), after(X), strict=True):
        torch.testing.assert_close(one, other)


def test_what_something_else_reads_is_computed_whole() -> None:
    before, after = hoisted(Stage(other_reader=True))
    assert strides(after) == strides(before)


def test_readers_of_different_strides_are_left_alone() -> None:
    before, after = hoisted(Stage(strides=(2, 1)))
    assert strides(after) == strides(before)


def test_second_stage_of_a_residual_backbone_is_computed_where_the_third_reads_it() -> None:
    """Without fine bases only; with them, and of stages that the pyramid reads, every location is read."""
    for fine, expected in ((False, (2, 1)), (True, (1, 2))):
        config = replace(TINY, bases=replace(TINY.bases, fine=fine))
        traced = trace_network(small_network(config))
        by_name = {
            name.removeprefix("backbone.bottom_up.").removesuffix(".conv"): stride
            for name, stride in strides(traced).items()
        }
        assert (by_name["res2.1.conv2"], by_name["res3.0.conv1"]) == expected
        assert by_name["res4.0.conv1"] == 2
