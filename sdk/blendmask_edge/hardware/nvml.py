"""Energy of an NVIDIA GPU, which its driver counts from Volta on (NVML, through ctypes)."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint, c_ulonglong, c_void_p
from typing import Any, Optional

LIBRARY_NAME = "libnvidia-ml.so.1"
_MILLI = 1e-3


class GpuCounter:
    """Counter of the first GPU of the driver.

    Raises:
        OSError: there is no driver, no GPU, or the GPU counts no energy.
    """

    def __init__(self) -> None:
        """Open the library and read the counter once."""
        self._library: Any = ctypes.CDLL(LIBRARY_NAME)
        self._handle = c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(0), byref(self._handle))
        self.read()

    def read(self) -> float:
        """Return joules since the driver was loaded."""
        millijoules = c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, byref(millijoules))
        return millijoules.value * _MILLI

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            status = getattr(self._library, name)(*arguments)
        except AttributeError as error:
            raise OSError(f"{LIBRARY_NAME} has no {name}") from error
        if status:
            raise OSError(f"{name} returned {status}")


def open_gpu_counter() -> Optional[GpuCounter]:
    """Return the counter of the first GPU; None where there is none."""
    try:
        return GpuCounter()
    except OSError:
        return None
