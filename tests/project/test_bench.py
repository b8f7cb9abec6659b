"""Result files have their one shape and tell nothing private; documents quote them to the digit."""

from __future__ import annotations

import ast
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.lib.machine import machine_record
from bench.lib.published import DOCUMENTS, fill
from bench.lib.study import has_current_graphs, has_current_timing, read_rows, write_study
from bench.lib.tables import TABLES
from tests.markdown import table_rows

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


MEASURING = ("bench", "quantize/blendmask_quantize", "sdk/blendmask_edge/benchmark")


@pytest.mark.parametrize("folder", MEASURING)
def test_whatever_measures_accuracy_takes_all_that_a_graph_gives(folder: str) -> None:
    """A predictor hides instances below the display threshold unless it is told not to, and average precision needs
    all of them. What only takes times as users have them passes None explicitly."""
    root = Path(__file__).parents[2]
    for path in sorted((root / folder).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("MaskPredictor"):
                named = [keyword.value for keyword in call.keywords if keyword.arg == "score_threshold"]
                assert [ast.unparse(value) for value in named or call.args[3:4]] in (["0"], ["0.0"], ["None"]), path


def test_studies_read_every_option_that_they_take() -> None:
    root = Path(__file__).parents[2]
    for path in sorted((root / "bench" / "studies").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "scenes_parser":
                taken = {ast.literal_eval(argument) for argument in call.args[1:]}
                assert taken <= read, (path, taken - read)


def test_a_study_writes_rows_machine_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["first_light.py", "--data", "/somewhere/private/homescenes", "--limit", "8"])
    path = write_study("first_light", list(ROWS.values()), tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document) == ["study", "created", "machine", "command", "timing_protocol", "graph_version", "rows"]
    assert document["command"] == "python -m bench.studies.first_light --data homescenes --limit 8"
    assert read_rows("first_light", tmp_path) == ROWS


def test_a_study_that_was_not_run_has_no_rows(tmp_path: Path) -> None:
    assert read_rows("first_light", tmp_path) == {}


def test_filling_replaces_what_stood_between_the_marks_and_nothing_else() -> None:
    page = "before\n<!-- table: first_light -->\nold\n<!-- end -->\nafter\n"
    filled = fill(page, {"first_light": ROWS}.__getitem__, lambda _: [])
    assert "old" not in filled
    assert filled.startswith("before\n<!-- table: first_light -->\n| graph |")
    assert filled.endswith("2.04 x |\n<!-- end -->\nafter\n")
    assert "Not measured yet." in fill(page, {"first_light": {}}.__getitem__)


def test_a_table_of_older_results_says_so() -> None:
    page = "<!-- table: first_light -->\n<!-- end -->"
    filled = fill(page, {"first_light": ROWS}.__getitem__, lambda study: [f"*{study} is old.*"])
    assert filled.endswith("2.04 x |\n\n*first_light is old.*\n<!-- end -->")


@pytest.mark.parametrize(
    ("field", "is_current"), [("timing_protocol", has_current_timing), ("graph_version", has_current_graphs)]
)
def test_a_study_records_its_protocol_and_the_version_of_the_graphs(
    field: str, is_current: Callable[[str, Path], bool], tmp_path: Path
) -> None:
    assert is_current("first_light", tmp_path)
    path = write_study("first_light", [{"name": "float/val"}], tmp_path)
    assert is_current("first_light", tmp_path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in document.items() if key != field}))
    assert not is_current("first_light", tmp_path)


@pytest.mark.parametrize("study", [study for study in TABLES if read_rows(study)])
def test_a_table_of_the_results_has_as_many_cells_in_each_row(study: str) -> None:
    text = TABLES[study](read_rows(study))
    assert table_rows(text)
    assert all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_quote_the_results_as_they_are(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert fill(text) == text, "run: python -m bench.lib.published"
