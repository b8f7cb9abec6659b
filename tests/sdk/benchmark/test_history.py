"""Runs are added to a folder, one file each, and come back in order."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict

import msgspec
import pytest

from blendmask_edge import BaselineError, OutputError
from blendmask_edge.benchmark.gate import Change
from blendmask_edge.benchmark.history import Run, append, check_folder, read_history, this_commit
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject

METRICS = {"mask_ap": 0.5, "latency_p50_ms": 30.0, "latency_ratio": 7.5, "fps": 33.0}


def make_run(day: int, **changes: Any) -> Run:
    """Return a run of a day of January."""
    metrics = {**METRICS, **changes.pop("metrics", {})}
    subject = Subject(model="TINY", variant="cpu", graph_sha256="0" * 64, runtime="onnxruntime", threads=1)
    data = Data(annotations="a.json", sha256="1" * 64, images=5)
    setting = Setting(subject=subject, data=data, machine=this_machine())
    record = Record(
        created=f"2026-01-{day:02}T00:00:00+00:00", setting=setting, frames=100, metrics=metrics,
        latency_quantiles_ms=[28 + number / 5 for number in range(21)],
    )  # fmt: skip
    return Run(record=record, **changes)


def test_runs_come_back_in_the_order_of_their_time(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    left = Change("mask_ap", 0.5, 0.4, 0.495, 0.51)
    runs = [make_run(3, label="third"), make_run(1, commit="abc"), make_run(2, changes=[left], disturbances=["noise"])]
    files = [append(folder, run) for run in runs]
    assert len(set(files)) == 3
    history = read_history(folder)
    assert history == [runs[1], runs[2], runs[0]]
    assert [run.name for run in history] == ["abc", "2026-01-02T00:00:00+00:00", "third"]
    assert [[change.result for change in run.left] for run in history] == [[], ["worse"], []]


def test_two_runs_of_one_second_are_two_records(tmp_path: Path) -> None:
    append(tmp_path, make_run(1, label="a"))
    append(tmp_path, make_run(1, label="b"))
    assert {run.label for run in read_history(tmp_path)} == {"a", "b"}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "history"
    monkeypatch.setattr("blendmask_edge.storage.temporary.os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        append(folder, make_run(1))
    assert list(folder.iterdir()) == []


def spoiled(spoil: Any) -> bytes:
    document: Dict[str, Any] = msgspec.to_builtins(make_run(1))
    spoil(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a valid record"),
        (b"{}", "not a valid record"),
        (b"[]", "not a valid record"),
        (spoiled(lambda run: run.update(schema_version=2)), r"schema version 2, this release reads 1\. Upgrade"),
        (spoiled(lambda run: run.update(schema_version=0)), r"schema version 0, .*Measure again"),
        (spoiled(lambda run: run.pop("record")), "not a valid record"),
        (spoiled(lambda run: run["record"].update(metrics="many")), "not a valid record"),
    ],
)
def test_an_unsound_record_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    append(tmp_path, make_run(2))
    (tmp_path / "other.json").write_bytes(data)
    with pytest.raises(BaselineError, match=message) as caught:
        read_history(tmp_path)
    assert "other.json" in str(caught.value)


def test_a_folder_without_records_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"holds no record.*--record DIR"):
        read_history(tmp_path)


def test_a_place_that_cannot_hold_records_is_refused_early(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    check_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="does not exist"):
        check_folder(tmp_path / "no" / "such")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux")
@pytest.mark.parametrize("folder", ["/proc/history", "/proc/self"])
def test_a_folder_that_takes_no_file_is_refused_early(folder: str) -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        check_folder(folder)


def test_the_commit_is_that_of_the_pipeline_or_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_SHA", "CI_COMMIT_SHA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert this_commit() == ""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        if subprocess.run(["git", *words], check=False, capture_output=True).returncode:
            pytest.skip("git is not usable here")
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert this_commit() == head[:12]
    monkeypatch.setenv("CI_COMMIT_SHA", "f" * 40)
    assert this_commit() == "f" * 12
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI_COMMIT_SHA")
    assert this_commit() == ""
