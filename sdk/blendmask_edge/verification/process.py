"""Run a part in a process of its own, so that a crash, a leak or a hang of one leaves the others alone.

python -m blendmask_edge.verification.process ROUTE PART JOB PARENT
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

import msgspec

from blendmask_edge.bundle.signature import require_signature
from blendmask_edge.errors import BlendMaskError
from blendmask_edge.verification.job import Job, decode_job, encode_job, write_json
from blendmask_edge.verification.parts import PARTS
from blendmask_edge.verification.report import FAILED, Row
from blendmask_edge.verification.routes import Route, find_route

_TOLD = 400
_SIGNAL_AT_END_OF_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_NEXT = "Run the same command again: it repeats this part and keeps the others."


def run_part(job: Job, route: Route, part: str) -> Row:
    """Run a part in this process; an error of ours becomes its row."""
    start = time.perf_counter()
    try:
        row = PARTS[part](job, route)
    except BlendMaskError as error:
        row = Row(route=route.name, part=part, status=FAILED, reason=str(error), next=_NEXT)
    return msgspec.structs.replace(row, seconds=round(time.perf_counter() - start, 2))


def launch(job: Job, route: Route, part: str, limit_seconds: float) -> Row:
    """Run a part in a process of its own, and return its row; one that ends otherwise becomes a failed row.

    Args:
        job: what to do.
        route, part: on which, and which.
        limit_seconds: after which the process and all that it started are killed.
    """
    command = [sys.executable, "-m", __name__, route.name, part, encode_job(job), str(os.getpid())]
    return run_command(command, job, route, part, limit_seconds)


def run_command(command: List[str], job: Job, route: Route, part: str, limit_seconds: float) -> Row:
    """Run a command that leaves the row of a part, as `launch` does."""
    path, start = job.part_file(route.name, part), time.perf_counter()
    path.unlink(missing_ok=True)
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: Optional[int] = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(process)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        if code == 0:
            return msgspec.json.decode(path.read_bytes(), type=Row)
    reason = _ending(code, limit_seconds) + _last_words(path.with_suffix(".log"))
    seconds = round(time.perf_counter() - start, 2)
    return Row(route=route.name, part=part, status=FAILED, reason=reason, next=_NEXT, seconds=seconds)


def end_with(parent: int) -> None:
    """Let this process end with its parent, lest a part goes on unseen and disturbs the next call.

    A parent that is interrupted ends its part itself; one that is killed, or loses its terminal, cannot. The kernel is
    asked, since a part may hang in a library that lets no thread of Python run. Children of multiprocessing watch their
    parent in a thread (`execution.worker.start`): the kernel's signal would come as soon as the thread that started
    them ends, which a pool of processes may outlive.
    """
    with contextlib.suppress(OSError, AttributeError):  # of systems without the call
        ctypes.CDLL(None).prctl(_SIGNAL_AT_END_OF_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started, which has its process group."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: Optional[int], limit_seconds: float) -> str:
    if code is None:
        return f"It took longer than {limit_seconds:g} seconds and was stopped; give it more with --limit."
    if code < 0:
        return f"The process was killed by signal {-code} ({signal.Signals(-code).name})."
    return f"The process ended with exit code {code}."


def _last_words(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return f" Its last line: {lines[-1].strip()[:_TOLD]}" if lines else ""
    return ""


def main(words: List[str]) -> None:
    """Run a part in this process, and leave its row beside the report.

    Args:
        words: route, part, job and process of the command, as `launch` passes them.
    """
    route, part, text, parent = words
    end_with(int(parent))
    job = decode_job(text)
    with require_signature(job.public_keys) if job.public_keys else contextlib.nullcontext():
        row = run_part(job, find_route(route), part)
    write_json(job.part_file(route, part), row)


if __name__ == "__main__":
    main(sys.argv[1:])
