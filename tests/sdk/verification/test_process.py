"""A part that crashes, hangs or says nothing becomes a row with the reason, and takes nothing with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Sequence

import cv2
import numpy as np
import pytest

from blendmask_edge import require_signature, sign_bundle
from blendmask_edge.verification.job import PARTS_FOLDER, Job
from blendmask_edge.verification.process import launch, run_command
from blendmask_edge.verification.report import Row
from blendmask_edge.verification.routes import ROUTES, Route
from blendmask_edge.verification.run import Request, verify_device
from tests.processes import is_running, wait_for
from tests.sdk.bundle.signing_keys import write_keys

Run = Callable[..., Row]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a program as a part."""
    (tmp_path / PARTS_FOLDER).mkdir()
    job = Job(
        bundle="m.bmz", bundle_sha256="", target="x86", images="images", annotations=None, data_sha256="",
        folder=str(tmp_path),
    )  # fmt: skip

    def ran(program: str, limit: float = 60, by: Sequence[str] = (sys.executable, "-c")) -> Row:
        return run_command([*by, program], job, ROUTES[0], "soak", limit)

    return ran


def test_crash_is_a_row_with_the_signal_and_the_last_line(run: Run) -> None:
    row = run("import os, sys; print('about to load'); sys.stdout.flush(); os.kill(os.getpid(), 11)")
    assert (row.status, row.route, row.part) == ("failed", "cpu-int8", "soak")
    assert "signal 11 (SIGSEGV)" in row.reason
    assert row.reason.endswith("Its last line: about to load")
    assert "same command again" in row.next


def test_traceback_is_a_row_with_its_last_line(run: Run) -> None:
    assert "exit code 1. Its last line: RuntimeError: no room" in run("raise RuntimeError('no room')").reason


def test_part_that_hangs_is_killed_with_what_it_started(run: Run, tmp_path: Path) -> None:
    row = run(f"sleep 600 & echo $! > {tmp_path}/pid; wait", limit=1, by=["sh", "-c"])
    assert "longer than 1 seconds" in row.reason
    assert "--limit" in row.reason
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_running(pid))


def test_part_that_leaves_no_row_is_a_failed_row(run: Run) -> None:
    assert run("pass").status == "failed"


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is of Linux")
def test_part_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    """As by a lost connection: what goes on unseen would disturb the times of the next call."""
    part = (
        "import os, sys, time; from blendmask_edge.verification.process import end_with; end_with(int(sys.argv[1])); "
        f"open({str(tmp_path / 'part')!r}, 'w').write(str(os.getpid())); os.rename({str(tmp_path / 'part')!r}, "
        f"{str(tmp_path / 'pid')!r}); time.sleep(600)"
    )
    command = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {part!r}, str(os.getpid())])"
    with subprocess.Popen(
        [sys.executable, "-c", command], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ) as killed:
        wait_for((tmp_path / "pid").is_file)
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        killed.kill()
    wait_for(lambda: not is_running(pid))


@pytest.mark.slow
@pytest.mark.usefixtures("no_driver")
def test_required_signature_is_required_in_the_process_of_each_part(bundle_path: Path, tmp_path: Path) -> None:
    """The file may be replaced after the first look at its signature."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("cryptography")
    signed, images = tmp_path / "signed.bmz", tmp_path / "images"
    private, public = write_keys(tmp_path, "maker")
    sign_bundle(bundle_path, private, signed)
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.full((32, 48, 3), 230, np.uint8))

    def launch_after_a_change(job: Job, route: Route, part: str, limit: float) -> Row:
        signed.write_bytes(bundle_path.read_bytes())
        return launch(job, route, part, limit)

    request = Request(signed, images, None, tmp_path / "out", routes=["cpu-int8"], frames=1, soak_seconds=0.0)
    with require_signature(public):
        outcome = verify_device(request, launch_after_a_change)
    row = outcome.report.row("cpu-int8", "measure")
    assert row is not None
    assert row.status == "failed"
    assert "is not signed, and a signature is required" in row.reason
