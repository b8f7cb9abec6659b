"""The run folder: it never touches what it does not own, and only the same run goes on from it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from blendmask_edge.errors import CheckpointError, OutputError
from blendmask_quantize.runs.run_folder import RESUME_FILE, RunFolder

DIGEST = "f" * 64


def interrupt(run: RunFolder) -> None:
    """Leave the state of an unfinished run."""
    with contextlib.suppress(KeyboardInterrupt), run.active():
        (run.path / RESUME_FILE).touch()
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["m.bmz", "m.run", "m", "m.run.run"])
def test_the_folder_is_never_the_output_itself(tmp_path: Path, name: str) -> None:
    run = RunFolder.beside(tmp_path / name, "command")
    with run.active():
        (tmp_path / name).write_text("output")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_folder_of_a_failed_run_without_state_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError), RunFolder.beside(tmp_path / "m.bmz", "command").active():
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    run = RunFolder.beside(tmp_path / "m.bmz", "command")
    with run.active():
        (run.path / "notes.txt").touch()
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]


def test_an_interrupted_run_is_resumed_with_the_same_settings_only(tmp_path: Path) -> None:
    interrupt(RunFolder.beside(tmp_path / "m.bmz", "command", {"seed": 1, "data": DIGEST}))
    RunFolder.beside(tmp_path / "m.bmz", "command", {"seed": 1, "data": DIGEST}).check(resume=True)
    changes = [({"seed": 2, "data": DIGEST}, "seed 1 instead of 2"), ({"seed": 1, "data": "0" * 64}, "another data")]
    for settings, message in changes:
        with pytest.raises(CheckpointError, match=message):
            RunFolder.beside(tmp_path / "m.bmz", "command", settings).check(resume=True)


@pytest.mark.parametrize("command, resume, message", [("command", False, "--resume"), ("other", True, "`command`")])
def test_an_interrupted_run_is_not_overwritten(tmp_path: Path, command: str, resume: bool, message: str) -> None:
    interrupt(RunFolder.beside(tmp_path / "m.bmz", "command"))
    with pytest.raises(CheckpointError, match=message):
        RunFolder.beside(tmp_path / "m.bmz", command).check(resume=resume)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.run").touch()
    with pytest.raises(OutputError, match="is a file"):
        RunFolder.beside(tmp_path / "m.bmz", "command").check(resume=False)


def test_a_folder_that_is_the_output_stays_with_its_result_and_without_its_state(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a/run", "command", result="model")
    with run.active():
        for name in (RESUME_FILE, "model", "log.csv"):
            (run.path / name).touch()
    assert sorted(path.name for path in run.path.iterdir()) == ["log.csv", "model", "run.json"]
    with pytest.raises(CheckpointError, match=r"finished run: name another --output; .*--weights .*model$"):
        run.check(resume=True)


def test_only_the_owner_removes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", "command", result="model")
    with run.active(lambda: False):
        (run.path / RESUME_FILE).touch()
    assert (run.path / RESUME_FILE).exists()
