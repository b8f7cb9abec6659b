"""Results that cannot be printed or written end in one message, whatever refuses them; a closed pipe ends quietly."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app, main

pytest.importorskip("onnxruntime")
LONG = "x" * 300
COMMANDS: List[Tuple[str, ...]] = [
    ("info", "BUNDLE"),
    ("info", "BUNDLE", "--json"),
    ("targets",),
    ("targets", "--json"),
    ("check", "BUNDLE", "--target", "x86"),
    ("check", "BUNDLE", "--target", "x86", "--json"),
    ("predict", "BUNDLE", "IMAGE", "-o", "OUT", "--runtime", "onnxruntime"),
    ("predict", "BUNDLE", "IMAGE", "-o", "OUT", "--runtime", "onnxruntime", "--json"),
    ("--version",),
    ("--help",),
]
NO_SPACE = "error: Cannot print to stdout: No space left on device.\n"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a red image."""
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((32, 48, 3), (0, 0, 255), np.uint8))
    return path


@pytest.fixture
def words(request: pytest.FixtureRequest, bundle_path: Path, image: Path, tmp_path: Path) -> List[str]:
    """Return a command of `COMMANDS` with its paths."""
    paths = {"BUNDLE": str(bundle_path), "IMAGE": str(image), "OUT": str(tmp_path / "out")}
    return [paths.get(word, word) for word in request.param]


def blendmask(words: List[str], stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE) -> Any:
    """Run the command line in a process of its own."""
    code = "from blendmask_edge.cli.app import main; main()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, stdout=stdout, stderr=stderr, text=True, check=False)


def end_of(words: List[str], stdout: int) -> object:
    """Run the command line in this process with another stdout; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["blendmask", *words])
        patch.setattr(sys, "stdout", os.fdopen(os.dup(stdout), "w"))
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Give a file on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as stream:
        yield stream.fileno()


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    """Give the end for writing of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", COMMANDS, indirect=True, ids=" ".join)
def test_what_cannot_be_printed_is_one_message(words: List[str], capfd: pytest.CaptureFixture[str]) -> None:
    with full() as stdout:
        assert end_of(words, stdout) == 1
    assert capfd.readouterr().err == NO_SPACE


@pytest.mark.parametrize("words", COMMANDS, indirect=True, ids=" ".join)
def test_a_closed_pipe_is_a_quiet_end(words: List[str], capfd: pytest.CaptureFixture[str]) -> None:
    with closed_pipe() as stdout:
        assert end_of(words, stdout) == 1
    assert capfd.readouterr().err == ""


def test_a_process_says_nothing_more_when_it_ends(bundle_path: Path) -> None:
    for stdout, said in ((full, NO_SPACE), (closed_pipe, "")):
        with stdout() as stream:
            done = blendmask(["info", str(bundle_path)], stream)
        assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("stderr", [full, closed_pipe])
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(stderr: Any, tmp_path: Path) -> None:
    with stderr() as stream:
        assert blendmask(["info", str(tmp_path / "no.bmz")], stderr=stream).returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ["info", LONG],
        ["check", LONG, "--target", "x86"],
        ["predict", LONG, "IMAGE"],
        ["predict", "BUNDLE", LONG],
        ["predict", "BUNDLE", f"{LONG}.mp4"],
        ["predict", "BUNDLE", "IMAGE", "-o", LONG],
        ["predict", "BUNDLE", "IMAGE", "-o", f"{LONG}/out"],
        ["bench", LONG, "--images", "DIR", "--annotations", "IMAGE"],
        ["bench", "BUNDLE", "--images", LONG, "--annotations", "IMAGE"],
        ["bench", "BUNDLE", "--images", "DIR", "--annotations", LONG],
        ["bench", "BUNDLE", "--images", "DIR", "--annotations", "IMAGE", "--baseline", LONG],
        ["bench", "BUNDLE", "--images", "DIR", "--annotations", "IMAGE", "--baseline", LONG, "--update-baseline"],
    ],
    ids=lambda words: " ".join(word[:12] for word in words),
)
def test_names_that_no_file_can_have_are_one_message(
    words: List[str], bundle_path: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {"BUNDLE": str(bundle_path), "IMAGE": str(image), "DIR": str(tmp_path)}
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, [paths.get(word, word) for word in words])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.output.count("error: ") == 1
    assert sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts) == before


def test_image_with_the_longest_name_gets_an_overlay(bundle_path: Path, image: Path, tmp_path: Path) -> None:
    named = image.rename(tmp_path / ("\u00fc" * 125 + ".png"))
    result = CliRunner().invoke(app, ["predict", str(bundle_path), str(named), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (overlay,) = (tmp_path / "out").glob("*.overlay.jpg")
    assert overlay.name.startswith("\u00fc" * 50)
