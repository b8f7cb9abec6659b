"""The speed study on a network of a few thousand weights: every row, every stage, and parts that add up."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from bench.lib.graph_stages import STAGES, cut
from bench.lib.limits import conv_macs
from bench.lib.timed_networks import INSTANCES, INT8, TimedNetwork
from bench.studies import speed
from blendmask_edge.bundle.tensors import OUTPUT_NAMES, constant_inputs
from blendmask_edge.hardware.timing import read_in_turn
from blendmask_edge.imaging import preprocess
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.model.predictor import pad_value
from tests.project.conftest import IMAGE, SIZE
from tests.quantize.small_networks import small_network
from tests.quantize.tiny import TINY

pytest.importorskip("openvino")


@pytest.mark.slow
def test_stages_one_after_another_give_what_the_graph_gives(network: TimedNetwork) -> None:
    parts = cut(network.graphs[INT8])
    assert tuple(part.name for part in parts) == STAGES
    given = {"image": preprocess(IMAGE, SIZE, pad_value(TINY.input)).image, **constant_inputs()}
    expected = unoptimised_session(network.graphs[INT8].SerializeToString()).run(list(OUTPUT_NAMES), given)
    values: dict[str, Any] = dict(given)
    for part in parts:
        session = unoptimised_session(part.model.SerializeToString())
        values.update(
            zip(part.outputs, session.run(list(part.outputs), {n: values[n] for n in part.inputs}), strict=True)
        )
    for name, value in zip(OUTPUT_NAMES, expected, strict=True):
        np.testing.assert_array_equal(values[name], value)
    assert (values["scores"] > 0).sum() == INSTANCES


@pytest.mark.slow
def test_multiply_accumulates_are_those_of_the_exported_convolutions(network: TimedNetwork) -> None:
    counted = conv_macs(network.graphs[INT8])
    stem = next(iter(counted.values()))
    assert stem == 4 * 3 * 7 * 7 * 32 * 48
    assert len(counted) == sum(node.op_type == "Conv" for node in network.graphs[INT8].graph.node)


@pytest.mark.slow
def test_every_graph_has_its_row_and_int8_its_stages(
    network: TimedNetwork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "random_network", lambda _: small_network(TINY))
    monkeypatch.setattr(speed, "trained_network", lambda _: small_network(TINY))
    monkeypatch.setattr(speed, "timed_network", lambda *_: network)
    monkeypatch.setattr(speed, "read_in_turn", partial(read_in_turn, rest=0))
    cv2.imwrite(str(tmp_path / "image.png"), IMAGE[..., ::-1])
    words = ["--image", tmp_path / "image.png", "--size", f"{SIZE[0]}x{SIZE[1]}", "--rounds", 2, "--threads", 1]
    words += ["--output", tmp_path]
    monkeypatch.setattr(sys, "argv", ["speed", *map(str, words)])
    speed.main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "speed.json").read_text())["rows"]}
    for name in ("rt_r50", "shipped"):
        runs = [f"{name}/onnxruntime/dense", *(f"{name}/{r}/{g}" for r in speed.RUNTIMES for g in ("float", "int8"))]
        assert set(runs) == {row for row in rows if row.startswith(name) and "/layer/" not in row}
        assert rows[runs[0]]["speedup_vs_float"] == 1
        for run in runs:
            assert abs(rows[run]["instances"] - INSTANCES) <= (2 if "openvino" in run else 0), (
                "OpenVINO rounds elsewhere"
            )
            assert 0 < rows[run]["outside_share"] < 1
        for runtime in speed.RUNTIMES:
            row = rows[f"{name}/{runtime}/int8"]
            assert all(
                row[f"{stage}_ms"] > 0 for stage in (*STAGES, "preprocess", "postprocess", "paste", "convolutions")
            )
            assert row["passed"] in (0, 1)
            layers = [layer for layer in rows if layer.startswith(f"{name}/{runtime}/int8/layer/")]
            assert len(layers) == 8
            assert all(rows[layer]["macs"] >= 0 for layer in layers)
    assert ort.__version__ in json.dumps(json.loads((tmp_path / "speed.json").read_text())["machine"])
