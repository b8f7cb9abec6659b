"""Layers: exact against their plain definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.attention import attention_at
from blendmask_quantize.model.fcos import make_tower
from blendmask_quantize.model.layers import ConvNorm, FrozenBatchNorm2d, SameConv2d, conv_norm, make_norm

SIDES = st.integers(1, 7)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def frozen_norm(channels: int, seed: int = 3) -> FrozenBatchNorm2d:
    norm = FrozenBatchNorm2d(channels).double()
    for index, buffer in enumerate(norm.buffers()):
        buffer.copy_(seeded(channels, seed=seed + index).abs() + 0.1)
    return norm


class TestAttention:
    @given(
        height=SIDES,
        width=SIDES,
        locations=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 6))),
    )
    def test_any_location_equals_the_dense_convolution(self, height, width, locations):
        rows = [(image, y, x) for image, y, x in locations if y < height and x < width]
        self.check(height, width, rows)

    @pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (4, 1), (3, 4), (28, 36)])
    def test_corners_and_borders(self, height, width):
        columns = {0, width // 2, width - 1}
        self.check(height, width, [(i, y, x) for i in (0, 1) for y in {0, height - 1} for x in columns])

    @staticmethod
    def check(height: int, width: int, locations: list[tuple[int, int, int]]) -> None:
        conv = nn.Conv2d(3, 8, 3, padding=1).double()
        tower = seeded(2, 3, height, width)
        image, y, x = torch.tensor(locations, dtype=torch.int64).reshape(-1, 3).T
        result = attention_at(conv, tower, image, y, x)
        torch.testing.assert_close(result, conv(tower)[image, :, y, x], rtol=1e-12, atol=1e-12)


class TestConvNorm:
    @pytest.mark.parametrize("kernel, stride, groups", [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 4), (7, 2, 1)])
    def test_frozen_statistics_equal_convolution_then_normalization(self, kernel, stride, groups):
        conv = nn.Conv2d(4, 8, kernel, stride, kernel // 2, groups=groups, bias=False).double()
        norm = frozen_norm(8)
        x = seeded(2, 4, 9, 12)
        torch.testing.assert_close(ConvNorm(conv, norm)(x), norm(conv(x)), rtol=1e-12, atol=1e-12)

    def test_frozen_statistics_hold_with_same_padding(self):
        conv = SameConv2d(4, 8, 5, 2, bias=False).double()
        norm = frozen_norm(8)
        x = seeded(2, 4, 8, 12)
        torch.testing.assert_close(ConvNorm(conv, norm)(x), norm(conv(x)), rtol=1e-12, atol=1e-12)

    def test_frozen_statistics_equal_evaluated_batch_statistics(self):
        norm, batch_norm = frozen_norm(4), nn.BatchNorm2d(4).double().eval()
        batch_norm.load_state_dict(norm.state_dict(), strict=False)
        x = seeded(2, 4, 5, 6)
        torch.testing.assert_close(norm(x), batch_norm(x), rtol=1e-12, atol=1e-12)

    def test_frozen_statistics_are_no_parameters(self):
        layer = conv_norm(3, 8, 3, norm="FrozenBN").train()
        before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
        layer(torch.randn(2, 3, 8, 8)).sum().backward()
        assert {name for name, _ in layer.named_parameters()} == {"conv.weight"}
        assert all(torch.equal(buffer, before[name]) for name, buffer in layer.named_buffers())

    @pytest.mark.parametrize("norm, keys", [
        ("", {"weight", "bias"}),
        ("GN", {"weight", "norm.weight", "norm.bias"}),
        ("FrozenBN", {"weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}),
    ])  # fmt: skip
    def test_the_state_dict_has_the_reference_names_and_loads_again(self, norm, keys):
        layer, other = (conv_norm(3, 32, 3, norm=norm) for _ in range(2))
        assert set(layer.state_dict()) == keys
        other.load_state_dict(layer.state_dict())
        x = torch.randn(1, 3, 6, 6)
        torch.testing.assert_close(other(x), layer(x))

    def test_an_unknown_normalization_is_refused(self):
        with pytest.raises(ConfigError, match="'LN'"):
            make_norm("LN", 8)


class TestSamePadding:
    @given(kernel=st.sampled_from([3, 5, 7]), height=st.integers(1, 8), width=st.integers(1, 8))
    def test_it_is_tensorflows(self, kernel, height, width):
        height, width = 2 * height, 2 * width
        conv = SameConv2d(2, 3, kernel, 2).double()
        x = seeded(1, 2, height, width)
        pads = [pad for side in (width, height) for pad in tensorflow_same(side, kernel, 2)]
        wanted = F.conv2d(F.pad(x, pads), conv.weight, conv.bias, stride=2)
        assert conv(x).shape[-2:] == (height // 2, width // 2)
        torch.testing.assert_close(conv(x), wanted, rtol=1e-12, atol=1e-12)

    def test_without_stride_both_sides_get_the_same(self):
        layer = conv_norm(2, 3, 5, same=True)
        assert not isinstance(layer.conv, SameConv2d)
        assert layer(torch.randn(1, 2, 6, 8)).shape == (1, 3, 6, 8)


def tensorflow_same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, as TensorFlow's documentation of SAME defines it."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class TestTowers:
    @pytest.mark.parametrize("norm", ["BN", "SyncBN"])
    def test_each_level_has_its_own_statistics(self, norm):
        tower = make_tower(4, 2, norm, levels=3).train()
        tower(torch.randn(2, 4, 8, 8), 1)
        counts = [int(norm.num_batches_tracked) for layers in (tower[1], tower[4]) for norm in layers]
        assert counts == [0, 1, 0, 0, 1, 0]

    def test_only_the_level_of_a_norm_sees_it(self):
        tower = make_tower(4, 1, "BN", levels=3).eval()
        x = torch.randn(1, 4, 6, 6)
        before = [tower(x, level) for level in range(3)]
        nn.init.constant_(tower[1][1].bias, 2.0)
        changed = [not torch.equal(tower(x, level), b) for level, b in enumerate(before)]
        assert changed == [False, True, False]

    def test_group_norm_and_convolutions_are_shared(self):
        tower = make_tower(32, 2, "GN", levels=3)
        x = torch.randn(1, 32, 6, 6)
        assert torch.equal(tower(x, 0), tower(x, 2))

    def test_an_empty_tower_passes_its_input_on(self):
        x = torch.randn(1, 4, 6, 6)
        assert make_tower(4, 0, "GN", levels=3)(x, 2) is x
