"""Each blender computes its formula, whatever K, M and R are."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blendmask_quantize.model.blender import assembler_weights, blend
from blendmask_quantize.model.detect import detect
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.distillation import Teacher
from tests.quantize.small_networks import ASSEMBLER, DEEPLAB, WEIGHTED_SUM, image, network_input
from tests.quantize.tiny import tiny_model

COUNTS = st.integers(1, 8)
SIDES = st.integers(1, 9)


def pooled(count: int, resolution: int, instances: int = 2) -> Tensor:
    return torch.randn((instances, count, resolution, resolution), generator=torch.Generator().manual_seed(count))


@given(COUNTS, SIDES, st.integers(9, 40))
def test_attention_is_a_weighted_mean_of_the_bases(count: int, side: int, resolution: int) -> None:
    bases = pooled(count, resolution)
    vectors = torch.randn((2, count * side**2), generator=torch.Generator().manual_seed(side)) * 3
    result = blend(bases, vectors, side)
    assert result.shape == (2, resolution, resolution)
    assert (result <= bases.amax(dim=1) + 1e-5).all()
    assert (result >= bases.amin(dim=1) - 1e-5).all()
    everywhere_first = torch.zeros(2, count, side, side)
    everywhere_first[:, 0] = 100
    torch.testing.assert_close(blend(bases, everywhere_first.flatten(1), side), bases[:, 0])


@given(COUNTS, st.integers(1, 40))
def test_the_weighted_sum_has_one_weight_a_basis(count: int, resolution: int) -> None:
    bases = pooled(count, resolution)
    scalars = torch.randn((2, count), generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("pk,pkyx->pyx", scalars.softmax(dim=1), bases)
    torch.testing.assert_close(blend(bases, scalars, 1), expected)


@given(SIDES, st.integers(9, 40))
def test_the_assembler_copies_each_basis_in_its_own_location(side: int, resolution: int) -> None:
    bases = pooled(side**2, resolution)
    result = blend(bases, torch.zeros(2, 0), side)
    for y in range(resolution):
        for x in range(resolution):
            basis = math.floor(y * side / resolution) * side + math.floor(x * side / resolution)
            assert torch.equal(result[:, y, x], bases[:, basis, y, x])


@given(SIDES, st.integers(9, 60))
def test_every_location_of_the_mask_belongs_to_one_basis_and_every_basis_has_locations(
    side: int, resolution: int
) -> None:
    weights = assembler_weights(side**2, resolution)
    assert torch.equal(weights.sum(dim=0), torch.ones(resolution, resolution))
    assert (weights.sum(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    "config, channels", [(WEIGHTED_SUM, 4), (ASSEMBLER, None), (DEEPLAB, 4 * 16)], ids=["sum", "assembler", "deeplab"]
)
def test_the_network_predicts_with_it(config, channels):
    model = tiny_model(config)
    assert (model.top_layer.out_channels if model.top_layer is not None else None) == channels
    result = detect(model, network_input(model, image(0)))
    assert result.mask_logits.shape == (len(result.candidates.scores), 28, 28)
    assert len(result.candidates.scores) > 10
    assert result.mask_logits.std() > 0


@pytest.mark.parametrize("config", [WEIGHTED_SUM, ASSEMBLER], ids=lambda config: config.name)
def test_what_a_student_learns_from_is_blended_with_it_too(config):
    model = tiny_model(config)
    x = network_input(model, image(0))
    outputs, result = Teacher(model, trace_network(model))(x), detect(model, x)
    count = len(outputs.mask_logits)
    assert count > 5
    torch.testing.assert_close(outputs.mask_logits, result.mask_logits[:count], rtol=1e-3, atol=1e-3)
