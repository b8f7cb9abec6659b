"""Waiting for other processes and threads."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable

_PATIENCE = 120


def wait_for(holds: Callable[[], Any]) -> None:
    """Wait until something holds; fail if that takes too long."""
    end = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.002)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
