"""The hardware of a measurement, without the name of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Dict, List, Optional

import msgspec

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Processor features that decide how fast INT8 arithmetic is."""
PACKAGES = ("blendmask-edge", "numpy", "opencv-python-headless", "opencv-python", "onnxruntime", "openvino", "torch")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Processor, cores that the process may use, INT8 features, memory, operating system and package versions.

    Facts that the system does not tell are left out or empty; no host name, user name or path is recorded.
    """

    cpu: str
    architecture: str
    cores: int
    flags: List[str]
    memory_gb: Optional[float] = None
    system: str
    python: str
    packages: Dict[str, str] = {}

    def difference(self, other: Machine) -> List[str]:
        """Return what makes times on the two machines incomparable, in words; nothing where they may be compared.

        Versions are left out: a slower release of a runtime is what a gate is to find.
        """
        pairs = {
            name: (getattr(self, name), getattr(other, name)) for name in ("cpu", "architecture", "cores", "flags")
        }
        return [f"{name} {mine}, not {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


def this_machine() -> Machine:
    """Describe the machine that this process runs on."""
    processor = _fields(Path("/proc/cpuinfo"))
    flags = (processor.get("flags") or processor.get("Features") or "").split()
    return Machine(
        cpu=processor.get("model name") or _board() or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=usable_cores(),
        flags=[flag for flag in FLAGS if flag in flags],
        memory_gb=_memory_gb(),
        system=platform.system(),
        python=platform.python_version(),
        packages=_versions(),
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _board() -> str:
    """Name of an ARM board, whose processors do not tell theirs."""
    path = Path("/proc/device-tree/model")
    return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n") if path.is_file() else ""


def _fields(path: Path) -> Dict[str, str]:
    """First value of each `name : value` line."""
    fields: Dict[str, str] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    return fields


def _memory_gb() -> Optional[float]:
    total = _fields(Path("/proc/meminfo")).get("MemTotal", "")
    return round(int(total.split()[0]) / 1024**2, 1) if total else None


def _versions() -> Dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
