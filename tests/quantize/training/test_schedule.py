"""Learning rates and what decays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.schedule import make_optimizer, parameter_groups, rate_at, set_rate
from tests.quantize.tiny import TINY

COSINE = TrainOptions(iterations=1000, learning_rate=0.1, warmup=100)
STEPS = replace(COSINE, schedule="steps", milestones=(0.7, 0.9))
SGD = replace(STEPS, optimizer="sgd", momentum=0.9, weight_decay=1e-4)


class TestRates:
    @pytest.mark.parametrize("options", [COSINE, STEPS])
    def test_the_warm_up_is_linear_from_a_thousandth(self, options):
        assert rate_at(0, options) == pytest.approx(1e-4)
        flat = replace(options, iterations=10**9)
        assert rate_at(50, flat) == pytest.approx(0.1 * (0.5 + 0.0005), rel=1e-6)
        assert rate_at(100, flat) == pytest.approx(0.1, rel=1e-6)

    def test_a_cosine_falls_to_zero(self):
        assert rate_at(500, COSINE) == pytest.approx(0.05)
        assert rate_at(999, COSINE) < 1e-6
        rates = [rate_at(step, COSINE) for step in range(100, 1000)]
        assert rates == sorted(rates, reverse=True)

    @pytest.mark.parametrize(
        "step, rate", [(100, 0.1), (699, 0.1), (700, 0.01), (899, 0.01), (900, 0.001), (999, 0.001)]
    )
    def test_each_milestone_leaves_a_tenth(self, step, rate):
        assert rate_at(step, STEPS) == pytest.approx(rate)

    def test_without_warm_up_the_first_rate_is_the_peak(self):
        assert rate_at(0, replace(STEPS, warmup=0)) == pytest.approx(0.1)

    def test_every_group_has_its_factor(self):
        weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
        groups = [{"params": [w], "factor": f, "weight_decay": 0.0} for w, f in zip(weights, (1.0, 0.25), strict=True)]
        optimizer = make_optimizer(groups, STEPS)
        set_rate(optimizer, 300, STEPS)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.025])


class TestGroups:
    @staticmethod
    def decaying(options: TrainOptions) -> tuple[set[str], set[str]]:
        model = BlendMask(TINY)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        parts: dict[bool, set[str]] = {True: set(), False: set()}
        for group in parameter_groups(model, options):
            parts[group["weight_decay"] > 0] |= {names[id(p)] for p in group["params"]}
        assert parts[True] | parts[False] == set(names.values())
        return parts[True], parts[False]

    def test_with_sgd_only_normalizations_keep_from_decaying(self):
        decays, keeps = self.decaying(SGD)
        assert "top_layer.bias" in decays
        assert all("norm" in name or name.split(".")[-2].isdigit() for name in keeps)
        assert "basis_module.tower.0.0.weight" in decays
        assert "basis_module.tower.0.1.weight" in keeps

    def test_with_adamw_biases_do_not_decay_either(self):
        decays, keeps = self.decaying(COSINE)
        assert "top_layer.bias" in keeps
        assert "top_layer.weight" in decays

    def test_optimizers_are_those_named(self):
        groups = parameter_groups(BlendMask(TINY), SGD)
        assert type(make_optimizer(groups, COSINE)) is torch.optim.AdamW
        sgd = make_optimizer(groups, SGD)
        assert type(sgd) is torch.optim.SGD
        assert {group["momentum"] for group in sgd.param_groups} == {0.9}

    @pytest.mark.parametrize("field, near", [("optimizer", "adam"), ("schedule", "cosin"), ("precision", "bf16")])
    def test_unknown_names_are_refused(self, field, near):
        with pytest.raises(ConfigError, match=f"no {field} is called '{near}': did you mean"):
            replace(COSINE, **{field: near})
