"""Bottom modules: what they read, what they give, and that they can be thinned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.bottom_module import DeepLabDecoder
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.pyramid import Features
from blendmask_quantize.pruning.channel_pruning import prune_network
from tests.quantize.prunable import SMALL
from tests.quantize.small_networks import DEEPLAB
from tests.quantize.tiny import TINY, tiny_model


def pyramid(config: ModelConfig = TINY, fine_channels: int = 24) -> Features:
    generator = torch.Generator().manual_seed(0)
    levels = (torch.randn((2, config.pyramid_width, side, 2 * side), generator=generator) for side in (8, 4, 2))
    return Features(tuple(levels), torch.randn((2, fine_channels, 16, 32), generator=generator))


@pytest.fixture(scope="module")
def decoder() -> DeepLabDecoder:
    module = tiny_model(DEEPLAB).basis_module
    assert isinstance(module, DeepLabDecoder)
    return module


@torch.no_grad()
def change(decoder: DeepLabDecoder, level: int, row: int, column: int) -> Tensor:
    """Where the bases (H / 4, W / 4) of the first image change with one location of a level."""
    features = pyramid()
    before = decoder(features)
    features.levels[level][0, :, row, column] += 3
    after = decoder(features)
    assert torch.equal(after[1], before[1])
    return (after[0] - before[0]).abs().amax(dim=0) > 1e-6


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("convs", [1, 2, 3])
def test_bases_have_stride_four_for_any_number_of_them(count, convs):
    config = replace(DEEPLAB, bases=replace(DEEPLAB.bases, count=count, convs=convs))
    assert BlendMask(config).eval().basis_module(pyramid()).shape == (2, count, 16, 32)


def test_fine_features_act_nearby(decoder):
    changed = change(decoder, 0, 1, 1)
    assert changed[2:4, 2:4].all()
    assert not changed[10:].any()
    assert not changed[:, 10:].any()


def test_p4_is_not_used(decoder):
    assert not change(decoder, 1, 1, 1).any()


def test_a_coarse_feature_acts_everywhere_through_the_mean(decoder):
    assert change(decoder, 2, 0, 0).all()


def test_rates_reach_as_far_as_they_say():
    """Without the mean, a location of P5 acts on the locations of P5 that a rate away, and on none between."""
    config = replace(DEEPLAB, bases=replace(DEEPLAB.bases, atrous_rates=(3,)))
    pooling = tiny_model(config).basis_module.pyramid_pooling
    torch.nn.init.zeros_(pooling.mean_projection.conv.weight)
    x = torch.randn((1, TINY.pyramid_width, 1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = pooling(x)
        x[..., 4] += 5
        changed = (pooling(x) - before).abs().amax(dim=(0, 1, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1, 4, 7]


def test_the_semantic_head_runs_in_training_only():
    model, x = tiny_model(DEEPLAB), torch.randn(2, 3, 64, 64)
    assert model(x).semantic is None
    assert model.train()(x).semantic.shape == (2, TINY.num_classes + 1, 8, 8)


def test_it_is_pruned_like_the_rest():
    config = replace(SMALL, bases=replace(SMALL.bases, kind="deeplab", atrous_rates=(1, 2), low_level_width=16))
    model, x = tiny_model(config), torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))

    def loss(network: BlendMask) -> Tensor:
        return torch.stack([output.square().mean() for output in every_output(network, x)]).sum()

    pruned = prune_network(model, 0.7, [loss])
    assert count_macs(pruned) < 0.75 * count_macs(model)
    assert any("pyramid_pooling" in width.layer for width in pruned.config.widths)
    with torch.no_grad():
        assert pruned(x).bases.shape == model(x).bases.shape


FINE = replace(TINY, bases=replace(TINY.bases, fine=True))


def fine_network() -> BlendMask:
    return BlendMask(FINE).eval()


def test_fine_features_add_nothing_at_first():
    model, features = fine_network(), pyramid(fine_channels=TINY.backbone.res2_width)
    plain = BlendMask(TINY).eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "basis_module.fine." not in key})
    with torch.no_grad():
        assert torch.equal(model.basis_module(features), plain.basis_module(features))


def test_what_fine_features_add_is_learned():
    model = fine_network().train()
    model.basis_module(pyramid(fine_channels=TINY.backbone.res2_width)).square().sum().backward()
    assert model.basis_module.fine.norm.weight.grad.abs().sum() > 0


def test_bases_see_single_locations_of_stride_four():
    model, features = fine_network(), pyramid(fine_channels=TINY.backbone.res2_width)
    torch.nn.init.ones_(model.basis_module.fine.norm.weight)
    with torch.no_grad():
        before = model.basis_module(features)
        features.fine[0, :, 5, 9] += 3
        changed = (model.basis_module(features) - before).abs().amax(dim=(0, 1)) > 1e-6
    rows, columns = changed.nonzero(as_tuple=True)
    assert {rows.min().item(), rows.max().item()} == {4, 6}
    assert {columns.min().item(), columns.max().item()} == {8, 10}


def test_the_decoder_of_deeplab_takes_no_fine_features():
    with pytest.raises(ConfigError, match="deeplab bottom module takes no fine features"):
        BlendMask(replace(DEEPLAB, bases=replace(DEEPLAB.bases, fine=True)))


@pytest.mark.parametrize("config", [TINY, DEEPLAB], ids=lambda config: config.name)
def test_weights_keep_the_order_that_a_resumed_run_goes_by(config):
    """The optimizer's state is stored by position."""
    names = [name for name, _ in BlendMask(config).basis_module.named_parameters()]
    parts = [name.partition(".")[0] for name in names]
    assert list(dict.fromkeys(parts))[-2:] == ["tower", "seg_head"]
