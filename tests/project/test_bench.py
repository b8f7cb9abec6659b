"""Result files have their one shape and tell nothing private; documents quote them to the digit."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from bench.machine import machine_record
from bench.published import DOCUMENTS, fill
from bench.study import read_rows, write_study
from bench.tables import (
    ablations_table,
    accuracy_table,
    agreement_table,
    clipping_table,
    first_light_table,
    gate_table,
    learning_curve_table,
    parity_table,
    refinements_table,
    shrink_table,
    speed_table,
    targets_table,
    training_table,
)

ROWS = {
    f"{graph}/{split}": {"name": f"{graph}/{split}", "mask_ap": ap, "latency_p50_ms": ms, "speedup_vs_float": ratio}
    for graph, split, ap, ms, ratio in (
        ("float", "val", 0.6124, 50.4, 1.0),
        ("float", "val_seen", 0.68, 51.0, 1.0),
        ("int8", "val", 0.6051, 24.6, 2.04),
        ("int8", "val_seen", 0.671, 25.0, 2.1),
    )
}


def test_the_machine_record_names_hardware_and_versions_but_no_machine() -> None:
    record = machine_record()
    assert record["cores"] >= 1
    assert record["packages"]["onnxruntime"]
    assert platform.node() not in json.dumps(record)


def test_a_study_writes_rows_machine_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["first_light.py", "--data", "/somewhere/private/homescenes", "--limit", "8"])
    path = write_study("first_light", list(ROWS.values()), tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document) == ["study", "created", "machine", "command", "rows"]
    assert document["command"] == "python -m bench.studies.first_light --data homescenes --limit 8"
    assert read_rows("first_light", tmp_path) == ROWS


def test_a_study_that_was_not_run_has_no_rows(tmp_path: Path) -> None:
    assert read_rows("first_light", tmp_path) == {}


def test_the_table_shows_both_graphs_in_the_units_of_a_reader() -> None:
    lines = first_light_table(ROWS).splitlines()
    assert lines[2] == "| float | 61.2 | 68.0 | 50 ms | 1.00 x |"
    assert lines[3] == "| int8 | 60.5 | 67.1 | 25 ms | 2.04 x |"


def test_filling_replaces_what_stood_between_the_marks_and_nothing_else() -> None:
    page = "before\n<!-- table: first_light -->\nold\n<!-- end -->\nafter\n"
    filled = fill(page, {"first_light": ROWS}.__getitem__)
    assert "old" not in filled
    assert filled.startswith("before\n<!-- table: first_light -->\n| graph |")
    assert filled.endswith("2.04 x |\n<!-- end -->\nafter\n")
    assert "Not measured yet." in fill(page, {"first_light": {}}.__getitem__)


def test_the_training_table_has_a_line_for_all_for_each_size_and_for_each_class() -> None:
    metrics = {
        "mask_ap": 0.636,
        "mask_ap_small": 0.2,
        "mask_ap/mug": 0.5,
        "box_ap": 0.6,
        "box_ap_small": 0.1,
        "box_ap/mug": 0.4,
    }
    lines = training_table({"shipped/val": metrics, "shipped/val_seen": metrics}).splitlines()
    assert lines[2] == "| all, 50:95 | 63.6 | 60.0 | 63.6 | 60.0 |"
    assert [line.split(" | ")[0] for line in lines[3:]] == ["| small", "| mug"]


def test_the_training_table_ends_in_what_the_network_costs() -> None:
    row = {"mask_ap": 0.6, "box_ap": 0.5, "macs": 3.81e9, "parameters": 4_050_000}
    lines = training_table({"shipped/val": row, "shipped/val_seen": row}).splitlines()
    assert lines[-2:] == ["", "3.81 billion multiply-accumulates a image, 4.05 million weights."]
    row |= {"iterations": 4000, "training_views": 32000, "training_images": 5843, "training_hours": 1.17}
    last = training_table({"shipped/val": row, "shipped/val_seen": row}).splitlines()[-1]
    assert last.endswith("; trained for 4000 steps on 32000 views of 5843 images, 1.2 hours.")


def test_the_accuracy_table_says_what_is_kept_how_sure_and_whether_that_is_enough() -> None:
    kept = {"retention": 0.9934, "retention_low": 0.9871, "retention_high": 0.9992, "passed": 0}
    row = {"mask_ap": 0.638, **kept, "retention_class_worst": 0.961, "retention_size_worst": 0.985}
    photos = {"mask_ap50": 0.93, "mask_ap50_low": 0.91, "mask_ap50_high": 0.95, "passed": 1, "target_mask_ap50": 0.9}
    rows = {
        "float/val": {"mask_ap": 0.6403}, "ptq/cpu/val": row,
        "ptq/cpu/photos": {**photos, "images": 66, "instances": 400},
    }  # fmt: skip
    lines = accuracy_table(rows).splitlines()
    assert lines[2] == "| ptq/cpu, unseen | 64.0 | 63.8 | 99.3 % (98.7 to 99.9) | 96.1 % | 98.5 % | missed |"
    assert lines[-1].endswith("against 400 instances that float finds: mask AP50 93.0 (91.0 to 95.0), met.")


def test_the_ablations_table_has_a_line_for_each_variant() -> None:
    row = {"mask_ap": 0.55, "box_ap": 0.51, "latency_p50_ms": 61.3}
    names = [f"{name}/{split}" for name in ("base", "k1") for split in ("val", "val_seen")]
    lines = ablations_table(dict.fromkeys(names, row)).splitlines()
    assert lines[2:] == [f"| {name} | 55.0 / 55.0 | 51.0 / 51.0 | 61 ms |" for name in ("base", "k1")]


def test_the_agreement_table_says_where_a_target_is_missed() -> None:
    row = {"instances": 963, "matched_share": 0.9969, "mask_iou": 0.9848, "box_iou": 0.9876, "score_drift": 0.0036}
    lines = agreement_table({"cpu/openvino": {**row, "passed": 0}, "cpu/rounding": {**row, "passed": 1}}).splitlines()
    assert lines[2:] == [
        f"| {name} | 963 | 99.7 % | 0.985 | 0.988 | 0.004 | {met} |"
        for name, met in (("cpu, openvino", "missed"), ("cpu, rounding", "met"))
    ]


def test_the_clipping_table_has_both_splits_to_a_hundredth() -> None:
    aps = {"whole/val": 0.74371, "whole/val_seen": 0.8, "visible/val": 0.7441, "visible/val_seen": 0.801}
    lines = clipping_table({name: {"mask_ap": ap} for name, ap in aps.items()}).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["74.37 / 80.00 |", "74.41 / 80.10 |"]


def test_the_refinements_table_says_which_steps_were_kept() -> None:
    row = {"mask_ap": 0.7402, "mask_iou": 0.964}
    rows = {f"{name}/{variant}/val": row for name in ("ptq-mse", "all") for variant in ("cpu", "tensorrt")}
    steps = {"adaround": {"kept": 0, "seconds": 430.0}, "bias": {"kept": 1, "seconds": 20.4}}
    rows |= {"float/val": {"mask_ap": 0.744}} | {f"all/step/{name}": step for name, step in steps.items()}
    lines = refinements_table(rows).splitlines()
    assert lines[2:] == [
        "| ptq-mse | 74.02 | 74.02 | 0.964 | - | - |",
        "| all | 74.02 | 74.02 | 0.964 | adaround: no, bias: yes | 450 s |",
    ]
    assert "mask AP (float 74.40)" in lines[0]


def test_the_speed_table_holds_each_value_to_its_target() -> None:
    frame = {"latency_p50_ms": 150.4, "speedup_vs_float": 3.04, "outside_share": 0.009}
    shares = {"after_share": 0.029, "target_after_share": 0.02, "gemm_ratio": 1.24, "target_speedup_vs_float": 4.0}
    rows = {"rt/ort/float": frame, "rt/ort/int8": frame | shares, "rt/ort/int8/layer/Conv/a": {"milliseconds": 3.0}}
    lines = speed_table(rows).splitlines()
    assert lines[2] == "| rt, ort, float | 150 ms | 3.04 x | 0.9 % | - | - |"
    told = "3.04 x (at least 4.00 x: missed) | 0.9 % | 2.9 % (at most 2.0 %: missed) | 1.24 x |"
    assert lines[3:] == [f"| rt, ort, int8 | 150 ms | {told}"]


def test_the_learning_curve_has_a_line_for_each_number_of_steps() -> None:
    sizes = {"mask_ap_small": 0.33, "mask_ap_medium": 0.8, "mask_ap_large": 0.9}
    rows = {f"step/{n}": {"iterations": n, "mask_ap": 0.78, "box_ap": 0.73, **sizes} for n in (50, 200)}
    lines = learning_curve_table(rows).splitlines()
    assert lines[2:] == [f"| {n} | 78.0 | 73.0 | 33.0 | 80.0 | 90.0 |" for n in (50, 200)]


def test_the_shrink_table_has_a_line_for_each_recipe_with_both_runtimes() -> None:
    shared = {"macs": 3.4e9, "size_bytes": 5.9e6, "training_images": 1420}
    speeds = {"onnxruntime": (50.0, 1.0), "openvino": (40.0, 1.25)}
    rows = {
        f"{name}/{runtime}": {**shared, "latency_p50_ms": ms, "speedup_vs_float": ratio}
        for name in ("float", "qat/labels")
        for runtime, (ms, ratio) in speeds.items()
    }
    graphs = {"float": 0.64, "qat/labels/cpu": 0.639, "qat/labels/tensorrt": 0.637}
    rows |= {f"{name}/{split}": {"mask_ap": ap} for name, ap in graphs.items() for split in ("val", "val_seen")}
    lines = shrink_table(rows).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    speed = "3.40 billion | 5.9 MB | 50 ms | 40 ms | 1.00 x, 1.25 x | 1420 images |"
    assert lines[2:] == [
        f"| float | 64.0 / 64.0 | - | {speed}",
        f"| qat/labels | 63.9 / 63.9 | 63.7 / 63.7 | {speed}",
    ]
    rows["qat/labels/onnxruntime"]["training_kept"] = 0
    assert shrink_table(rows).endswith("was left out: qat/labels.")


def test_the_gate_table_tells_caught_faults_from_missed_ones_and_counts_false_alarms() -> None:
    spread = {
        "latency_p50_ms_low": 30.2,
        "latency_p50_ms_high": 66.7,
        "latency_ratio_low": 5.8,
        "latency_ratio_high": 6.01,
    }
    rows = {
        "planted/a": {"caught": 1}, "planted/b": {"caught": 0},
        "busy/all": {"runs": 5, "false_alarms": 2, **spread},
    }  # fmt: skip
    lines = gate_table(rows).splitlines()
    assert lines[0].endswith("1 of 2: a.")
    assert lines[-1] == "| busy/all | 5 | 2 | 30 to 67 ms | 5.80 to 6.01 |"


def test_the_parity_table_shows_the_worst_case_of_each_stage() -> None:
    stages = [name.split("/", 1)[1].rsplit("/", 1)[0] for name in read_rows("parity")]
    rows: dict[str, dict[str, float]] = {}
    for stage in stages:
        for case, share in (("a", 0.25), ("b", 0.5)):
            rows[f"{case}/{stage}/float32"] = {"error_over_allowed": share}
            rows[f"{case}/{stage}/float64"] = {"error_over_allowed": share / 10}
    lines = parity_table(rows).splitlines()
    assert lines[2] == "| network input | 2 | 0.50 | 0.05 |"
    rows["b/fpn/float32"] = {}
    assert "| pyramid | 2 | inf | 0.05 |" in parity_table(rows).splitlines()


def test_the_targets_table_has_layers_and_says_who_is_refused() -> None:
    layers = {"passed": 1, "layers": 9, "quantize_layers": 2, "dequantize_layers": 3, "convolution_layers": 4}
    rows: dict[str, dict[str, object]] = {"nano/check": {"passed": 0}, "orin/check": {"passed": 1}}
    for graph in ("shipped", "rt_r_50"):
        rows |= {f"parser/{graph}": layers, f"converters/{graph}": layers, f"build/{graph}/sm7.5": {"passed": 1}}
    rows["build/shipped/sm12.0"], rows["build/rt_r_50/sm12.0"] = {"passed": 1}, {"passed": 0}
    lines = targets_table(rows).splitlines()
    assert lines[2] == "| shipped | ONNX parser | 9 | 2 | 3 | 4 | 7.5, 12.0 |"
    assert lines[3] == "| rt_r_50 | ONNX parser | 9 | 2 | 3 | 4 | 7.5 |"
    assert lines[4] == "| shipped | Torch-TensorRT converters | 9 | 2 | 3 | 4 | 8.6 |"
    assert lines[-1] == "`blendmask check` of the shipped bundle, INT8: yes for 1 of 2 targets; no for `nano`."


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_quote_the_results_as_they_are(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert fill(text) == text, "run: python -m bench.published"
