"""A thinned network travels with its widths; a table that no network can have is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from blendmask_edge.errors import CheckpointError, ConfigError
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import HeadConfig, LayerWidth, ModelConfig, get_config
from blendmask_quantize.model.macs import count_macs, macs_by_layer, padded_test_size
from blendmask_quantize.model.widths import apply_widths, changed_widths, layer_widths
from tests.quantize.tiny import LABELS, TINY, tiny_model

CONV = "basis_module.tower.0.0"
NARROW_TOWER = (
    LayerWidth(CONV, 8, 4),
    LayerWidth("basis_module.tower.0.1", 4, 4),
    LayerWidth("basis_module.tower.2.0", 4, 8),
)
"""The tower of the bases with four channels in the middle."""


def thinned(**changes: Any) -> ModelConfig:
    return replace(TINY, widths=NARROW_TOWER, **changes)


class TestBuilding:
    def test_the_layers_have_the_channels_of_the_table(self):
        result = set(layer_widths(BlendMask(thinned())))
        assert set(NARROW_TOWER) <= result
        assert set(changed_widths(BlendMask(thinned()), BlendMask(TINY))) == set(NARROW_TOWER)

    def test_weights_keep_their_first_channels_and_stay_trainable(self):
        model, full = tiny_model(), tiny_model()
        apply_widths(model, NARROW_TOWER)
        conv = model.get_submodule(CONV)
        assert torch.equal(conv.weight, full.get_submodule(CONV).weight[:4])
        assert all(parameter.requires_grad for parameter in model.parameters())

    def test_depthwise_convolutions_and_frozen_statistics(self):
        config = get_config("LITE0_RT")
        block = "backbone.bottom_up.blocks.6.0"
        table = (
            *(LayerWidth(f"{block}.{name}", 80, 80) for name in ("expand.norm", "depthwise.conv", "depthwise.norm")),
            LayerWidth(f"{block}.expand.conv", 192, 80),
            LayerWidth(f"{block}.project.conv", 80, 320),
        )
        with torch.device("meta"):
            model = BlendMask(replace(config, widths=table))
            assert model.get_submodule(f"{block}.depthwise.conv").groups == 80
            assert model(torch.empty((1, 3, 64, 64))).logits[2].shape[-2:] == (2, 2)

    def test_training_changes_the_thin_network(self):
        model = BlendMask(thinned()).train()
        predictions = model(torch.randn(2, 3, 32, 32))
        (predictions.bases.sum() + predictions.semantic.sum()).backward()
        assert model.get_submodule(CONV).weight.grad.shape == (4, 8, 3, 3)


class TestTables:
    @pytest.mark.parametrize(
        "width",
        [
            LayerWidth("basis_module.tower.9", 8, 8),
            LayerWidth("basis_module", 8, 8),
            LayerWidth(CONV, 8, 9),
            LayerWidth(CONV, 8, 0),
            LayerWidth(CONV, -1, 8),
            LayerWidth(CONV, 10**9, 8),
            LayerWidth("basis_module.tower.0.1", 8, 4),
        ],
    )
    def test_channels_that_a_layer_cannot_have(self, width):
        with pytest.raises(ConfigError, match=width.layer):
            BlendMask(replace(TINY, widths=(width,)))

    def test_a_group_normalization_needs_whole_groups(self):
        config = replace(TINY, pyramid_width=64, head=HeadConfig(shared_convs=1, size_bounds=(32, 64)))
        tower = "proposal_generator.fcos_head.share_tower.1"
        assert BlendMask(replace(config, widths=(LayerWidth(tower, 32, 32),))).get_submodule(tower).num_channels == 32
        with pytest.raises(ConfigError, match="32 groups"):
            BlendMask(replace(config, widths=(LayerWidth(tower, 40, 40),)))


class TestCheckpoints:
    @pytest.mark.parametrize("half", [False, True])
    def test_the_widths_come_back_and_predict_the_same(self, tmp_path, half):
        model = tiny_model(thinned())
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS, half=half)
        loaded = load_checkpoint(tmp_path / "a.safetensors").model
        assert loaded.config.widths == NARROW_TOWER
        x = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected, result = model(x).bases, loaded(x).bases
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-2 * float(expected.abs().max()) if half else 0)

    def test_widths_of_the_training_only_head_go_with_it(self, tmp_path):
        head = (LayerWidth("basis_module.seg_head.0", 16, 4), LayerWidth("basis_module.seg_head.1", 4, 4))
        inside = LayerWidth("basis_module.seg_head.3", 4, 8)
        model = tiny_model(replace(TINY, widths=(*NARROW_TOWER, *head, inside)))
        save_checkpoint(tmp_path / "a.safetensors", model, LABELS, half=True)
        assert load_checkpoint(tmp_path / "a.safetensors").config.widths == NARROW_TOWER

    def test_weights_of_other_shapes_without_a_table_are_refused(self, tmp_path):
        torch.save(tiny_model(thinned()).state_dict(), tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="of another shape"):
            load_checkpoint(tmp_path / "a.pth", TINY)

    @pytest.mark.parametrize("table", [NARROW_TOWER[:1], NARROW_TOWER[1:], (LayerWidth("top_layer", 8, 64),)])
    def test_layers_that_do_not_fit_each_other_are_refused(self, tmp_path, table):
        save_checkpoint(tmp_path / "a.safetensors", BlendMask(replace(TINY, widths=table)), LABELS)
        with pytest.raises(CheckpointError, match=r"a\.safetensors has a network that cannot be built"):
            load_checkpoint(tmp_path / "a.safetensors")


class TestWork:
    def test_a_thinner_layer_needs_less(self):
        before, after = macs_by_layer(tiny_model()), macs_by_layer(tiny_model(thinned()))
        assert after[CONV] * 2 == before[CONV]
        assert {name for name in before if before[name] != after[name]} == {CONV, "basis_module.tower.2.0"}

    def test_every_convolution_of_inference_counts_and_no_other(self):
        model = tiny_model()
        convolutions = {
            width.layer
            for width in layer_widths(model)
            if "conv" in type(model.get_submodule(width.layer)).__name__.lower()
        }
        counted = macs_by_layer(model)
        assert convolutions - counted.keys() == {f"basis_module.seg_head.{index}" for index in (0, 3, 6)}
        assert counted["top_layer"] == 100 * model.top_layer.weight.numel()

    def test_frozen_statistics_change_nothing(self):
        frozen = replace(TINY, backbone=replace(TINY.backbone, norm="FrozenBN"))
        assert macs_by_layer(BlendMask(frozen)) == macs_by_layer(tiny_model())

    def test_four_times_the_pixels_are_four_times_the_dense_work(self):
        model = tiny_model()
        once, four = macs_by_layer(model, (64, 96)), macs_by_layer(model, (128, 192))
        assert all(four[name] == 4 * once[name] for name in once if name != "top_layer")

    def test_the_size_left_out_is_the_padded_test_size(self):
        with torch.device("meta"):
            model = BlendMask(get_config("LITE0_RT"))
        assert padded_test_size(model.config.input) == (480, 640)
        assert count_macs(model) == count_macs(model, (480, 640))
