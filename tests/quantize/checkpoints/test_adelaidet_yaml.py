"""The reference's YAML files give the registered configurations, each through its bases; others are refused."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blendmask_edge.errors import BlendMaskError, ConfigError, DependencyError
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config, read_authors_yaml
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
from blendmask_quantize.model.config import get_config
from tests.quantize.parity import Reference
from tests.reference_values import CASES

BASE = """
MODEL:
  META_ARCHITECTURE: "BlendMask"
  MASK_ON: True
  BACKBONE: {NAME: "build_fcos_resnet_fpn_backbone"}
  RESNETS: {OUT_FEATURES: ["res3", "res4", "res5"]}
  FPN: {IN_FEATURES: ["res3", "res4", "res5"]}
  BASIS_MODULE: {LOSS_ON: True}
  FCOS: {THRESH_WITH_CTR: True, USE_SCALE: False}
SOLVER:
  STEPS: (60000, 80000)
INPUT:
  MIN_SIZE_TRAIN: (640, 672, 704, 736, 768, 800)
"""
BASE_550 = """
_BASE_: "base.yaml"
MODEL:
  FCOS: {TOP_LEVELS: 1, FPN_STRIDES: [8, 16, 32, 64], SIZES_OF_INTEREST: [64, 128, 256], NUM_SHARE_CONVS: 3,
         NUM_CLS_CONVS: 0, NUM_BOX_CONVS: 0}
  BASIS_MODULE: {NUM_CONVS: 2}
INPUT:
  MIN_SIZE_TRAIN: (440, 462, 484, 506, 528, 550)
  MAX_SIZE_TRAIN: 916
  MIN_SIZE_TEST: 550
  MAX_SIZE_TEST: 916
"""
BASE_RT = """
_BASE_: "base.yaml"
MODEL:
  FCOS: {TOP_LEVELS: 0, SIZES_OF_INTEREST: [64, 128], FPN_STRIDES: [8, 16, 32]}
INPUT:
  MIN_SIZE_TRAIN: (256, 288, 320, 352, 384, 416, 448, 480, 512, 544, 576, 608)
  MAX_SIZE_TRAIN: 900
  MAX_SIZE_TEST: 736
  MIN_SIZE_TEST: 512
"""
DCN = """
_BASE_: "base.yaml"
MODEL:
  RESNETS: {DEPTH: 101, DEFORM_ON_PER_STAGE: [False, True, True, True], DEFORM_MODULATED: True, DEFORM_INTERVAL: 3}
INPUT:
  MIN_SIZE_TRAIN: (640, 864)
  MIN_SIZE_TRAIN_SAMPLING: "range"
  MAX_SIZE_TRAIN: 1440
"""
RT_SHTW = """
_BASE_: "base_rt.yaml"
MODEL:
  RESNETS: {NORM: "SyncBN"}
  BACKBONE: {FREEZE_AT: -1}
  FCOS: {NUM_SHARE_CONVS: 3, NUM_CLS_CONVS: 0, NUM_BOX_CONVS: 0}
  BASIS_MODULE: {NUM_CONVS: 2}
"""
DLA = """
_BASE_: "base_rt.yaml"
MODEL:
  BACKBONE: {NAME: "build_fcos_dla_fpn_backbone", FREEZE_AT: -1}
  DLA: {CONV_BODY: "DLA34", NORM: "SyncBN"}
  FPN: {IN_FEATURES: ["level3", "level4", "level5"]}
"""
FILES = {
    "base": BASE,
    "base_550": BASE_550,
    "base_rt": BASE_RT,
    "R_50_3x": '_BASE_: "base.yaml"\nMODEL: {WEIGHTS: "x.pkl", RESNETS: {DEPTH: 50}}',
    "R_101_3x": '_BASE_: "base.yaml"\nMODEL: {RESNETS: {DEPTH: 101}}',
    "R_101_dcni3_5x": DCN,
    "550_R_50_3x": '_BASE_: "base_550.yaml"\nMODEL: {RESNETS: {DEPTH: 50}}',
    "RT_R_50_4x_syncbn_shtw": RT_SHTW,
    "RT_R_50_4x_bn-head_syncbn_shtw": '_BASE_: "RT_R_50_4x_syncbn_shtw.yaml"\nMODEL: {FCOS: {NORM: "SyncBN"}}',
    "DLA_34_syncbn_4x": DLA,
}
"""What the released files say of the network, in another layout."""

KEYS = {
    "BACKBONE": ["NAME", "FREEZE_AT"],
    "FPN": ["OUT_CHANNELS", "IN_FEATURES"],
    "FCOS": ["NUM_CLASSES", "FPN_STRIDES", "SIZES_OF_INTEREST", "NORM", "TOP_LEVELS", "POS_RADIUS"],
    "BASIS_MODULE": ["NUM_BASES", "CONVS_DIM", "NORM", "LOSS_ON", "NUM_CLASSES"],
    "BLENDMASK": ["ATTN_SIZE", "BOTTOM_RESOLUTION"],
    "RESNETS": ["DEPTH", "NUM_GROUPS", "WIDTH_PER_GROUP", "DEFORM_ON_PER_STAGE", "DEFORM_INTERVAL"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    for name, content in FILES.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder


def written(folder: Path, content: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(content)
    return path


class TestReading:
    @pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("base")])
    def test_a_released_file_is_the_registered_configuration(self, folder: Path, name: str) -> None:
        assert read_authors_yaml(folder / f"{name}.yaml") == get_config(name)

    @pytest.mark.parametrize("case", CASES)
    def test_effective_keys_in_one_file_are_read_as_they_are(self, parity: Path, tmp_path: Path, case: str) -> None:
        reference = Reference(parity / case)
        path = tmp_path / f"{case}.yaml"
        path.write_bytes((parity / case / "config.json").read_bytes())
        result = read_authors_yaml(path)
        assert replace(result, backbone=reference.config.backbone) == reference.config
        if result.backbone.kind != "dla34":
            assert result == reference.config

    def test_a_recorded_checkpoint_is_read_with_its_file(self, parity: Path, tmp_path: Path) -> None:
        path = tmp_path / "effective.yaml"
        path.write_bytes((parity / "rt_bnhead/config.json").read_bytes())
        result = load_checkpoint(parity / "rt_bnhead/weights.safetensors", path)
        assert result.config == read_authors_yaml(path)

    def test_a_changed_class_count_changes_the_detector_only(self, folder: Path) -> None:
        """A semantic head of the reference keeps its own class count, and predictions do not need it."""
        result = read_authors_yaml(written(folder, "_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {NUM_CLASSES: 12}}"))
        expected = get_config("R_50_3x")
        assert result == replace(expected, name="mine", num_classes=12, bases=replace(expected.bases, semantic=False))
        both = "_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {NUM_CLASSES: 12}, BASIS_MODULE: {NUM_CLASSES: 12}}"
        assert read_authors_yaml(written(folder, both)) == replace(expected, name="mine", num_classes=12)

    def test_a_base_elsewhere(self, folder: Path) -> None:
        inside = folder / "inside"
        inside.mkdir()
        for base in (folder / "R_50_3x.yaml", "../R_50_3x.yaml"):
            assert read_authors_yaml(written(inside, f"_BASE_: {base}")).head == get_config("R_50_3x").head

    def test_a_head_without_normalization(self, folder: Path) -> None:
        path = written(folder, "_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {NORM: none}}")
        assert read_authors_yaml(path).head.norm == ""

    def test_one_word_for_every_way_to_name_a_configuration(self, folder: Path) -> None:
        expected = get_config("R_50_3x")
        path = folder / "R_50_3x.yaml"
        assert [find_config(way) for way in ("R_50_3x", path, str(path), expected)] == [expected] * 4


class TestRefusing:
    @pytest.mark.parametrize("content, message", [
        ("MODEL: [", "is not a YAML file"),
        ("- 1", "holds a list, expected MODEL and INPUT keys"),
        ("_BASE_: mine.yaml", "is its own _BASE_"),
        ("_BASE_: nowhere.yaml", r"no configuration can be read at .*nowhere.yaml"),
        ("MODEL: 3", "describes None, expected META_ARCHITECTURE 'BlendMask'"),
        ("MODEL: {FCOS: {}}", "describes 'GeneralizedRCNN', expected META_ARCHITECTURE 'BlendMask'"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {USE_SCALE: True}}", r"mine.yaml: FCOS.USE_SCALE is True"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FPN: {IN_FEATURES: [res2, res3, res4, res5]}}", "FPN.IN_FEATURES"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {MOBILENET: True}", "not built here"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {NUM_CLASSES: many}}", "num_classes .*is .many., expected"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FCOS: 3}", "wrong type"),
        ("_BASE_: R_50_3x.yaml\nINPUT: {MIN_SIZE_TRAIN: 640}", "wrong type"),
        ("_BASE_: R_50_3x.yaml\nINPUT: {FORMAT: 3}", "wrong type"),
        ("_BASE_: [R_50_3x.yaml]", r"_BASE_ of .*mine\.yaml is \['R_50_3x\.yaml'\], expected the name"),
        ('_BASE_: "a\\0b"', "no configuration can be read"),
        ("_BASE_: /dev/zero", "/dev/zero .it is not a file."),
        ("_BASE_: .", "not a file"),
        ("MODEL: {A: " + "9" * 5000 + "}", "is not a YAML file"),
        ("# " + "x" * 2**17, "more than 131072 bytes"),
        ("A: " + "[" * 100_000, "is not a YAML file .it nests lists or mappings too deeply"),
        ("A: &a {x: 1}\n" + "".join(
            f"{new}: &{new} {{<<: [{', '.join(9 * ['*' + old])}]}}\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ), "is not a YAML file .merge keys make a mapping of more than 10000 entries"),
        ("_BASE_: R_50_3x.yaml\nINPUT: {MIN_SIZE_TRAIN: [640], MIN_SIZE_TRAIN_SAMPLING: range}", "first and the last"),
        ("_BASE_: R_50_3x.yaml\nINPUT: {MIN_SIZE_TRAIN: [1, 1000000000], MIN_SIZE_TRAIN_SAMPLING: range}", "first and"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {PRE_NMS_TOPK_TEST: -5}}", "candidates_per_level .*is -5, expected"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {FCOS: {NMS_TH: .nan}}", "nms_threshold .*is nan, expected -inf to 1"),
        ("_BASE_: R_50_3x.yaml\nMODEL: {PIXEL_STD: [0, 1, 1]}", "input.std .*expected"),
    ])  # fmt: skip
    def test_a_file_that_is_none_of_ours(self, folder: Path, content: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            read_authors_yaml(written(folder, content))

    def test_a_ring_of_bases(self, folder: Path) -> None:
        (folder / "other.yaml").write_text("_BASE_: mine.yaml")
        with pytest.raises(ConfigError, match=r"mine\.yaml is its own _BASE_, through other\.yaml"):
            read_authors_yaml(written(folder, "_BASE_: other.yaml"))

    def test_a_long_chain_of_bases(self, folder: Path) -> None:
        for number in range(2000):
            (folder / f"{number}.yaml").write_text(f"_BASE_: {number + 1}.yaml")
        with pytest.raises(ConfigError, match="more than 32 bases"):
            read_authors_yaml(written(folder, "_BASE_: 0.yaml"))

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no configuration can be read at .*R_50_3x\.yml"):
            find_config(str(tmp_path / "R_50_3x.yml"))

    def test_a_missing_library_is_named(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(DependencyError, match="needs PyYAML"):
            read_authors_yaml(folder / "R_50_3x.yaml")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(section=st.sampled_from(["BACKBONE", "FPN", "FCOS", "BASIS_MODULE", "BLENDMASK", "RESNETS"]), data=st.data())
    def test_no_value_brings_a_traceback(self, folder: Path, section: str, data: st.DataObject) -> None:
        value = data.draw(st.sampled_from(["x", "null", "-1", "1.5", "[]", "[1, 2]", "{}", "True", "{a: [1]}"]))
        key = data.draw(st.sampled_from(KEYS[section]))
        path = written(folder, f"_BASE_: R_50_3x.yaml\nMODEL: {{{section}: {{{key}: {value}}}}}")
        with contextlib.suppress(BlendMaskError):
            read_authors_yaml(path)
