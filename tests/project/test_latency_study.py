"""The latency study predicts and times the same networks, in each runtime."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.studies import latency
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.latency.network import LatencyModel
from blendmask_quantize.latency.shapes import conv_shapes
from blendmask_quantize.latency.table import LatencyTable
from tests.quantize.latency.work import work
from tests.quantize.prunable import SMALL
from tests.quantize.tiny import LABELS, tiny_model

pytest.importorskip("openvino")


@contextmanager
def no_graph(*_: object) -> Iterator[object]:
    yield lambda: None


@pytest.mark.slow
def test_every_network_is_predicted_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "small.safetensors", tiny_model(SMALL), LABELS)
    monkeypatch.setattr(latency, "RUNTIMES", ("onnxruntime",))
    monkeypatch.setattr(latency, "SHARES", (0.7, 0.01))
    monkeypatch.setattr(latency, "int8_graph", no_graph)
    monkeypatch.setattr(latency, "quietly", lambda measure: measure())
    monkeypatch.setattr(latency, "read_in_turn", lambda timers, _: {name: [2.0, 3.0, 4.0] for name in timers})
    monkeypatch.setattr(
        latency, "latency_model", lambda model, size, runtime, _: LatencyModel(
            10.0, conv_shapes(model, size), LatencyTable(runtime, work)
        ),
    )  # fmt: skip
    words = ["--network", f"small={tmp_path / 'small.safetensors'}", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["latency", *words])
    latency.main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "latency.json").read_text())["rows"]}
    assert set(rows) == {f"small/{name}/onnxruntime" for name in ("whole", "latency-70", "pruned-70")}
    assert rows["small/whole/onnxruntime"]["predicted_ratio"] == 1
    pruned = rows["small/latency-70/onnxruntime"]
    assert pruned["predicted_ms"] == pytest.approx(0.7 * 3, rel=0.02)
    assert pruned["predicted_ratio"] == pytest.approx(0.7, rel=0.02)
    assert pruned["macs"] < rows["small/whole/onnxruntime"]["macs"]
