"""Pruning meets its budget with whole blocks of channels, gives up what matters least and leaves a sound network."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blendmask_edge.errors import ConfigError, DependencyError
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import check_parity
from blendmask_quantize.model.blendmask import BlendMask, every_output
from blendmask_quantize.model.config import BackboneConfig, HeadConfig, ModelConfig, get_config
from blendmask_quantize.model.detect import detect
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.widths import layer_widths
from blendmask_quantize.pruning.budget import LEAST_SHARE, TOLERANCE, Cost, choose_channels, macs_cost, smallest_ratio
from blendmask_quantize.pruning.channel_pruning import prune_network
from blendmask_quantize.pruning.groups import find_groups, plain_form, unplain
from blendmask_quantize.pruning.importance import Loss, taylor_importance
from blendmask_quantize.pruning.options import IMPORTANCES, PruneOptions
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import observe_ranges, render
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.prunable import SMALL
from tests.quantize.small_networks import DEFORMABLE, slow
from tests.quantize.tiny import LABELS, tiny_model

FROZEN = replace(SMALL, backbone=replace(SMALL.backbone, norm="FrozenBN", frozen_stages=2))
GROUPED = replace(SMALL, pyramid_width=128, head=HeadConfig(norm="GN", shared_convs=2, size_bounds=(32, 64)))
FIVE_LEVELS = replace(
    SMALL,
    extra_levels=2,
    head=HeadConfig(
        strides=(8, 16, 32, 64, 128), size_bounds=(32, 64, 128, 256), shared_convs=0, class_convs=2, box_convs=2,
        norm="BN",
    ),
)  # fmt: skip
LITE0 = replace(SMALL, backbone=get_config("LITE0_RT").backbone, bases=replace(SMALL.bases, fine=True))
DLA = replace(
    SMALL, backbone=BackboneConfig(kind="dla34", norm="SyncBN", frozen_stages=0, level_widths=(16, 16, 16, 32, 32, 64))
)
DEEPLAB = replace(SMALL, bases=replace(SMALL.bases, kind="deeplab", low_level_width=16))
NETWORKS = {
    "BN": SMALL, "FrozenBN": FROZEN, "GN": GROUPED, "five levels": FIVE_LEVELS, "lite0": LITE0, "dla": DLA,
    "deeplab": DEEPLAB,
}  # fmt: skip
SLOW = ("FrozenBN", "GN", "five levels", "deeplab")
OUTPUTS = ("cls_logits", "bbox_pred", "ctrness", "top_layer", "seg_head.6")


def image(side: int = 128) -> Tensor:
    return torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(7))


def losses(count: int = 1) -> Iterator[Loss]:
    """Something that every layer has a part in."""
    for _ in range(count):
        yield lambda network: torch.stack([out.square().mean() for out in every_output(network, image())]).sum()


def is_output(layer: str, config: ModelConfig) -> bool:
    last = config.bases.convs if config.bases.kind == "deeplab" else config.bases.convs + 2
    return layer.endswith((*OUTPUTS, f"basis_module.tower.{last}"))


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS],
    ids=str,
)
def pair(request: pytest.FixtureRequest) -> tuple[BlendMask, BlendMask]:
    """A network and what 0.7 of its multiply-accumulates leave of it."""
    model = tiny_model(NETWORKS[request.param])
    return model, prune_network(model, 0.7, losses())


class TestEveryNetwork:
    def test_the_budget_is_met(self, pair):
        model, pruned = pair
        assert count_macs(pruned) / count_macs(model) == pytest.approx(0.7, rel=TOLERANCE)

    def test_channels_come_in_blocks(self, pair):
        _, pruned = pair
        assert pruned.config.widths
        for width in layer_widths(pruned):
            assert width.inputs % 8 == 0 or width.inputs == 3, width
            assert width.outputs % 8 == 0 or is_output(width.layer, pruned.config), width

    def test_no_layer_falls_below_its_least_share(self, pair):
        model, pruned = pair
        for before, after in zip(layer_widths(model), layer_widths(pruned), strict=True):
            assert after.outputs >= LEAST_SHARE * before.outputs

    def test_outputs_keep_shape_and_bias(self, pair):
        model, pruned = pair
        with torch.no_grad():
            before, after = every_output(model, image()), every_output(pruned, image())
        assert [out.shape for out in before] == [out.shape for out in after]
        for name, module in pruned.named_modules():
            if is_output(name, pruned.config):
                assert torch.equal(module.bias, model.get_submodule(name).bias)

    def test_frozen_stages_are_untouched(self, pair):
        model, pruned = pair
        count = model.config.backbone.frozen_stages
        stages = zip(model.backbone.bottom_up.stages()[:count], pruned.backbone.bottom_up.stages(), strict=False)
        for before, after in stages:
            state = after.state_dict()
            assert all(torch.equal(value, state[key]) for key, value in before.state_dict().items())

    def test_kinds_and_order_of_layers_stay(self, pair):
        model, pruned = pair
        kinds = [[(name, type(module)) for name, module in network.named_modules()] for network in pair]
        assert kinds[0] == kinds[1]
        assert list(model.state_dict()) == list(pruned.state_dict())

    @pytest.mark.slow
    def test_a_file_brings_it_back(self, pair, tmp_path):
        _, pruned = pair
        labels = replace(
            LABELS,
            names=tuple(map(str, range(pruned.config.num_classes))),
            category_ids=tuple(range(pruned.config.num_classes)),
        )
        save_checkpoint(tmp_path / "a.safetensors", pruned, labels)
        loaded = load_checkpoint(tmp_path / "a.safetensors")
        assert loaded.config == pruned.config
        found, expected = detect(loaded.model, image()), detect(pruned, image())
        assert torch.equal(found.mask_logits, expected.mask_logits)
        assert torch.equal(found.candidates.boxes, expected.candidates.boxes)

    @pytest.mark.slow
    def test_it_folds_and_quantizes_like_any_other(self, pair):
        _, pruned = pair
        traced = trace_network(pruned)
        with torch.no_grad():
            expected, found = pruned(image()).bases, traced(image()).bases
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
            ranges = observe_ranges(traced, [image()], "max")
            for variant in VARIANTS:
                assert render(traced, ranges, variant)(image()).bases.shape == expected.shape

    def test_it_trains(self, pair):
        _, pruned = pair
        network = plain_form(pruned)
        next(losses())(network).backward()
        unread = ("level3.project", "level4.project")
        trained = [p for name, p in network.named_parameters() if not any(part in name for part in unread)]
        assert all(parameter.grad is not None for parameter in trained)


def test_deformable_convolutions_are_refused():
    with pytest.raises(ConfigError, match="cannot prune TINY_DEFORMABLE: its backbone has deformable convolutions"):
        prune_network(tiny_model(DEFORMABLE), 0.7, losses())


@pytest.mark.slow
def test_it_exports_like_any_other():
    pruned = prune_network(tiny_model(SMALL), 0.7, losses())
    graph = DeployableGraph(pruned, trace_network(pruned), (64, 96), Bounds()).eval()
    image = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
    assert check_parity(pruned, graph, export_onnx(graph), image).detections > 0


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(DependencyError, match="torch-pruning"):
        prune_network(tiny_model(SMALL), 0.7, losses())


class TestBudget:
    def test_the_whole_is_the_network_itself(self):
        model = tiny_model(SMALL)
        pruned = prune_network(model, 1.0, losses(0))
        assert pruned.config == model.config
        assert all(torch.equal(value, pruned.state_dict()[key]) for key, value in model.state_dict().items())

    def test_the_network_handed_in_is_left_alone(self):
        model = tiny_model(SMALL)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        prune_network(model, 0.5, losses())
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
        assert model.config == SMALL

    @pytest.mark.slow
    def test_a_pruned_network_can_be_pruned_further(self):
        model = tiny_model(SMALL)
        twice = prune_network(prune_network(model, 0.8, losses()), 0.75, losses())
        assert count_macs(twice) / count_macs(model) == pytest.approx(0.6, rel=2.5 * TOLERANCE)
        assert BlendMask(twice.config)(image()).bases.shape == model(image()).bases.shape

    @pytest.mark.parametrize("config", [SMALL, *slow(FROZEN)])
    def test_an_impossible_ratio_names_the_smallest_before_any_loss(self, config):
        def never(_: BlendMask) -> Tensor:
            raise AssertionError

        with pytest.raises(ConfigError, match=r"Ask for \d") as caught:
            prune_network(tiny_model(config), 0.02, [never])
        possible = float(str(caught.value).split("Ask for ")[1].split()[0])
        model = tiny_model(config)
        assert count_macs(prune_network(model, possible, losses())) / count_macs(model) == pytest.approx(
            possible, rel=TOLERANCE
        )

    @pytest.mark.parametrize("ratio", [0, -0.5, 1.01, math.nan, math.inf])
    def test_what_is_no_share_is_refused(self, ratio):
        with pytest.raises(ConfigError, match=r"0\.7"):
            prune_network(tiny_model(SMALL), ratio, losses())

    def test_no_images_are_refused(self):
        with pytest.raises(ConfigError, match="labeled images"):
            prune_network(tiny_model(SMALL), 0.7, losses(0))


class TestOptions:
    @pytest.mark.parametrize("config", [GROUPED, *slow(SMALL, FROZEN)])
    def test_parameters_can_be_the_target(self, config):
        model = tiny_model(config)
        pruned = prune_network(model, 0.6, losses(), options=PruneOptions(target="parameters"))
        before, after = (sum(p.numel() for p in network.parameters()) for network in (model, pruned))
        assert after / before == pytest.approx(0.6, rel=TOLERANCE)

    @pytest.mark.parametrize("importance", IMPORTANCES)
    def test_each_importance_spares_the_channels_that_matter(self, importance):
        model = tiny_model(SMALL)
        weak = [1, 4, 6, 9, 13, 22, 30, 31]
        with torch.no_grad():
            model.basis_module.tower[1][0].weight[weak] *= 1e-3
            model.basis_module.tower[1][1].weight[weak] *= 1e-3
            model.basis_module.tower[1][1].bias[weak] = 0
        pruned = prune_network(model, 0.6, losses(), options=PruneOptions(importance=importance))
        kept = pruned.basis_module.tower[1][1].weight
        assert len(kept) < 32
        assert not torch.isin(kept, model.basis_module.tower[1][1].weight[weak]).any()

    def test_protected_layers_keep_their_channels(self):
        model = tiny_model(SMALL)
        pruned = prune_network(model, 0.6, losses(), options=PruneOptions(protect=("basis_module", "re:layer3|res3")))
        for before, after in zip(layer_widths(model), layer_widths(pruned), strict=True):
            if "basis_module" in before.layer or "res3" in before.layer:
                assert after.outputs == before.outputs
        assert pruned.config.widths

    @pytest.mark.parametrize("ratio", [0.6, 1])
    def test_a_pattern_without_a_match_is_refused_with_near_misses(self, ratio):
        with pytest.raises(ConfigError, match=r"protected layer 'basis_modul': near it are basis_module"):
            prune_network(tiny_model(SMALL), ratio, losses(0), options=PruneOptions(protect=("basis_modul",)))

    def test_channels_come_in_the_multiple_asked_for(self):
        pruned = prune_network(tiny_model(GROUPED), 0.7, losses(), options=PruneOptions(multiple=16))
        changed = {width.layer: width.outputs for width in pruned.config.widths}
        before = {width.layer: width.outputs for width in layer_widths(tiny_model(GROUPED))}
        assert any(width != before[layer] for layer, width in changed.items())
        assert all(width % 16 == 0 for layer, width in changed.items() if width != before[layer] >= 48)

    @pytest.mark.parametrize(
        "changes",
        [
            {"target": "mac"}, {"importance": "l1"}, {"runtime": "tensorrt"}, {"multiple": 0}, {"batches": 0},
            {"rounds": PruneOptions().training.iterations + 1},
        ],
    )  # fmt: skip
    def test_impossible_options_are_refused(self, changes):
        with pytest.raises(ConfigError):
            PruneOptions(**changes)

    def test_rounds_without_fine_tuning_need_no_steps(self):
        assert PruneOptions(rounds=5, training=TrainOptions(iterations=0)).rounds == 5


@pytest.fixture(scope="module")
def counted() -> tuple[BlendMask, list, Cost]:
    model = tiny_model(GROUPED)
    groups = find_groups(plain_form(model))
    return model, groups, macs_cost(model, groups)


class TestChoice:
    @pytest.mark.slow
    @given(share=st.floats(0, 1), seed=st.integers(0, 2**16))
    def test_any_reachable_ratio_and_importance(self, counted, share, seed):
        _, groups, work = counted
        least = smallest_ratio(groups, work)
        ratio = least + share * (1 - least)
        generator = torch.Generator().manual_seed(seed)
        scores = [torch.rand(group.width, generator=generator) for group in groups]
        try:
            removed = choose_channels(groups, scores, work, ratio)
        except ConfigError as error:
            # A network this small has few blocks left near its smallest size.
            nearest = float(str(error).split("above is ")[1].split(",")[0])
            assert (1 + TOLERANCE) * ratio <= nearest + 1e-3 <= 2 * least
            return
        widths = [group.width - len(channels) for group, channels in zip(groups, removed, strict=True)]
        assert all(len(set(channels)) == len(channels) for channels in removed)
        assert work.total(widths) / work.total([group.width for group in groups]) <= ratio * (1 + TOLERANCE)
        for group, width in zip(groups, widths, strict=True):
            assert width % max(8, group.norm_groups) == 0

    def test_groups_of_a_normalization_lose_as_many_channels_each(self, counted):
        _, groups, work = counted
        scores = [torch.rand(group.width) for group in groups]
        for group, channels in zip(groups, choose_channels(groups, scores, work, 0.4), strict=True):
            size = group.width // group.norm_groups
            lost = torch.bincount(torch.tensor(channels, dtype=torch.long) // size, minlength=group.norm_groups)
            assert (lost == lost[0]).all()

    def test_the_count_of_the_plan_is_the_count_of_the_network(self, counted):
        model, _, work = counted
        plain = plain_form(model)
        groups = find_groups(plain)
        removed = choose_channels(groups, [torch.rand(group.width) for group in groups], work, 0.5)
        for group, channels in zip(groups, removed, strict=True):
            group.remove(channels)
        widths = [group.width - len(channels) for group, channels in zip(groups, removed, strict=True)]
        assert count_macs(unplain(plain)) == work.total(widths)


class TestImportance:
    def test_it_is_the_squared_gradient_of_a_gate_on_the_channel(self):
        plain = plain_form(tiny_model(SMALL))
        groups = find_groups(plain)
        index = next(i for i, group in enumerate(groups) if group.name == "basis_module.tower.1.0")
        found = taylor_importance(plain, groups, losses())[index]
        gate = torch.ones((32, 1, 1), requires_grad=True)
        handle = plain.basis_module.tower[1].register_forward_hook(lambda _module, _inputs, out: out * gate)
        next(losses())(plain).backward()
        handle.remove()
        torch.testing.assert_close(found, gate.grad.flatten() ** 2)

    def test_batches_are_averaged(self):
        plain = plain_form(tiny_model(SMALL))
        groups = find_groups(plain)
        for one, three in zip(
            taylor_importance(plain, groups, losses()), taylor_importance(plain, groups, losses(3)), strict=True
        ):
            torch.testing.assert_close(one, three)

    def test_channels_that_nothing_reads_go_first_and_change_nothing(self):
        model = tiny_model(SMALL)
        unread = [1, 4, 6, 9, 13, 22, 30, 31]
        with torch.no_grad():
            model.basis_module.tower[3][0].weight[:, unread] = 0
        plain = plain_form(model)
        groups = find_groups(plain)
        index = next(i for i, group in enumerate(groups) if group.name == "basis_module.tower.1.0")
        scores = taylor_importance(plain, groups, losses())
        removed = choose_channels(groups, scores, macs_cost(model, groups), 0.5)[index]
        assert (scores[index][unread] == 0).all()
        assert (scores[index][removed[:8]] == 0).all()
        groups[index].remove(unread)
        with torch.no_grad():
            torch.testing.assert_close(unplain(plain)(image()).bases, model(image()).bases)
