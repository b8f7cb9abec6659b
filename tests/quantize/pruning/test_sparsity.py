"""2:4 sparsity: set once, kept by whatever changes weights, and counted in the integers of the exported graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import ParityError
from blendmask_quantize.export.sparsity import check_sparsity, measure_sparsity
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.sparsity import is_sparse, keep_zeros, sparse_layers, sparse_mask
from blendmask_quantize.pruning.options import PruneOptions
from blendmask_quantize.pruning.sparsity import make_sparse
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.qat.fake_quantizers import FakeQuantNetwork
from blendmask_quantize.quantization.refine.adaround import AdaRound
from blendmask_quantize.quantization.refine.coordinate_descent import CoordinateDescent
from blendmask_quantize.quantization.refine.rounding import Find, find_roundings
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.prunable import SMALL
from tests.quantize.small_networks import slow
from tests.quantize.tiny import tiny_model

SIZE = (64, 96)
FROZEN = replace(SMALL, backbone=replace(SMALL.backbone, frozen_stages=2))


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn((1, 3, *SIZE), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sparse() -> BlendMask:
    model = tiny_model(SMALL)
    make_sparse(model)
    return model


@pytest.fixture(scope="module")
def calibrated(sparse: BlendMask) -> Calibrated:
    traced = trace_network(sparse)
    with torch.no_grad():
        return Calibrated(traced, observe_ranges(traced, [image()], "max"))


@given(outputs=st.integers(1, 5), groups=st.integers(1, 4), side=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_two_largest_of_four_stay(outputs: int, groups: int, side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((outputs, 4 * groups, side, side), generator=generator)
    kept = sparse_mask(weight)
    grouped, held = weight.abs().unflatten(1, (-1, 4)), kept.unflatten(1, (-1, 4))
    assert (held.sum(dim=2) == 2).all()
    smallest_kept = grouped.masked_fill(~held, torch.inf).amin(dim=2)
    assert (smallest_kept >= grouped.masked_fill(held, 0).amax(dim=2)).all()


def test_every_convolution_that_may_be_pruned_becomes_sparse(sparse: BlendMask) -> None:
    layers = set(sparse_layers(sparse))
    assert "basis_module.tower.1.0" in layers
    assert not any(name.endswith(("cls_logits", "bbox_pred", "ctrness", "top_layer")) for name in layers)
    assert "backbone.bottom_up.stem.conv1.conv" not in layers, "three channels are no group of four"


def test_protected_layers_and_frozen_stages_stay_dense() -> None:
    model = tiny_model(FROZEN)
    layers = make_sparse(model, ("basis_module",))
    assert not any(name.startswith(("basis_module", "backbone.bottom_up.res2")) for name in layers)
    assert sparse_layers(model) == layers
    with pytest.raises(ConfigError, match="protected layer 'basis': near it are"):
        make_sparse(model, ("basis",))
    with pytest.raises(ConfigError, match="2:4"):
        make_sparse(model, ("*",))


def test_another_pattern_is_refused() -> None:
    with pytest.raises(ConfigError, match="known are 2:4"):
        PruneOptions(sparsity="1:4")


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_keeps_the_zeros_and_changes_the_others(optimizer: type[torch.optim.Optimizer]) -> None:
    layer = nn.Conv2d(8, 4, 3)
    dense = nn.Conv2d(8, 4, 3)
    with torch.no_grad():
        layer.weight *= sparse_mask(layer.weight)
    before = layer.weight.detach().clone()
    network = nn.ModuleList([layer, dense])
    keep_zeros(network)
    steps = optimizer(network.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        steps.zero_grad()
        x = torch.randn(2, 8, 5, 5)
        (layer(x) - 3).square().mean().add((dense(x) - 3).square().mean()).backward()
        steps.step()
    assert torch.equal(layer.weight == 0, before == 0)
    assert (layer.weight != before)[before != 0].all()
    assert (dense.weight != 0).all()


@pytest.mark.parametrize(
    "find", [CoordinateDescent(), *slow(AdaRound(iterations=10))], ids=lambda find: type(find).__name__
)
def test_rounding_keeps_the_zeros(calibrated: Calibrated, find: Find) -> None:
    rounded = find_roundings(calibrated, [image(1), image(2)], find)
    assert rounded.changed
    assert set(sparse_layers(calibrated.traced)) <= set(sparse_layers(rounded.calibrated.traced))


def test_training_with_quantizers_keeps_the_zeros(calibrated: Calibrated) -> None:
    network = FakeQuantNetwork(calibrated, ("cpu",))
    keep_zeros(network.weights)
    steps = torch.optim.AdamW(network.weights.parameters(), lr=0.01)
    network(image(), "cpu").bases.square().mean().backward()
    steps.step()
    after = network.calibrated().traced
    assert set(sparse_layers(calibrated.traced)) <= set(sparse_layers(after))
    name = next(name for name in sparse_layers(calibrated.traced) if name.startswith("basis_module.tower"))
    changed = after.get_submodule(name).weight != calibrated.traced.get_submodule(name).weight
    assert changed.any()


@pytest.mark.slow
def test_the_integers_of_both_graphs_are_sparse(sparse: BlendMask, calibrated: Calibrated) -> None:
    graphs = {}
    for variant in VARIANTS:
        graph = DeployableGraph(sparse, calibrated.render(variant), SIZE, Bounds()).eval()
        graphs[variant] = export_onnx(graph).SerializeToString()
    expected = sum(is_sparse(layer) for layer in calibrated.traced.modules())
    record = check_sparsity(graphs, expected)
    assert record["layers"] == expected > 40
    assert all(0.8 < share <= 1 for share in record["groups"].values())
    with pytest.raises(ParityError, match="broke the pattern"):
        check_sparsity(graphs, measure_sparsity(graphs["cpu"]).layers + 1)
    assert check_sparsity(graphs, 0) == {}
