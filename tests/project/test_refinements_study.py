"""The study of refinements measures every estimator and step once, and goes on where it was cut off."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench.studies import refinements
from blendmask_edge.bundle import InputSpec, write_bundle
from blendmask_quantize import QuantizeOptions
from blendmask_quantize.export.parity import Parity
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.report import Report, VariantReport
from blendmask_quantize.quantization.refine.steps import Drift, Outcome, chosen_steps
from blendmask_quantize.validation.fidelity import Fidelity
from tests.sdk.small_bundles import build_graph, describe

NEAR = Fidelity(2, 9, 1, 0, score_drift=0.01, box_iou=0.97, mask_iou=0.96, mask_iou_low=0.8)


class Quantizer:
    """Stands for `quantize`: writes a bundle at once, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[QuantizeOptions] = []

    def __call__(
        self, _checkpoint: object, _calibration: object, output: Path, *, options: QuantizeOptions, progress: object
    ) -> Report:
        del progress
        self.asked.append(options)
        names = ("float", "cpu", "tensorrt") if options.keep_float else ("cpu", "tensorrt")
        graphs = {name: build_graph(64, 96) for name in names}
        write_bundle(output, describe(graphs, input=InputSpec(height=64, width=96, pad_value=(0, 0, 0))), graphs)
        steps = chosen_steps(options.steps or (), options.estimator or "mse")
        before, after = Drift(0.05, 0.03, 0.01), Drift(0.04, 0.03, 0.01)
        outcomes = tuple(Outcome(step.name, True, before, after, 2.5, {}) for step in steps)
        parity = Parity(1, 0, 0.0, 0.0, 0)
        variants = {
            name: VariantReport(1, parity, {}, None, None if name == "float" else NEAR)
            for name in ("float", "cpu", "tensorrt")
        }
        return Report(output, variants, 1.0, CalibrationReport(None), refined=outcomes)  # type: ignore[arg-type]


@pytest.fixture
def quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quantizer:
    """The study's own, on one image with one object."""
    (tmp_path / "scenes/val").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "scenes/val/a.jpg"), np.full((32, 48, 3), (40, 60, 250), np.uint8))
    entry = {"id": 1, "image_id": 1, "category_id": 10, "bbox": [2, 2, 8, 8], "area": 64, "iscrowd": 0}
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 32, "width": 48}],
        "annotations": [{**entry, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]}],
        "categories": [{"id": 10, "name": "red"}],
    }
    (tmp_path / "scenes/val.json").write_text(json.dumps(document))
    results = Quantizer()
    monkeypatch.setattr(refinements, "quantize", results)
    words = ["--data", tmp_path / "scenes", "--work", tmp_path / "work", "--output", tmp_path, "--threads", 1]
    monkeypatch.setattr(sys, "argv", ["refinements", *map(str, words)])
    return results


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads((folder / "refinements.json").read_text())["rows"]}


@pytest.mark.usefixtures("quantizer")
def test_every_estimator_and_step_has_its_rows(tmp_path: Path) -> None:
    refinements.main()
    results = rows(tmp_path)
    names = ["ptq-max", "ptq-percentile", "ptq-entropy", "ptq-mse", "ptq-auto", *refinements.STEPS, "ptq", "all"]
    graphs = {"float/val"} | {f"{name}/{variant}/val" for name in names for variant in ("cpu", "tensorrt")}
    steps = {"ptq-auto/step/ranges", *(f"{name}/step/{name}" for name in refinements.STEPS)}
    steps |= {
        f"all/step/{name}" for name in ("ranges", "cross_layer_equalization", "coordinate_descent", "bias_correction")
    }
    steps |= {f"ptq/step/{name}" for name in ("coordinate_descent", "bias_correction")}
    assert set(results) == graphs | steps
    assert results["all/tensorrt/val"]["mask_iou"] == 0.96
    assert results["bias_correction/cpu/val"]["retention"] == 1
    assert "mask_iou" not in results["float/val"]
    assert results["bias_correction/step/bias_correction"] == {
        "name": "bias_correction/step/bias_correction", "kept": 1, "seconds": 2.5, "mask_iou_before": 0.95,
        "mask_iou": 0.96,
    }  # fmt: skip


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(tmp_path: Path, quantizer: Quantizer) -> None:
    refinements.main()
    assert len(quantizer.asked) == len(refinements.EXPERIMENTS)
    first = rows(tmp_path)
    next((tmp_path / "work").glob("bias_correction-*.json")).unlink()
    refinements.main()
    assert [options.steps for options in quantizer.asked[len(refinements.EXPERIMENTS) :]] == [("bias_correction",)]
    assert rows(tmp_path) == first


@pytest.mark.usefixtures("quantizer")
def test_a_folder_without_annotations_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "scenes/val.json").unlink()
    with pytest.raises(SystemExit, match=r"lacks val\.json"):
        refinements.main()
