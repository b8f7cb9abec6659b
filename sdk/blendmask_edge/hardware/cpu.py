"""The properties of a processor on which the speed of a graph depends."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Dict

_CPU_INFO = Path("/proc/cpuinfo")
# x86 names the model; ARM gives the numbers of its maker and of the core.
_CPU_FIELDS = ("model name", "CPU implementer", "CPU part")


def processor() -> str:
    """Return architecture, model and usable cores as one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()} {_cpu_model()}, {cores} cores"


def _cpu_model() -> str:
    try:
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    fields: Dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in _CPU_FIELDS:
            fields.setdefault(name.strip(), value.strip())
    return " ".join(fields.values())
