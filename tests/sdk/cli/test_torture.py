"""Each call to the file system fails, or the process is killed there, in each command that writes files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from tests.sdk.bundle.signing_keys import write_keys
from tests.sdk.storage.faults import die, each_fault, injected

pytest.importorskip("onnxruntime")
pytest.importorskip("cryptography")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="forks")]
OLDER = b"older"
COMMANDS: Dict[str, List[str]] = {
    "sign": ["sign", "BUNDLE", "--key", "KEY", "-o", "OUT/signed.bmz"],
    "predict": ["predict", "BUNDLE", "IMAGES/a.png", "-o", "OUT", "--runtime", "onnxruntime", "--threads", "1"],
    "compare": ["compare", "BUNDLE:cpu", "BUNDLE:float", "--images", "IMAGES", "-o", "OUT/changes.html",
                "--runtime", "onnxruntime", "--threads", "1"],
    "report": ["report", "BUNDLE", "-o", "OUT/page.md"],
}  # fmt: skip


class Command:
    """A command line, and the folder that it writes into."""

    def __init__(self, words: List[str], places: Dict[str, Path]) -> None:
        for name, path in places.items():
            words = [word.replace(name, str(path)) for word in words]
        self.words, self.folder = words, places["OUT"]

    def run(self) -> Any:
        return CliRunner().invoke(app, self.words)

    def files(self) -> Dict[str, bytes]:
        return {path.name: path.read_bytes() if path.is_file() else b"" for path in self.folder.iterdir()}

    def kill_at(self, number: int) -> int:
        """Run it in a process that ends at a call to the file system; return its exit code."""
        child = os.fork()
        if not child:
            with injected(number, die):
                self.run()
            os._exit(1)
        return os.WEXITSTATUS(os.waitpid(child, 0)[1])


@pytest.fixture(params=list(COMMANDS))
def command(request: pytest.FixtureRequest, bundle_path: Path, tmp_path: Path) -> Command:
    places = {"BUNDLE": bundle_path, "IMAGES": tmp_path / "images", "OUT": tmp_path / "out"}
    places["IMAGES"].mkdir()
    places["OUT"].mkdir()
    cv2.imwrite(str(places["IMAGES"] / "a.png"), np.full((32, 48, 3), 230, np.uint8))
    return Command(COMMANDS[request.param], {**places, "KEY": write_keys(tmp_path, "maker")[0]})


def test_output_is_older_or_new_and_the_failure_one_message(command: Command) -> None:
    assert command.run().exit_code == 0
    new = command.files()
    assert new
    for number in each_fault(command.run):
        for name in new:
            (command.folder / name).write_bytes(OLDER)
        with injected(number):
            result = command.run()
        # Jinja says in its own words that the templates of this package cannot be read.
        is_ours = result.exception is None or isinstance(result.exception, SystemExit)
        assert is_ours or "templates" in str(result.exception), result.exception
        written = command.files()
        assert all(written[name] in (OLDER, new[name]) for name in new)
    assert command.run().exit_code == 0
    assert command.files() == new


def test_next_run_takes_over_what_killed_ones_left(command: Command) -> None:
    assert command.run().exit_code == 0
    new = command.files()
    killed = 0
    for number in each_fault(command.run):
        killed += command.kill_at(number) == 9
        written = command.files()
        assert all(written[name] == data for name, data in new.items())
    assert killed > 5
    assert command.run().exit_code == 0
    assert command.files() == new
