"""Depth: a residual block that adds nothing is dropped, and the network without it is a network like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from blendmask_edge.errors import CheckpointError, ConfigError
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.depth import residual_blocks
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.pruning.budget import TOLERANCE
from blendmask_quantize.pruning.channel_pruning import prune_network
from blendmask_quantize.pruning.depth import candidate_blocks, without_idle_blocks
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.prunable import SMALL
from tests.quantize.small_networks import LITE, slow, small_network
from tests.quantize.tiny import LABELS

IDLE = {"SMALL": "backbone.bottom_up.res4.1", "TINY_LITE": "backbone.bottom_up.blocks.5.1"}


def image() -> torch.Tensor:
    return torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(3))


def distance(model: BlendMask) -> Callable[[BlendMask], torch.Tensor]:
    """One and the mean squared distance of all outputs from those of `model`."""
    with torch.no_grad():
        expected = every_output(model, image())

    def loss(network: BlendMask) -> torch.Tensor:
        pairs = zip(every_output(network, image()), expected, strict=True)
        return 1 + torch.stack([(out - wanted).square().mean() for out, wanted in pairs]).sum()

    return loss


@pytest.fixture(scope="module", params=[SMALL, LITE], ids=lambda config: config.name)
def model(request: pytest.FixtureRequest) -> BlendMask:
    """A network one of whose blocks adds nothing."""
    made = small_network(request.param)
    block = made.get_submodule(IDLE[request.param.name])
    last = block.conv3 if hasattr(block, "conv3") else block.project
    with torch.no_grad():
        for value in (*last.norm.parameters(),):
            value.zero_()
    return made.eval()


@pytest.mark.slow
def test_a_block_that_adds_nothing_is_dropped_and_nothing_changes(model: BlendMask) -> None:
    shallow = without_idle_blocks(model, [distance(model)], 1e-9)
    assert IDLE[model.config.name] in shallow.config.dropped
    assert count_macs(shallow) < count_macs(model)
    with torch.no_grad():
        for found, expected in zip(every_output(shallow, image()), every_output(model, image()), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", [SMALL, *slow(LITE)], indirect=True, ids=lambda config: config.name)
def test_more_blocks_go_the_more_the_loss_may_rise(model: BlendMask) -> None:
    counts = [len(without_idle_blocks(model, [distance(model)], rise).config.dropped) for rise in (1e-9, 0.5, 1e9)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2] == len(candidate_blocks(model))


@pytest.mark.parametrize("model", [SMALL, *slow(LITE)], indirect=True, ids=lambda config: config.name)
def test_frozen_and_protected_blocks_stay(model: BlendMask) -> None:
    protected = IDLE[model.config.name]
    assert protected not in candidate_blocks(model, (protected,))
    assert protected not in without_idle_blocks(model, [distance(model)], 1e9, (protected,)).config.dropped
    frozen = small_network(replace(model.config, backbone=replace(model.config.backbone, frozen_stages=64)))
    assert candidate_blocks(frozen) == []
    with pytest.raises(ConfigError, match="protected layer 'res9'"):
        candidate_blocks(model, ("res9",))


@pytest.mark.parametrize("model", [SMALL, *slow(LITE)], indirect=True, ids=lambda config: config.name)
def test_a_shallow_network_is_saved_pruned_and_quantized_like_any_other(model: BlendMask, tmp_path: Path) -> None:
    shallow = without_idle_blocks(model, [distance(model)], 1e-9)
    save_checkpoint(tmp_path / "a.safetensors", shallow, LABELS)
    loaded = load_checkpoint(tmp_path / "a.safetensors").model
    assert loaded.config == shallow.config
    with torch.no_grad():
        expected = shallow(image()).bases
        assert torch.equal(loaded(image()).bases, expected)
        allowed = 1e-3 * float(expected.abs().max())
        torch.testing.assert_close(trace_network(loaded)(image()).bases, expected, rtol=1e-3, atol=allowed)


@pytest.mark.slow
def test_a_shallow_network_can_be_pruned_further() -> None:
    model = small_network(SMALL)
    shallow = without_idle_blocks(model, [distance(model)], 1e9)
    pruned = prune_network(shallow, 0.8, [distance(shallow)])
    assert pruned.config.dropped == shallow.config.dropped
    assert count_macs(pruned) / count_macs(shallow) == pytest.approx(0.8, rel=TOLERANCE)


def test_a_file_that_drops_what_is_no_block_is_refused(tmp_path: Path) -> None:
    model = small_network(SMALL)
    wrong: ModelConfig = replace(SMALL, dropped=(f"{residual_blocks(model)[0]}.conv1",))
    model.config = wrong
    save_checkpoint(tmp_path / "a.safetensors", model, LABELS)
    with pytest.raises(CheckpointError, match="is not a residual block"):
        load_checkpoint(tmp_path / "a.safetensors")
