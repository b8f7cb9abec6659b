"""Runtimes find what the INT8 graph as written finds, as far as the graph agrees with itself off by a millionth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from bench.lib.command import quantize_with_float
from bench.lib.scenes import CALIBRATION, CHECKPOINT, EVALUATION
from bench.lib.sessions import RUNTIMES
from bench.lib.timed_networks import INT8, TimedNetwork
from bench.studies import agreement
from blendmask_edge import read_image
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, constant_inputs
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.validation import fidelity as compare
from tests.project.conftest import SIZE
from tests.quantize.small_networks import image

pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

MARGIN = 0.01
"""By how much a runtime may agree less than rounding alone explains: the spread of some 500 instances."""


def test_every_runtime_is_held_to_the_graph_as_written(
    network: TimedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (3, 4):
        Image.fromarray(image(seed, SIZE)[0]).save(tmp_path / f"{seed}.jpg")
    monkeypatch.setattr(agreement, "VARIANTS", (INT8,))
    monkeypatch.setattr(compare, "CONFIDENT", 0.0)
    words = ["--bundle", network.bundle, "--images", tmp_path, "--output", tmp_path]
    monkeypatch.setattr(sys, "argv", ["agreement", *map(str, words)])
    agreement.main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "agreement.json").read_text())["rows"]}
    assert set(rows) == {f"{INT8}/{name}" for name in (*RUNTIMES, agreement.ROUNDING)}
    for row in rows.values():
        assert row["images"] == 2
        assert row["instances"] > 0
        assert row["passed"] == (min(row["matched_share"], row["mask_iou"]) >= 0.99)


def test_noise_is_a_millionth_of_one_convolution(network: TimedNetwork) -> None:
    exact = network.graphs[INT8]
    noisy = onnx.load_from_string(agreement.with_noise(exact.SerializeToString()))
    onnx.checker.check_model(noisy)
    first = next(node for node in exact.graph.node if node.op_type == "Conv").output[0]
    results = [_run(model, first)[-1] for model in (exact, noisy)]
    error = np.abs(results[1] - results[0]) / np.abs(results[0]).max()
    assert 0 < error.max() < 1e-5


def _run(model: onnx.ModelProto, name: str) -> list[Any]:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = unoptimised_session(opened.SerializeToString())
    return list(session.run([*OUTPUT_NAMES, name], {INPUT_NAME: image(3, SIZE), **constant_inputs()}))


@pytest.mark.slow
def test_runtimes_find_the_same_instances_with_the_shipped_model(tmp_path: Path) -> None:
    bundle = quantize_with_float(CHECKPOINT, CALIBRATION, tmp_path / "model.bmz")
    images = [read_image(path) for path in sorted(EVALUATION.glob("*.jpg"))[::2]]
    for variant in agreement.VARIANTS:
        rows = {row["name"].rpartition("/")[2]: row for row in agreement.variant_rows(bundle, variant, images)}
        for metric, target in agreement.TARGETS.items():
            attainable = min(target, rows[agreement.ROUNDING][metric]) - MARGIN
            assert all(rows[runtime][metric] >= attainable for runtime in RUNTIMES), rows
