"""Sensitivity of layers and blocks: planted layers come first, as table, JSON and chart; one message for bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner, Result

from bench.lib.outliers import Outliers, plant_outliers
from blendmask_edge.cli.app import app
from blendmask_edge.errors import BlendMaskError
from blendmask_quantize import sensitivity
from blendmask_quantize.api import sensitivity as api
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, save_checkpoint
from blendmask_quantize.pipeline.sensitivity import SensitivityReport
from tests.quantize.small_networks import LITE, small_network
from tests.quantize.tiny import LABELS

PYRAMID = Outliers(
    tuple(f"backbone.fpn_output{level}" for level in (3, 4, 5)),
    ("proposal_generator.fcos_head.share_tower.0", *(f"basis_module.refine.{level}.0" for level in range(3))),
)
ALLOW = ("few-images", "few-detections", "channel-order", "not-photographs", "near-duplicates")
OTHERS = ("backbone.bottom_up", "basis_module.tower", re.compile(r"lateral|\.fine\."))


@pytest.fixture(scope="module")
def planted() -> Checkpoint:
    return Checkpoint(plant_outliers(small_network(LITE), [PYRAMID], 300), LABELS, Path("planted.safetensors"))


@pytest.fixture(scope="module")
def report(planted: Checkpoint, scenes: Path) -> SensitivityReport:
    return sensitivity(
        planted, scenes, annotations=scenes / "annotations.json", images=1, size=(64, 96), ignored=OTHERS,
        allow=ALLOW, estimator="max",
    )  # fmt: skip


def test_planted_layers_come_first(report: SensitivityReport) -> None:
    touching = {*(f"{name}.conv" for name in PYRAMID.makers), *PYRAMID.readers}
    names = [layer.name for layer in report.layers]
    assert set(names[:3]) <= touching
    totals = [layer.change.total for layer in report.layers]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 0.1


def test_layers_and_blocks_share_the_multiply_accumulates(report: SensitivityReport) -> None:
    quantized = sum(layer.macs_share for layer in report.layers)
    assert quantized + report.float_macs_share == pytest.approx(1)
    assert sum(block.macs_share for block in report.blocks) == pytest.approx(quantized)
    assert "basis_module.refine" in {block.name for block in report.blocks}
    assert not any("bottom_up" in layer.name for layer in report.layers), "ignored layers are not measured"


def test_labels_add_mask_ap(report: SensitivityReport) -> None:
    assert report.ground_truth == "labels"
    assert all(layer.change.mask_ap is not None for layer in report.layers)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["sensitivity", *map(str, words)], prog_name="blendmask")


@pytest.fixture(scope="module")
def words(planted: Checkpoint, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    path = tmp_path_factory.mktemp("sensitivity") / "planted.safetensors"
    save_checkpoint(path, planted.model, LABELS)
    options = [word for code in ALLOW for word in ("--allow", code)] + [
        "--ignored",
        "re:bottom_up|tower|lateral|fpn_output|refine.[12]",
    ]
    return [
        path,
        "--calibration",
        photographs,
        "--size",
        "64x96",
        "--images",
        1,
        "--count",
        4,
        "--variant",
        "cpu",
        *options,
    ]


@pytest.mark.slow
def test_the_command_prints_tables_and_writes_the_chart(words: list[object], tmp_path: Path) -> None:
    chart = tmp_path / "chart.png"
    result = call(*words, "--chart", chart)
    assert result.exit_code == 0, result.output
    assert all(word in result.stdout for word in ("block", "layer", "1 - mask IoU", "basis_module.refine.0.0"))
    assert "mask AP" not in result.stdout, "there are no labels"
    assert "--max-drop 1%" in result.stdout.splitlines()[-1]
    assert cv2.imread(str(chart)).shape[1] > 1000


def test_json_is_pure(words: list[object], report: SensitivityReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "sensitivity", lambda *_, **__: report)
    result = call(*words, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["images"] == 1
    assert document["variants"] == ["cpu", "tensorrt"]
    measured = {"name", "macs_share", "masks", "scores", "missed", "spurious", "mask_ap"}
    assert set(document["layers"][0]) - {"retention"} == measured


BAD = [
    ({"variants": ("gpu",)}, "expected some of cpu, tensorrt"),
    ({"chart": "chart.jpg"}, r"must be a PNG file"),
    ({"images": 20}, "14 calibration images can be held out, and 20 are needed.* give 48 images"),
    ({"estimator": "best"}, "estimator"),
    ({"annotations": "none.json"}, "no such file"),
    ({"ignored": ("backbone.nothing",)}, "backbone.nothing"),
]


@pytest.mark.parametrize("changes, message", BAD)
def test_bad_input_is_one_message(
    planted: Checkpoint, photographs: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BlendMaskError, match=message):
        sensitivity(planted, photographs, size=(64, 96), **changes)  # type: ignore[arg-type]


def test_labels_of_other_images_are_refused(planted: Checkpoint, photographs: Path, scenes: Path) -> None:
    with pytest.raises(BlendMaskError, match="34 of 34 calibration images are not in"):
        sensitivity(planted, photographs, annotations=scenes / "annotations.json", size=(64, 96))
