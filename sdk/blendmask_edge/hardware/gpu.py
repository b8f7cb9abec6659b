"""The GPU of this machine, asked of the CUDA driver itself: no CUDA package is needed."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

_DRIVER_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 128
_MODULE_VERSION = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, compute capability ("8.7") and driver, as CUDA version and release ("12.6/540.3.0")."""

    name: str
    sm: str
    driver: str


def find_gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Optional[Gpu]:
    """Return the first GPU that the CUDA driver shows, or None without a driver or a GPU.

    No GPU has run this function yet; its calls follow the CUDA driver API and are tested against a stand-in.

    Args:
        load: opens a shared library by name.
    """
    try:
        cuda = load(_DRIVER_LIBRARY)
    except OSError:
        return None
    device = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    sm = f"{_attribute(cuda, _MAJOR, device)}.{_attribute(cuda, _MINOR, device)}"
    return Gpu(name.value.decode(errors="replace"), sm, f"{_cuda_version(cuda)}/{_release()}")


def _attribute(cuda: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _cuda_version(cuda: Any) -> str:
    value = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(value))
    return f"{value.value // 1000}.{value.value % 1000 // 10}"


def _release() -> str:
    """Older Jetsons have the driver in their kernel, whose release then stands for it."""
    try:
        return _MODULE_VERSION.read_text().strip()
    except OSError:
        return platform.release()
