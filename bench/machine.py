"""What a measurement was made on, without naming the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Processor features that decide how fast INT8 arithmetic is."""
PACKAGES = ("blendmask-edge", "numpy", "opencv-python-headless", "onnxruntime", "torch")


def machine_record() -> dict[str, Any]:
    """Processor, cores that this process may use, its INT8 features, memory, operating system and package versions.

    Facts that the system does not tell are left out or empty; no host name, user name or path is recorded.
    """
    processor = _fields(Path("/proc/cpuinfo"))
    flags = (processor.get("flags") or processor.get("Features") or "").split()
    return {
        "cpu": processor.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gb": _memory_gb(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": _versions(),
    }


def _fields(path: Path) -> dict[str, str]:
    """The first value of each `name : value` line."""
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    fields: dict[str, str] = {}
    for name, _, value in pairs:
        fields.setdefault(name.strip(), value.strip())
    return fields


def _memory_gb() -> float | None:
    total = _fields(Path("/proc/meminfo")).get("MemTotal", "")
    return round(int(total.split()[0]) / 1024**2, 1) if total else None


def _versions() -> dict[str, str]:
    installed = {found.metadata["Name"].lower(): found.version for found in importlib.metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
