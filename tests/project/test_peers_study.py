"""The comparison with peers: a failure says why, measured rows stay, and what a setting leaves out stays float."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from bench.lib.graph_stages import stage_members
from bench.lib.peer_tables import paper_table, peers_settings_table, peers_summary_table, peers_table
from bench.lib.timed_networks import FLOAT as FLOAT_GRAPH
from bench.lib.timed_networks import TimedNetwork
from bench.peers import accuracy, graphs, recipes, speed
from bench.peers.packages import MissingPeerError
from bench.peers.predictor import InputForm
from bench.studies import peers
from blendmask_edge import Labels
from blendmask_edge.bundle.tensors import constant_inputs
from tests.markdown import row_of, table_rows
from tests.project.conftest import IMAGE, SIZE
from tests.sdk.small_bundles import HEIGHT, NAMES, WIDTH, build_graph

FORM = InputForm((HEIGHT, WIDTH), (0, 0, 0), Labels(NAMES, [10, 20, 35]))
GRAPHS = ("float", "blendmask-edge", "onnxruntime-default")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenes of red images with one instance each, and a folder with three graphs that are made already."""
    for split in ("val", "val_seen", "train"):
        document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 10, "name": "red"}]}
        (tmp_path / "scenes" / split).mkdir(parents=True)
        for number in range(1, 4):
            file = {"file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}
            shown = {"category_id": 10, "area": 256, "iscrowd": 0, "bbox": [4, 4, 16, 16]}
            document["images"].append({"id": number, **file})
            outline = [[4, 4, 20, 4, 20, 20, 4, 20]]
            document["annotations"].append({"id": number, "image_id": number, "segmentation": outline, **shown})
            red = np.full((HEIGHT, WIDTH, 3), (0, 0, 250), np.uint8)
            cv2.imwrite(str(tmp_path / "scenes" / split / f"{number}.jpg"), red)
        (tmp_path / "scenes" / f"{split}.json").write_text(json.dumps(document))
    (tmp_path / "work").mkdir()
    for name in GRAPHS:
        (tmp_path / "work" / f"{name}.onnx").write_bytes(build_graph(threshold_input=True))
    monkeypatch.setattr(graphs.Graphs, "form", FORM)
    monkeypatch.setattr(peers, "compared", lambda: [*GRAPHS, "nncf-default"])
    return tmp_path / "work"


@pytest.fixture
def study(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, dict[str, Any]]]:
    """Measure accuracy, and return the rows."""

    def run() -> dict[str, dict[str, Any]]:
        given = ["--data", work.parent / "scenes", "--work", work, "--output", work, "--threads", 1, "--resamples", 10]
        monkeypatch.setattr(sys, "argv", ["peers", *map(str, given), "--part", "accuracy", "--images", "2"])
        peers.main()
        return {row["name"]: row for row in json.loads((work / "peers.json").read_text())["rows"]}

    return run


def no_tool(tool: str, *_: object) -> None:
    raise MissingPeerError(f"{tool} cannot be imported (planted). Type `make peers`")


def test_graphs_are_compared_on_the_same_images_and_a_missing_tool_is_named(
    study: Callable[[], dict[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "quantize_apart", no_tool)
    monkeypatch.setattr(graphs.Graphs, "_inputs", lambda _: [])
    rows = study()
    assert set(rows) == {f"{name}/{split}" for name in (*GRAPHS, "nncf-default") for split in ("val", "val_seen")}
    ours = rows["blendmask-edge/val"]
    assert ours["mask_ap"] == rows["float/val"]["mask_ap"] > 0
    assert ours["retention"] == ours["retention_low"] == ours["retention_high"] == 1
    assert ours["mask_ap_onnxruntime"] == ours["mask_ap"]
    assert ours["images"] == 2
    assert ours["processor"]
    assert "make peers" in rows["nncf-default/val"]["error"]
    assert "mask_ap" not in rows["nncf-default/val"]


def test_what_a_tool_refuses_is_tried_once(
    study: Callable[[], dict[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(tool: str, *_: object) -> None:
        tried.append(tool)
        raise recipes.RecipeError(f"{tool}: no such operator")

    monkeypatch.setattr(graphs, "quantize_apart", refuse)
    monkeypatch.setattr(graphs.Graphs, "_inputs", lambda _: [])
    monkeypatch.setattr(peers, "compared", lambda: ["nncf-default"])
    rows = study()
    assert tried == ["nncf"]
    assert {row["error"] for row in rows.values()} == {"RecipeError: nncf: no such operator"}


@pytest.mark.slow
def test_an_interrupted_study_goes_on_with_the_detections_that_it_has(
    study: Callable[[], dict[str, dict[str, Any]]], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "compared", lambda: list(GRAPHS))
    before = study()
    for name in GRAPHS:
        (work / f"{name}.onnx").unlink()
    (work / "peers.json").write_text(json.dumps({"rows": [{"name": "gemm/openvino/int8", "milliseconds": 1}]}))
    after = study()
    assert after.pop("gemm/openvino/int8") == {"name": "gemm/openvino/int8", "milliseconds": 1}
    assert after == before


def test_a_row_in_bf16_is_refused_where_the_processor_has_none(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    monkeypatch.setattr(speed, "processor_flags", lambda: ["avx2"])
    only = "blendmask/openvino/bf16"
    original = speed.Speed._makers
    monkeypatch.setattr(speed.Speed, "_makers", lambda self: (each for each in original(self) if each[0] == only))
    monkeypatch.setattr(speed, "gemm_probes", lambda *_: [])
    monkeypatch.setattr(speed, "_limits", lambda _: [])
    (row,) = speed.Speed(graphs.Graphs(work, work, work), [IMAGE], 1, 1).rows()
    assert row["name"] == only
    assert "no bf16 instructions" in row["error"]


def test_ten_instances_pass_in_each_graph_that_detects_as_many(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    monkeypatch.setattr(speed, "INSTANCES", 1)
    measured = speed.Speed(
        graphs.Graphs(work, work, work), [np.full((HEIGHT, WIDTH, 3), (250, 90, 40), np.uint8)], 1, 1
    )
    subject = measured._graph("float", "onnxruntime")
    assert subject.facts == {"instances": 1}
    assert subject.milliseconds() > 0


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["channels", "predictors"])
def test_what_a_setting_leaves_out_stays_float(network: TimedNetwork, setting: str) -> None:
    model = network.graphs[FLOAT_GRAPH]
    left_out = set(recipes.behind_network(model.graph))
    last = set(recipes.predictors(model.graph))
    assert last
    assert last < {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert not last & left_out
    inputs = {"image": np.ascontiguousarray(IMAGE[None, : SIZE[0], : SIZE[1]]), **constant_inputs()}
    graph = recipes.quantize_apart("onnxruntime", setting, model.SerializeToString(), [inputs])
    quantized = onnx.load_from_string(graph)
    rounded = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    # ONNX Runtime rounds a tensor for all that read it, so that what is left out is known by its weights.
    with_rounded = {node.name for node in quantized.graph.node if node.op_type == "Conv" and node.input[1] in rounded}
    assert with_rounded == convolutions - (last if setting == "predictors" else set())
    assert stage_members(quantized.graph)["network"]


def test_an_error_of_a_tool_is_one_line_without_folders() -> None:
    said = accuracy.one_line(ValueError("cannot read\n  /home/somebody/work-1/graph.onnx:\n no such input"))
    assert said == "ValueError: cannot read graph.onnx: no such input"


def accuracy_row(name: str, **more: Any) -> dict[str, Any]:
    row = {"name": name, "mask_ap": 0.74, "mask_ap_low": 0.7, "mask_ap_high": 0.78, "images": 100, "processor": "CPU"}
    return row | more


def test_the_table_says_what_failed_and_which_processor_was_timed() -> None:
    kept = {"retention": 0.12, "retention_low": 0.1, "retention_high": 0.14, "mask_ap_onnxruntime": 0.6}
    rows = [
        accuracy_row("float/val"),
        accuracy_row("nncf-default/val", mask_ap=0.09, **kept, error_openvino="no such operator"),
        {"name": "modelopt-default/val", "error": "does not take | the graph", "images": 100, "processor": "CPU"},
    ]
    text = peers_table({row["name"]: row for row in rows})
    nncf = row_of(text, "NNCF", "by default")
    assert all(said in nncf for said in ("9.0", "12.0 % of float (10.0 to 14.0)", "60.0 / failed"))
    assert "failed: does not take / the graph" in row_of(text, "ModelOpt", "by default")
    assert "no such operator" in text
    assert "not measured yet" in text
    times = {f"latency_p{share}_ms": share / 10 for share in (50, 90, 99)}
    rows += [
        {"name": "blendmask/openvino/float", **times, "processor": "CPU avx2"},
        {"name": "blendmask/openvino/bf16", "error": "the processor has no bf16", "processor": "CPU avx2"},
        {"name": "yolo11n-seg/openvino/int8", **times, "processor": "CPU avx2"},
        {"name": "gemm/openvino/int8", "gemm_gmacs_per_second": 412.2, "processor": "CPU avx2"},
    ]
    text = peers_table({row["name"]: row for row in rows})
    assert "5.0 / 9.0 / 9.9 ms" in row_of(text, "openvino, float", "74.0 (70.0 to 78.0)")
    assert "failed: the processor has no bf16" in row_of(text, "openvino, bf16")
    assert "5.0 / 9.0 / 9.9 ms" in row_of(text, "yolo11n-seg", "openvino, int8")
    below = text.rpartition("|")[2]
    assert all(said in below for said in ("CPU avx2", "exact kernels", "412 in OpenVINO"))


def test_the_summary_has_accuracy_beside_the_time_in_each_runtime() -> None:
    times = {f"latency_p{share}_ms": share for share in (50, 90, 99)}
    rows = [
        accuracy_row("float/val"),
        accuracy_row("nncf-default/val", mask_ap=0.09, retention=0.12, retention_low=0.1, retention_high=0.14),
        {"name": "blendmask/onnxruntime/float", **times, "processor": "CPU avx2"},
        {"name": "blendmask/pytorch/float", **times, "processor": "CPU avx2"},
        {"name": "nncf-default/openvino/int8", "error": "no such operator", "processor": "CPU avx2"},
        {"name": "yolo26n-seg/openvino/int8", **times, "processor": "CPU avx2"},
        {"name": "mask-rcnn/pytorch/float", **times, "processor": "CPU avx2"},
    ]
    text = peers_summary_table({str(row["name"]): row for row in rows})
    said = {row[0]: row[1:] for row in table_rows(text)}
    assert said["BlendMask, float"] == ["74.0 (70.0 to 78.0)", "-", "50 / 99 ms", "-", "50 / 99 ms"]
    assert said["yolo26n-seg, int8"] == ["-", "-", "-", "50 / 99 ms", "-"]
    assert said["Mask R-CNN R50-FPN, float"] == ["-", "-", "-", "-", "50 / 99 ms"]
    nncf = row_of(text, "NNCF", "by default")
    assert all(part in nncf for part in ("9.0", "12.0 % of float (10.0 to 14.0)", "failed"))


def test_settings_are_listed_with_their_accuracy_on_training_images() -> None:
    kept = {"retention": 0.99, "retention_low": 0.98, "retention_high": 1.0}
    rows = [
        accuracy_row("nncf-network/train", **kept),
        {"name": "modelopt-max/train", "error": "refused", "images": 100},
        accuracy_row("float/val"),
    ]
    text = peers_settings_table({str(row["name"]): row for row in rows})
    assert len(table_rows(text)) == 2
    assert "100 training images" in text
    assert "74.0; 99.0 % of float (98.0 to 100.0)" in row_of(text, "NNCF", "`network`")
    assert "failed: refused" in row_of(text, "ModelOpt", "`max`")


def test_the_table_of_the_paper_has_all_claims() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "mask-rcnn/10", "latency_p50_ms": 500.0, "instances": 10},
        {
            "name": "blendmask/10",
            "latency_p50_ms": 400.0,
            "speedup": 1.25,
            "instances": 10,
            "height": 480,
            "width": 640,
        },
        {"name": "weighted-sum/10", "merge_ms": 0.5, "top_layer_ms": 1.0},
        {"name": "assembler/10", "merge_ms": 2.0, "top_layer_ms": 0.0, "other_work": 1},
    ]
    ap = {"mask_ap": 0.7412, "mask_ap_low": 0.7, "mask_ap_high": 0.78, "suppression_ms": 1.5, "candidates": 90}
    rows += [{"name": "batched-nms/val", **ap, "images": 60}]
    rows += [{"name": "fast-nms/val", **ap, "mask_ap": 0.7312, "suppression_ms": 3.0, "images": 60}]
    text = paper_table({row["name"]: row for row in rows})
    assert row_of(text, "400 and 500 ms", "80 % of the time").endswith("holds")
    assert "4.00 x the weighted sum" in row_of(text, "ssembler")
    assert "74.12 (70.0 to 78.0), 1.50 ms for 90 candidates" in row_of(text, "1.50 ms")
    assert all(part in row_of(text, "2.00 x the time") for part in ("73.12", "-1.00 points"))
    assert "60 images" in text
    assert "Other processes ran at the same time" in text
