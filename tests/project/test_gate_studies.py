"""The studies of the gate and of scaling, on a few small images."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from bench.lib.gate_tables import gate_accuracy_table, gate_table, scaling_table
from bench.lib.rates import rate_of, spread_of
from bench.lib.tiny_bundle import write_tiny_bundle, write_tiny_images
from bench.studies import gate, gate_accuracy, scaling
from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.benchmark.baseline import Baseline, new_baseline
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.measure import Measured
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.evaluation.annotations import AnnotatedImages
from tests.markdown import row_of, table_rows
from tests.processes import is_running, wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "model.bmz")
    write_tiny_images(tmp_path, 40)
    return tmp_path


def test_intervals_of_rates_are_wilsons() -> None:
    assert rate_of([True] * 50, planted=True) == {"caught": 1.0, "caught_low": 0.929, "caught_high": 1.0}
    half = {"false_alarm_rate": 0.5, "false_alarm_rate_low": 0.237, "false_alarm_rate_high": 0.763}
    assert rate_of([True] * 5 + [False] * 5, planted=False) == half
    assert rate_of([], planted=True) == {}
    assert spread_of("change", [1.0, 2.0]) == {"change": 1.5, "change_low": 1.0, "change_high": 2.0}


def test_convolutions_change_the_time_and_not_the_number_of_instances(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "model.bmz", layers=2)
    images, _ = write_tiny_images(tmp_path, 2)
    with MaskPredictor(tmp_path / "model.bmz", "onnxruntime", 1, score_threshold=0.0) as predictor:
        assert len(predictor(read_image(images / "000000.png"))) == 8


def test_planted_losses_are_reported_and_the_sound_bundle_is_not(folder: Path) -> None:
    images = AnnotatedImages.open(folder / "images", folder / "annotations.json")
    options = Namespace(bundle=folder / "model.bmz")
    sound, shifted = gate_accuracy._predicted(options, "onnxruntime", images, gate_accuracy.shift_masks)
    assert [result["bbox"] for result in sound] == [result["bbox"] for result in shifted]
    study = gate_accuracy.Study(images, sound, 6)
    none, lost = study.row("sound/same", [sound]), study.row("planted/loss-1", [gate_accuracy.lose(sound, 0.5, 0)])
    assert (none["reported"], none["false_alarm_rate"], none["change"]) == (0, 0.0, 0.0)
    assert lost["change"] < 0
    assert lost["caught"] > 0
    shown = row_of(gate_accuracy_table({"sound/same": none}), "sound/same")
    assert all(said in shown for said in (" 6 | 0 ", "0 to 39 %", "+0.00 %"))


@pytest.mark.skipif(sys.platform == "win32", reason="a parent's end is seen on POSIX systems")
def test_load_ends_with_a_study_that_is_killed(tmp_path: Path) -> None:
    """What burned on unseen would disturb all later measurements."""
    program = (
        "import multiprocessing, pathlib, time\nfrom bench.studies import gate\n"
        "if __name__ == '__main__':\n with gate.busy(1):\n"
        f"  pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(multiprocessing.active_children()[0].pid))\n"
        "  time.sleep(600)\n"
    )
    (tmp_path / "study.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(tmp_path / "study.py")], env=environment) as study:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        load = int((tmp_path / "pid").read_text())
        assert is_running(load)
        study.kill()
    wait_for(lambda: not is_running(load))


def test_scaling_measures_the_same_result_for_any_workers(folder: Path) -> None:
    row = scaling.measure(folder, "processes", 1)
    assert row["images_per_second"] > 0
    shown = scaling_table({"processes-1/40": {"name": "processes-1/40", "images": 40, "workers": 1, **row}})
    assert [cells[:2] for cells in table_rows(shown)] == [["40", "1"]]
    with pytest.raises(Exception, match="Results differ"):
        scaling._require_equal([{"name": "a", "mask_ap": 0.1}, {"name": "b", "mask_ap": 0.2}])


@pytest.mark.parametrize(
    ("share", "name", "shown"),
    [
        (0.05, "planted/slower-5%/busy/half/threads-1", "5 %"),
        (0.0, "busy/half/threads-1", "none"),
    ],
)
def test_slowdowns_are_counted_and_listed_by_load_and_threads(share: float, name: str, shown: str) -> None:
    runs = [_timed(1.0), _timed(1.2), _timed(2.0, "Other processes.")]
    row = gate._row("busy/half/threads-1", share, runs, _baseline())
    assert row["name"] == name
    assert row["caught" if share else "false_alarm_rate"] == 0.5
    (cells,) = table_rows(gate_table({name: row}))
    assert cells[:5] == ["busy, half, 1", shown, "3", "1", "1"]
    assert cells[5] == "10 to 90 %"


def _timed(ratio: float, *disturbances: str) -> Measured:
    return Measured({"latency_ratio": ratio, "network_ratio": ratio}, 100, [], disturbances)


def _baseline() -> Baseline:
    setting = Setting(
        subject=Subject(model="TINY", variant="cpu", graph_sha256="", runtime="onnxruntime", threads=1),
        data=Data(annotations="generated", sha256="", images=1), machine=this_machine(),
    )  # fmt: skip
    return new_baseline(Record(created="", setting=setting, frames=100, metrics=_timed(1.0).metrics))
