"""What the recorded numbers do not show of the deformable ResNet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.deformable import DeformableConv2d, offset_conv, refuse_deformable
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import CONFIGS, get_config
from blendmask_quantize.model.macs import macs_by_layer
from tests.quantize.small_networks import DEFORMABLE
from tests.quantize.tiny import tiny_model

TAPS = 9


def features(channels: int = 4) -> Tensor:
    return torch.randn((2, channels, 7, 9), generator=torch.Generator().manual_seed(0))


class TestDeformableConvolution:
    def test_a_new_one_is_half_an_ordinary_one(self) -> None:
        """No offsets, and a weight of sigmoid(0) at each tap."""
        x, conv = features(), DeformableConv2d(4)
        sampling = offset_conv(4)(x)
        assert not sampling.any()
        torch.testing.assert_close(conv(x, sampling), 0.5 * F.conv2d(x, conv.weight, padding=1))

    @pytest.mark.parametrize("axis", [0, 1], ids=["down", "right"])
    def test_offsets_come_in_pairs_of_down_and_right(self, axis: int) -> None:
        x, conv = features(), DeformableConv2d(4)
        sampling = torch.zeros((2, 3 * TAPS, 7, 9))
        sampling[:, axis : 2 * TAPS : 2] = 1
        moved = F.pad(x, (0, axis, 0, 1 - axis))[:, :, 1 - axis :, axis:]
        here = (slice(None), slice(None), slice(1, -2), slice(1, -2))
        expected = 0.5 * F.conv2d(moved, conv.weight, padding=1)
        torch.testing.assert_close(conv(x, sampling)[here], expected[here])

    def test_only_the_named_blocks_of_the_named_stages_have_one(self) -> None:
        with torch.device("meta"):
            model = BlendMask(get_config("R_101_dcni3_5x"))
        with_offsets = [name for name, module in model.named_modules() if isinstance(module, DeformableConv2d)]
        blocks = ["res3.0", "res3.3", *(f"res4.{index}" for index in range(0, 23, 3)), "res5.0"]
        assert with_offsets == [f"backbone.bottom_up.{block}.conv2.conv" for block in blocks]

    def test_its_work_is_that_of_an_ordinary_one(self) -> None:
        plain = tiny_model(replace(DEFORMABLE, backbone=replace(DEFORMABLE.backbone, deform_stages=())))
        before, after = macs_by_layer(plain), macs_by_layer(tiny_model(DEFORMABLE))
        assert {name: after[name] for name in before} == before
        assert {name.rpartition(".")[2] for name in after.keys() - before.keys()} == {"conv2_offset"}

    def test_gradients_reach_offsets_and_weights(self) -> None:
        model = tiny_model(DEFORMABLE).train()
        sum(level.sum() for level in model.backbone.bottom_up(torch.randn(1, 3, 64, 64))).backward()
        block = model.backbone.bottom_up.res4[0]
        assert block.conv2_offset.weight.grad.abs().sum() > 0
        assert block.conv2.conv.weight.grad.abs().sum() > 0

    @pytest.mark.parametrize("name", CONFIGS)
    def test_only_networks_that_have_one_are_refused(self, name: str) -> None:
        if name == "R_101_dcni3_5x":
            with pytest.raises(ConfigError, match=r"cannot prune R_101_dcni3_5x: .*\(res3, res4, res5\)"):
                refuse_deformable(get_config(name), "prune")
        else:
            refuse_deformable(get_config(name), "prune")
