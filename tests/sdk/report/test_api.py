"""A report shows what its sources tell, asks for nothing outside, and refuses what it cannot show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge import BaselineError, BundleError, ConfigError, DependencyError, OutputError, write_report
from blendmask_edge.benchmark.baseline import new_baseline, write_baseline
from blendmask_edge.benchmark.gate import Change
from blendmask_edge.benchmark.history import append
from blendmask_edge.bundle import write_bundle
from blendmask_edge.cli.app import app
from blendmask_edge.report.numbers import change_of
from tests.sdk.benchmark.test_history import make_run
from tests.sdk.pages import requests_of
from tests.sdk.small_bundles import build_graph, describe

CLASSES = {"mask_ap/cup": 0.6, "mask_ap/fork <b>": 0.4, "mask_ap_low": 0.45, "mask_ap_high": 0.55}
STAGES = {f"{stage}_p50_ms": 5.0 for stage in ("preprocess", "network", "postprocess")}
TIMES = {**STAGES, "latency_p90_ms": 33.0, "latency_p99_ms": 36.0, "outside_share": 0.1}


def recorded(folder: Path, name: str, **metrics: float) -> Path:
    """Write a baseline of a run with classes and stages."""
    path = folder / f"{name}.json"
    run = make_run(1, metrics={**CLASSES, **TIMES, **metrics})
    write_baseline(path, new_baseline(run.record))
    return path


def graph_of_classes(*class_ids: int) -> bytes:
    """Return the small graph with other classes of its four rows."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(build_graph())
    for weight in model.graph.initializer:
        if weight.name == "class":
            weight.CopyFrom(onnx.numpy_helper.from_array(np.array([class_ids], np.int32), "class"))
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path, Path]:
    """Return a bundle whose cpu graph misses an instance of its float graph, images and annotations."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("measured")
    graphs = {"float": build_graph(), "cpu": graph_of_classes(0, 0, 2, -1)}
    bundle = write_bundle(folder / "m.bmz", describe(graphs), graphs)
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "images" / name), np.full((32, 48, 3), 220, np.uint8))
    box = [[4, 4, 20, 4, 20, 20, 4, 20]]
    document = {
        "images": [{"id": i, "file_name": n, "height": 32, "width": 48} for i, n in enumerate(("a.png", "b.png"), 1)],
        "annotations": [{"id": i, "image_id": i, "category_id": 10, "segmentation": box} for i in (1, 2)],
        "categories": [{"id": 10, "name": "red"}, {"id": 20, "name": "green"}],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return bundle, folder / "images", folder / "a.json"


def need_html() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")


def test_two_records_are_compared_in_one_page_that_asks_for_nothing(tmp_path: Path) -> None:
    need_html()
    old, new = recorded(tmp_path, "old"), recorded(tmp_path, "new", mask_ap=0.49, **{"mask_ap/cup": 0.5})
    text = write_report([old, new], tmp_path / "report.html").read_text(encoding="utf-8")
    assert requests_of(text) == []
    assert "://" not in text
    for title in ("Accuracy against latency", "Latency distribution", "Stages of a frame", "Mask AP by class"):
        assert f"<figcaption>{title}</figcaption><svg" in text
    assert "-1.0 against old" in text
    assert "<td>cup</td><td>60.0</td><td>50.0</td><td>-10.0</td>" in text
    assert "fork &lt;b&gt;" in text
    assert "fork <b>" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "#0101" not in text, "a placeholder of a color was left"


def test_the_class_that_fell_most_comes_first(tmp_path: Path) -> None:
    old, new = recorded(tmp_path, "old"), recorded(tmp_path, "new", **{"mask_ap/fork <b>": 0.1})
    text = write_report([old, new], tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.index("| fork &lt;b&gt; | 40.0 | 10.0 | -30.0 |") < text.index("| cup | 60.0 | 60.0 | +0.0 |")


def test_a_bundle_on_images_shows_what_int8_lost(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    need_html()
    bundle, images, annotations = measured
    page = tmp_path / "report.html"
    words = [bundle, "--images", images, "--annotations", annotations, "--runtime", "onnxruntime", "--threads", 1]
    result = CliRunner().invoke(app, ["report", *map(str, [*words, "--frames", 2, "--output", page])])
    assert result.exit_code == 0, result.output
    assert f"Saved the report to {page}" in result.output
    text = page.read_text(encoding="utf-8")
    assert requests_of(text) == []
    assert text.count("data:image/jpeg") == 4
    assert "green vanished: score 0.86" in text
    for part in ("mask AP", "latency p99", "Layers", "Bundle: m.bmz", "ptq 1", "Apache-2.0", "processor"):
        assert part in text


def test_two_bundles_are_measured_side_by_side_and_compared(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    bundle, images, annotations = measured
    graphs = {"cpu": build_graph()}
    new = write_bundle(tmp_path / "new.bmz", describe(graphs), graphs)
    options: Dict[str, Any] = {"runtime": "onnxruntime", "threads": 1, "frames": 1}
    text = write_report([bundle, new], tmp_path / "r.md", images, annotations, **options).read_text(encoding="utf-8")
    assert "|  | m:cpu | new:cpu |" in text
    assert "m:cpu against new:cpu: 4 of 8 instances changed (50.00%): 2 vanished, 2 appeared, 0 mask changed." in text
    assert "x as fast as m:cpu" in text
    assert "## Bundle: m.bmz" in text
    assert "## Bundle: new.bmz" in text


def test_a_bundle_is_set_against_an_earlier_measurement(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    bundle, images, annotations = measured
    old = recorded(tmp_path, "old")
    options: Dict[str, Any] = {"runtime": "onnxruntime", "threads": 1, "frames": 1}
    page = write_report([f"{bundle}:cpu", old], tmp_path / "r.md", images, annotations, **options)
    text = page.read_text(encoding="utf-8")
    assert "|  | old | m:cpu |" in text
    assert "against old" in text


def test_images_without_annotations_give_time_alone(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    bundle, images, _ = measured
    page = write_report(f"{bundle}:cpu", tmp_path / "r.md", images, runtime="onnxruntime", threads=1, frames=1)
    text = page.read_text(encoding="utf-8")
    assert "| latency p50, ms |" in text
    assert "mask AP75" not in text
    assert "give --annotations" in text.replace("\\", "")


def test_images_without_a_bundle_are_said_to_have_no_effect(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, images, _ = measured
    text = write_report(recorded(tmp_path, "old"), tmp_path / "r.md", images).read_text(encoding="utf-8")
    assert "No bundle is among the sources: --images has no effect." in text


def test_a_bundle_alone_tells_how_it_was_made(bundle_path: Path, tmp_path: Path) -> None:
    text = write_report(bundle_path, tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    assert "Nothing was measured: give --images" in text
    assert "| cpu | int8 |" in text
    assert "| 20 of 21, 0.950 |" in text
    assert "| cpu | 5 images of val | 25.0 | - |" in text


@pytest.mark.slow
def test_a_history_shows_each_run_and_marks_the_limit_that_was_left(tmp_path: Path) -> None:
    need_html()
    folder = tmp_path / "history"
    left = Change("mask_ap", 0.5, 0.4, 0.495, 0.51)
    kept = Change("mask_ap", 0.5, 0.5, 0.495, 0.51)
    for day, run in enumerate(
        (
            {"label": "first", "changes": [kept]},
            {"commit": "abc123", "changes": [left], "metrics": {"mask_ap": 0.4}},
            {"label": "third", "disturbances": ["noise"]},
        ),
        start=1,
    ):
        append(folder, make_run(day, **{**run, "metrics": {**TIMES, **run.get("metrics", {})}}))
    text = write_report(folder, tmp_path / "trend.html").read_text(encoding="utf-8")
    assert requests_of(text) == []
    assert "3 runs, 1 with a metric outside its limits." in text
    assert "<td>mask_ap worse</td>" in text
    assert "<td>disturbed</td>" in text
    assert text.count("var(--bad)") >= 3, "the run that left a limit is marked in the chart"
    assert text.index("<td>third</td>") < text.index("<td>abc123</td>") < text.index("<td>first</td>")


def test_runs_of_another_machine_are_another_line(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    run = make_run(1, label="here")
    setting = run.record.setting
    machine = msgspec.structs.replace(setting.machine, cpu="another processor")
    record = msgspec.structs.replace(run.record, setting=msgspec.structs.replace(setting, machine=machine))
    append(folder, run)
    append(folder, msgspec.structs.replace(run, record=record, label="there"))
    text = write_report(folder, tmp_path / "trend.md").read_text(encoding="utf-8")
    assert text.count("1 run, 0 with") == 2
    assert "another processor" in text


def test_sensitivity_stands_beside_the_layers(bundle_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    layers = [{"name": "stem", "masks": 0.13, "scores": 0.01}, {"name": "tower", "masks": 0.02, "scores": 0.01}]
    study = [{"name": "planted/layer/stem", "mask_iou": 0.87}, {"name": "planted/layer/tower", "mask_iou": 0.98}]
    for document in ({"layers": layers, "together": {}}, {"study": "sensitivity", "rows": study}):
        path.write_text(json.dumps(document))
        text = write_report([bundle_path, path], tmp_path / "r.md").read_text(encoding="utf-8")
        assert text.index("| stem | 0.130 |") < text.index("| tower | 0.020 |")


def test_bench_output_brings_its_limits_along(tmp_path: Path) -> None:
    run: Dict[str, Any] = msgspec.to_builtins(make_run(1))
    change = {"metric": "mask_ap", "before": 0.6, "now": 0.5, "low": 0.59, "high": 0.61}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"record": run["record"], "changes": [change], "remarks": ["a remark"]}))
    text = write_report(path, tmp_path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    assert "| mask_ap | 0.6 | 0.5 | 0.59 to 0.61 | worse |" in text
    assert "run: a remark" in text
    assert "**1 of 1** metrics outside their limits" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ("{}", "holds none of what a report is made of"),
        ('{"record": 1}', "is not sound"),
        ('{"schema_version": 9, "record": {}}', "schema version 9"),
        ('{"schema_version": 9, "record": {}, "limits": {}}', "not a valid baseline"),
        ('{"study": "speed", "rows": []}', "tells no sensitivity"),
    ],
)
def test_files_that_are_no_measurement_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text)
    with pytest.raises(BaselineError, match=message) as caught:
        write_report(path, tmp_path / "r.md")
    assert "odd.json" in str(caught.value)
    assert not (tmp_path / "r.md").exists()


def test_wrong_arguments_are_refused_before_measuring(bundle_path: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.md"
    wrong: List[Tuple[Any, Dict[str, Any], Any, str]] = [
        ([], {}, ConfigError, "needs a file"),
        (bundle_path, {"frames": 0}, ConfigError, "frames is 0"),
        (bundle_path, {"score_threshold": 2}, ConfigError, "score_threshold is 2"),
        (
            bundle_path,
            {"frames": 10**12},
            ConfigError,
            "frames is 1000000000000, expected an integer",
        ),
        (bundle_path, {"annotations": "a.json"}, ConfigError, "--images DIR"),
        (tmp_path / "no.bmz", {}, BundleError, "Cannot read"),
        (tmp_path / "no.json", {}, BaselineError, "Cannot read"),
        (f"{bundle_path}:none", {}, BundleError, "has no 'none' graph"),
        (tmp_path, {}, BaselineError, "holds no record"),
    ]
    for sources, options, error, message in wrong:
        with pytest.raises(error, match=message):
            write_report(sources, page, **options)
    for name, error in (("r.pdf", ConfigError), ("no/r.md", OutputError)):
        with pytest.raises(error):
            write_report(bundle_path, tmp_path / name)
    assert not page.exists()


def test_folder_of_predictions_is_one_to_compare(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    with pytest.raises(BaselineError, match=r"holds predictions, not records\. .*blendmask compare A B"):
        write_report(tmp_path, tmp_path / "r.md")


def test_html_without_its_packages_says_what_to_install(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for package in ("jinja2", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(DependencyError, match=r"report\].*Or write Markdown|pip install"):
                write_report(bundle_path, tmp_path / "r.html")
            assert write_report(bundle_path, tmp_path / "r.md").is_file()


def test_an_interrupted_report_leaves_the_former_page(
    measured: Tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    page = tmp_path / "report.md"
    page.write_text("the former one")
    monkeypatch.setattr("blendmask_edge.report.measured.measure_in_turn", stopped)
    bundle, images, _ = measured
    words = ["report", bundle, "--images", images, "--runtime", "onnxruntime", "--threads", 1, "--output", page]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 130
    assert page.read_text() == "the former one"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.slow
def test_names_in_any_script_and_with_dollars_are_drawn_as_they_are(tmp_path: Path, recwarn: Any) -> None:
    need_html()
    names = {"mask_ap/$\\frac{$": 0.3, "mask_ap/カップ": 0.4, "mask_ap/a & b": 0.5}
    paths = [recorded(tmp_path, label, **names) for label in ("a$^$", "新")]
    text = write_report(paths, tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">$\\frac{$</text>" in text
    assert ">カップ</text>" in text
    assert ">a &amp; b</text>" in text
    assert not recwarn.list


def test_nothing_detected_is_reported(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, images, annotations = measured
    graphs = {name: graph_of_classes(-1, -1, -1, -1) for name in ("float", "cpu")}
    bundle = write_bundle(tmp_path / "n.bmz", describe(graphs), graphs)
    options: Dict[str, Any] = {"runtime": "onnxruntime", "threads": 1, "frames": 1}
    page = write_report(bundle, tmp_path / "r.md", images, annotations, **options)
    text = page.read_text(encoding="utf-8")
    assert "| mask AP | 0.0 | 0.0 |" in text
    assert "Neither run has an instance" in text
    page = write_report(bundle, tmp_path / "r.md", images, annotations, score_threshold=0.3, **options)
    text = page.read_text(encoding="utf-8").replace("\\", "")
    assert "Neither run has an instance with a score of 0.3 or more: try a lower --score." in text


def test_changes_count_from_the_given_score(measured: Tuple[Path, Path, Path], tmp_path: Path) -> None:
    bundle, images, annotations = measured
    options: Dict[str, Any] = {"runtime": "onnxruntime", "threads": 1, "frames": 1}
    pages = [
        write_report(bundle, tmp_path / "r.md", images, annotations, score_threshold=score, **options).read_text(
            "utf-8"
        )
        for score in (0, 1)
    ]
    assert ["Neither run has an instance" in page for page in pages] == [False, True]


def test_entries_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    paths = [recorded(tmp_path / folder, "kitchen") for folder in ("old", "new")]
    text = write_report(paths, tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| mask AP | old/kitchen | new/kitchen | change |" in text
    text = write_report([paths[0], paths[0]], tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| mask AP | old/kitchen (1) | old/kitchen (2) | change |" in text


def test_a_disturbed_time_says_so_at_the_top(tmp_path: Path) -> None:
    run = make_run(1, metrics={**CLASSES, **TIMES})
    for folder, disturbances in (("quiet", []), ("busy", ["Other processes took 40% of the cores' time."])):
        append(tmp_path / folder, msgspec.structs.replace(run, disturbances=disturbances))
        text = write_report(tmp_path / folder, tmp_path / f"{folder}.md").read_text(encoding="utf-8")
        assert ("disturbed by other work" in text) == bool(disturbances)


def test_a_change_that_rounds_to_nothing_has_no_minus_sign() -> None:
    assert change_of(0.4998, 0.5) == "+0.0"
    assert change_of(0.499, 0.5) == "-0.1"


def test_options_of_a_recipe_are_told_in_words(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    graphs = {"cpu": build_graph()}
    manifest = describe(graphs)
    options = {"steps": {"bias": {"kept": True, "after": {"masks": 0.1}}}, "ignored": []}
    recipe = msgspec.structs.replace(manifest.recipe, options=options)
    bundle = write_bundle(tmp_path / "m.bmz", msgspec.structs.replace(manifest, recipe=recipe), graphs)
    text = write_report(bundle, tmp_path / "r.md").read_text(encoding="utf-8")
    assert "steps: bias: kept yes, after (masks 0.1)" in text.replace("\\", "")
    assert "ignored: none" in text
