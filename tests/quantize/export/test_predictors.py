"""The graph computes its predictors with less work, and nothing that they give changes."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.predictors import split_predictors
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import ASSEMBLER, FIVE_LEVELS, image, network_input, size_of, small_network
from tests.quantize.tiny import TINY

ONE_TOWER, TWO_TOWERS = TINY, FIVE_LEVELS


def plain_convs(network: fx.GraphModule) -> list[nn.Conv2d]:
    """The convolutions that are called, in graph order."""
    called = [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]
    return [module for module in called if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("config, width", [(ONE_TOWER, 3 + 1), (TWO_TOWERS, None)], ids=["one tower", "two towers"])
def test_classes_and_centerness_of_a_tower_are_one_convolution_a_level(config: ModelConfig, width: int | None) -> None:
    model = small_network(config)
    traced, levels = trace_network(model), len(config.head.strides)
    x = network_input(model, image(0, size_of(config)))
    lean, _ = split_predictors(traced)
    kept = [id(conv) for conv in plain_convs(traced)]
    joined = [conv.out_channels for conv in plain_convs(lean) if id(conv) not in kept]
    assert joined == ([] if width is None else [width] * levels)
    assert len(kept) - len(plain_convs(lean)) == levels * (1 if width is None else 2)
    with torch.no_grad():
        ours, theirs = lean(x), traced(x)
    for level in range(levels):
        expected = torch.cat([theirs.logits[level], theirs.centerness[level]], dim=1)
        parts = [ours.logits[level], *([ours.centerness[level]] if ours.centerness else [])]
        torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-5, atol=1e-5)
    assert ours.regression == ()
    assert torch.equal(ours.bases, theirs.bases)


@pytest.mark.parametrize("config", [ONE_TOWER, TWO_TOWERS, ASSEMBLER], ids=lambda config: config.name)
@torch.no_grad()
def test_boxes_at_the_candidates_are_those_of_the_maps(config: ModelConfig) -> None:
    model = small_network(config)
    traced = trace_network(model)
    _vary(traced)
    x = network_input(model, image(3, size_of(config)))
    at_candidates = DeployableGraph(model, traced, size_of(config), Bounds()).eval()
    of_maps = DeployableGraph(model, nn.Identity(), size_of(config), Bounds()).eval()
    ours, theirs = at_candidates.select(at_candidates.network(x)), of_maps.select(traced(x))
    assert theirs.score.count_nonzero() > 10
    assert len(set(torch.diff(theirs.box).abs().max(dim=1).values.round().tolist())) > 3
    torch.testing.assert_close(ours.box, theirs.box, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def _vary(traced: fx.GraphModule) -> None:
    """Give each level's box predictor weights of its own, as a scale a level and corrected biases do."""
    for number, node in enumerate(node for node in traced.graph.nodes if "bbox_pred" in str(node.target)):
        conv = traced.get_submodule(str(node.target))
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight.mul_(20 * (1 + number))
        conv.bias.add_(1 + number)


def test_the_network_is_left_as_it_was_and_shares_its_weights() -> None:
    traced = trace_network(small_network(TINY))
    before, modules = str(traced.graph), set(dict(traced.named_modules()))
    lean, _ = split_predictors(traced)
    assert str(traced.graph) == before
    assert set(dict(traced.named_modules())) == modules
    assert plain_convs(lean)[0] is plain_convs(traced)[0]


class Head(nn.Module):
    """One level whose predictors differ in what cannot be joined, and whose boxes are not read from the tower."""

    def __init__(self) -> None:
        super().__init__()
        self.logits, self.centerness = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(4, 1, 1)
        self.boxes, self.tower = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> Predictions:
        boxes = F.relu(self.boxes(x))
        return Predictions((self.logits(x),), (boxes,), (self.centerness(x),), (self.tower(x),), x, None)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return isinstance(m, nn.Conv2d)


def test_predictors_of_another_form_stay_as_they_are() -> None:
    head = Head()
    traced = fx.GraphModule(head, _Tracer().trace(head)).eval()
    lean, boxes = split_predictors(traced)
    assert boxes is None
    x = torch.randn((1, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    for one, other in zip(lean(x)[:4], traced(x)[:4], strict=True):
        torch.testing.assert_close(one, other)
