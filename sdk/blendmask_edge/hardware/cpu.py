"""The properties of a processor on which the speed and the arithmetic of a graph depend."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Dict, List

_CPU_INFO = Path("/proc/cpuinfo")
# x86 names the model; ARM gives the numbers of its maker and of the core.
_CPU_FIELDS = ("model name", "CPU implementer", "CPU part")
_X86 = ("x86_64", "amd64", "i686", "i386")
_EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Flags of x86 processors that multiply and add INT8 values in 32 bits."""


def processor() -> str:
    """Return architecture, model and usable cores as one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()} {_cpu_model()}, {cores} cores"


@functools.lru_cache(maxsize=None)
def saturates_int8() -> bool:
    """Return whether the INT8 instructions of this processor may saturate.

    Without VNNI, x86 adds pairs of products of uint8 and int8 in 16 bits: 255 * 127 * 2 is cut to 32767, and nothing
    tells. Where the system does not list the instructions, they are taken as missing.

    Source: ONNX Runtime, "Quantize ONNX models", section on reduced range.
    """
    if platform.machine().lower() not in _X86:
        return False
    flags = " ".join(line for line in _cpu_lines() if line.startswith("flags")).split()
    return not any(flag in flags for flag in _EXACT)


def _cpu_lines() -> List[str]:
    try:
        return _CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _cpu_model() -> str:
    fields: Dict[str, str] = {}
    for line in _cpu_lines():
        name, _, value = line.partition(":")
        if name.strip() in _CPU_FIELDS:
            fields.setdefault(name.strip(), value.strip())
    return " ".join(fields.values()) or platform.processor()
