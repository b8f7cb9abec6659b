"""Baselines come back as they were written, whole or not at all, and refuse what they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import msgspec
import pytest

from blendmask_edge.benchmark.baseline import (
    Baseline,
    Limit,
    check_comparable,
    new_baseline,
    read_baseline,
    write_baseline,
)
from blendmask_edge.benchmark.machine import Machine
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.errors import BaselineError, OutputError

SETTING = Setting(
    subject=Subject(model="TINY", variant="cpu", graph_sha256="0" * 64, runtime="onnxruntime", threads=2),
    data=Data(annotations="val.json", sha256="a" * 64, images=40),
    machine=Machine(cpu="EPYC", architecture="x86_64", cores=2, flags=["avx2"], system="Linux", python="3.11.2"),
    reference=1,
)
METRICS = {"mask_ap": 0.3, "latency_ratio": 8.0, "latency_p50_ms": 40.0}


def changed(setting: Setting, part: str, **fields: Any) -> Setting:
    """Return a setting with fields of one part replaced."""
    return msgspec.structs.replace(setting, **{part: msgspec.structs.replace(getattr(setting, part), **fields)})


@pytest.fixture
def baseline() -> Baseline:
    """Return a baseline with default limits."""
    return new_baseline(Record(created="2026-01-01T00:00:00+00:00", setting=SETTING, frames=200, metrics=METRICS))


@pytest.fixture
def path(tmp_path: Path, baseline: Baseline) -> Path:
    """Return a written baseline."""
    write_baseline(tmp_path / "tiny.json", baseline)
    return tmp_path / "tiny.json"


def test_comes_back_as_written(path: Path, baseline: Baseline) -> None:
    assert read_baseline(path) == baseline
    assert path.read_text().endswith("}\n")
    assert list(json.loads(path.read_text())) == ["schema_version", "limits", "record"]


def test_new_one_limits_what_was_measured_and_no_milliseconds(baseline: Baseline) -> None:
    assert set(baseline.limits) == {"mask_ap", "latency_ratio"}


@pytest.mark.parametrize(("threads", "worse"), [(1, 0.08), (2, 0.10), (None, 0.10)])
def test_one_thread_is_held_to_a_narrower_limit(baseline: Baseline, threads: Optional[int], worse: float) -> None:
    record = msgspec.structs.replace(baseline.record, setting=changed(SETTING, "subject", threads=threads))
    assert new_baseline(record).limits["latency_ratio"].worse == worse
    assert new_baseline(record, baseline).limits == baseline.limits, "an update keeps the limits"


def test_stage_of_next_to_no_time_may_move_by_a_share_of_the_frame(baseline: Baseline) -> None:
    metrics = {"latency_ratio": 8.0, "preprocess_ratio": 0.04, "postprocess_ratio": 2.0, "decode_ratio": 0.0}
    limits = new_baseline(msgspec.structs.replace(baseline.record, metrics=metrics)).limits
    assert limits["preprocess_ratio"] == Limit(worse=4.0, better=0.9)
    assert limits["postprocess_ratio"] == Limit(worse=0.3, better=0.3)


def test_update_keeps_the_limits_that_were_reviewed(baseline: Baseline) -> None:
    limits = {"mask_ap": Limit(worse=0.5, better=0.5), "latency_p50_ms": Limit(worse=0.1, better=1)}
    former = Baseline(limits=limits, record=baseline.record)
    record = msgspec.structs.replace(baseline.record, metrics={**METRICS, "mask_ap": 0.2})
    updated = new_baseline(record, former)
    assert updated.limits == limits
    assert updated.record.metrics["mask_ap"] == 0.2


def test_failed_write_leaves_the_former_one(path: Path, baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        write_baseline(path, new_baseline(baseline.record))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["tiny.json"]


def test_a_device_is_refused() -> None:
    with pytest.raises(BaselineError, match="not a file"):
        read_baseline("/dev/zero")


def spoilt(document: Dict[str, Any]) -> List[bytes]:
    texts = [b"", b"{", b"[]", b"\xff", b"[" * 100_000]
    for change in (
        {"limits": {"mask_ap": {"worse": -1, "better": 0}}},
        {"limits": {"mask_ap": {"worse": 0.1}}},
        {"limits": {"unknown": {"worse": 0.1, "better": 0.1}}},
        {"record": {}},
    ):
        texts.append(json.dumps({**document, **change}).encode())
    return texts


def test_unsound_file_is_refused_in_one_message(path: Path) -> None:
    for text in spoilt(json.loads(path.read_text())):
        path.write_bytes(text)
        with pytest.raises(BaselineError, match=r"tiny\.json is not a valid baseline.*--update-baseline"):
            read_baseline(path)


def test_missing_file_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"none\.json.*--update-baseline"):
        read_baseline(tmp_path / "none.json")


def test_other_schema_is_refused(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    with pytest.raises(BaselineError, match="schema version 2"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("part", "fields", "found"),
    [
        ("machine", {"cpu": "Cortex-A78"}, "cpu EPYC, not Cortex-A78"),
        ("machine", {"cores": 6}, "cores 2, not 6"),
        ("machine", {"flags": []}, "flags"),
        ("subject", {"runtime": "openvino"}, "runtime onnxruntime, not openvino"),
        ("subject", {"threads": None}, "threads: 2, not the runtime's choice"),
    ],
)
def test_another_machine_or_runtime_is_refused_for_time_alone(
    baseline: Baseline, part: str, fields: Dict[str, Any], found: str
) -> None:
    here = changed(SETTING, part, **fields)
    with pytest.raises(BaselineError) as caught:
        check_comparable("b.json", baseline, here)
    message = str(caught.value)
    assert message.count("\n") == 0
    for text in ("b.json", found, "--update-baseline", "--accuracy-only"):
        assert text in message
    check_comparable("b.json", baseline, here, accuracy_only=True)


def test_another_reference_workload_is_refused(baseline: Baseline) -> None:
    with pytest.raises(BaselineError, match="reference workload 1, not 2"):
        check_comparable("b.json", baseline, msgspec.structs.replace(SETTING, reference=2))


@pytest.mark.parametrize(
    ("part", "fields", "found"),
    [
        ("data", {"sha256": "b" * 64}, "40 images of val.json"),
        ("data", {"images": 39}, "not 39 images"),
        ("subject", {"variant": "float"}, "the graph cpu, not float"),
        ("subject", {"model": "R_50_3x"}, "the model TINY, not R_50_3x"),
    ],
)
def test_other_data_model_or_graph_is_refused_for_accuracy_too(
    baseline: Baseline, part: str, fields: Dict[str, Any], found: str
) -> None:
    with pytest.raises(BaselineError, match=found):
        check_comparable("b.json", baseline, changed(SETTING, part, **fields), accuracy_only=True)


def test_newer_versions_and_another_graph_are_what_is_compared(baseline: Baseline) -> None:
    here = changed(SETTING, "machine", packages={"onnxruntime": "9.9"}, python="3.12.0", memory_gb=8.0)
    check_comparable("b.json", baseline, changed(here, "subject", graph_sha256="1" * 64))
