"""Predictors that read the same tensor become one convolution, and nothing that they give changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from blendmask_quantize.export.merge import merge_readers
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import FIVE_LEVELS, image, network_input, size_of, small_network
from tests.quantize.tiny import TINY


def plain_convs(network: fx.GraphModule) -> list[nn.Conv2d]:
    """The convolutions that are called, in graph order."""
    called = [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]
    return [module for module in called if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("config, width", [(TINY, 3 + 4 + 1), (FIVE_LEVELS, 4 + 1)], ids=["one tower", "two towers"])
def test_predictors_of_a_tower_are_one_convolution_a_level(config: ModelConfig, width: int) -> None:
    model = small_network(config)
    traced = trace_network(model)
    x = network_input(model, image(0, size_of(config)))
    merged = merge_readers(traced)
    levels = len(config.head.strides)
    kept = [id(conv) for conv in plain_convs(traced)]
    assert [conv.out_channels for conv in plain_convs(merged) if id(conv) not in kept] == [width] * levels
    assert len(kept) - len(plain_convs(merged)) == levels * (2 if config is TINY else 1)
    with torch.no_grad():
        ours, theirs = merged(x), traced(x)
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        for level, expected in zip(one, other, strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours.bases, theirs.bases)


def test_the_network_is_left_as_it_was_and_shares_its_weights() -> None:
    traced = trace_network(small_network(TINY))
    before, modules = str(traced.graph), set(dict(traced.named_modules()))
    merged = merge_readers(traced)
    assert str(traced.graph) == before
    assert set(dict(traced.named_modules())) == modules
    assert plain_convs(merged)[0] is plain_convs(traced)[0]


class Readers(nn.Module):
    """Convolutions of one tensor that differ in what cannot be joined, and a pair without biases that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stride, self.kernel, self.grouped = (
            nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, groups=2),
        )  # fmt: skip
        self.first, self.second = nn.Conv2d(4, 2, 1, bias=False), nn.Conv2d(4, 5, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.stride(x), self.kernel(x), self.grouped(x), self.second(x), self.first(x)


def test_only_convolutions_of_the_same_kind_are_joined() -> None:
    traced = fx.symbolic_trace(Readers()).eval()
    merged = merge_readers(traced)
    assert [conv.out_channels for conv in plain_convs(merged)] == [4, 4, 4, 7]
    x = torch.randn((1, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    for one, other in zip(merged(x), traced(x), strict=True):
        torch.testing.assert_close(one, other)
