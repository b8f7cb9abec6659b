"""The released configurations have the reference's state dicts, parameter counts and work at full width."""

from __future__ import annotations

import csv

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import CONFIGS, get_config
from blendmask_quantize.model.macs import FLOP_FORMULAS
from blendmask_quantize.training.loop import freeze
from tests.reference_values import SHIPPED

RELEASED = [name for name in CONFIGS if name != "LITE0_RT"]
UNREAD = {"DLA_34_syncbn_4x": (64 * 92 * 64 * 128 + 32 * 46 * 128 * 256) / 1e9}
"""10^9 multiply-accumulates of the projections that the reference computes and nothing reads."""


def build(name: str) -> BlendMask:
    """The network without storage."""
    with torch.device("meta"):
        return BlendMask(get_config(name)).eval()


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, str]]:
    """Recorded counts by configuration."""
    with (SHIPPED / "state_dict/counts.tsv").open(newline="") as file:
        return {row["config"]: row for row in csv.DictReader(file, delimiter="\t")}


def multiplications(model: BlendMask, height: int, width: int) -> float:
    """10^9 multiply-accumulates of the convolutions of backbone, pyramid, head and basis module."""
    with FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS) as counter:
        model(torch.empty((1, 3, height, width), device="meta"))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize("name", RELEASED)
class TestReleasedConfigurations:
    def test_keys_shapes_and_dtypes(self, shared, name):
        with (shared / f"facts/state_dict/{name}.tsv").open(newline="") as file:
            recorded = {row["key"]: (row["shape"], row["dtype"]) for row in csv.DictReader(file, delimiter="\t")}
        assert {key: described(value) for key, value in build(name).state_dict().items()} == recorded

    def test_parameters_in_all_and_in_training(self, counted, name):
        model = build(name)
        assert sum(p.numel() for p in model.parameters()) == int(counted[name]["params_total"])
        freeze(model)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == int(counted[name]["params_trainable"])

    @pytest.mark.slow
    def test_work_at_the_largest_test_size(self, counted, name):
        row = counted[name]
        height, width = map(int, row["padded_size_used"].split("x"))
        expected = float(row["gmac_total"]) - float(row["gmac_top_layer"]) - UNREAD.get(name, 0)
        assert multiplications(build(name), height, width) == pytest.approx(expected, abs=0.002)


def described(value: torch.Tensor) -> tuple[str, str]:
    return "x".join(map(str, value.shape)) or "scalar", str(value.dtype).removeprefix("torch.")


def test_lite0_rt_needs_about_four_billion_multiplications():
    """At 384x512, with the coefficients at the 100 kept locations only."""
    model = build("LITE0_RT")
    coefficients = model.config.inference.detections * model.top_layer.weight.numel() / 1e9
    assert 3.5 <= multiplications(model, 384, 512) + coefficients <= 4.5
