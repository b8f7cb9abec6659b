"""Clocks, temperature, power and power mode of a device while it works, from the tools that its system has.

`nvidia-smi` on a desktop, `tegrastats` and `nvpmodel` on a Jetson, the kernel's own files on any Linux.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Sequence, Type

import numpy as np

Reading = Dict[str, float]

_SMI_FIELDS = {
    "clocks.sm": "gpu_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "temperature.gpu": "gpu_temperature_c",
    "power.draw": "power_w",
    "utilization.gpu": "gpu_load_percent",
    "memory.used": "gpu_memory_mib",
}
_SMI = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits", "-l", "1"]
_SMI_POWER = [
    "nvidia-smi",
    "-i",
    "0",
    "--query-gpu=power.limit,clocks.max.sm,persistence_mode",
    "--format=csv,noheader",
]
_TEGRASTATS = ["tegrastats", "--interval", "1000"]
_NVPMODEL = ["nvpmodel", "-q"]
_TEGRA_PATTERNS = {
    "gpu_load_percent": re.compile(r"GR3D_FREQ (\d+)%"),
    "gpu_clock_mhz": re.compile(r"GR3D_FREQ \d+%@\[?(\d+)"),
    "memory_clock_mhz": re.compile(r"EMC_FREQ \d+%@(\d+)"),
    "gpu_temperature_c": re.compile(r"\bgpu@([\d.]+)C", re.IGNORECASE),
    "cpu_temperature_c": re.compile(r"\bcpu@([\d.]+)C", re.IGNORECASE),
    "power_mw": re.compile(r"\b(?:VDD_IN|POM_5V_IN|VIN_SYS_5V0) (\d+)(?:mW)?/"),
}
_CPU_CLOCK = "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
_ZONES = "class/thermal/thermal_zone*/temp"
_TOOL_SECONDS = 10


def parse_nvidia_smi(line: str) -> Reading:
    """Return the numbers of one line of `nvidia-smi --query-gpu`; fields that the GPU does not have are left out."""
    reading = {}
    for name, text in zip(_SMI_FIELDS.values(), line.split(",")):
        with contextlib.suppress(ValueError):
            reading[name] = float(text)
    return reading


def parse_tegrastats(line: str) -> Reading:
    """Return the numbers of one line of `tegrastats`; their names changed with JetPack, unknown ones are left out."""
    reading = {
        name: float(match[1]) for name, pattern in _TEGRA_PATTERNS.items() for match in [pattern.search(line)] if match
    }
    if "power_mw" in reading:
        reading["power_w"] = reading.pop("power_mw") / 1000
    return reading


def read_kernel(root: Path = Path("/sys")) -> Reading:
    """Return the clock of the first core and the highest temperature that the kernel shows."""
    reading: Reading = {}
    with contextlib.suppress(OSError, ValueError):
        reading["cpu_clock_mhz"] = int((root / _CPU_CLOCK).read_text()) / 1000
    temperatures = []
    for zone in root.glob(_ZONES):
        with contextlib.suppress(OSError, ValueError):
            temperatures.append(int(zone.read_text()) / 1000)
    if temperatures:
        reading["hottest_zone_c"] = max(temperatures)
    return reading


def power_state() -> Dict[str, str]:
    """Return the power mode of a Jetson, and the power limit and highest clock of another GPU, by name."""
    state: Dict[str, str] = {}
    mode = re.search(r"NV Power Mode: *(\S+)", _output(_NVPMODEL))
    if mode:
        state["power mode"] = mode[1]
    limits = _output(_SMI_POWER).strip().splitlines()
    if limits and limits[0].count(",") == 2:
        names = ("power limit", "highest GPU clock", "persistence mode")
        state.update({name: text.strip() for name, text in zip(names, limits[0].split(",")) if "N/A" not in text})
    return state


def _output(command: Sequence[str]) -> str:
    """Return what a tool prints; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return done.stdout if done.returncode == 0 else ""


class StateRecorder:
    """Records the state of the device each second, from `__enter__` to `__exit__`."""

    def __init__(self, interval: float = 1.0, kernel: Callable[[], Reading] = read_kernel) -> None:
        """Take the seconds between two readings of the kernel, and how it is read."""
        self._interval, self._kernel = interval, kernel
        self._stop = threading.Event()
        self._readings: List[Reading] = []
        self._threads: List[threading.Thread] = []
        self._tools: List[subprocess.Popen[str]] = []

    def __enter__(self) -> StateRecorder:
        """Start the tools that are there."""
        self._start(self._poll_kernel)
        for command, parse in ((_SMI, parse_nvidia_smi), (_TEGRASTATS, parse_tegrastats)):
            if shutil.which(command[0]):
                with contextlib.suppress(OSError):
                    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                    self._tools.append(tool)
                    self._start(self._follow, tool, parse)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Stop the tools."""
        self._stop.set()
        for tool in self._tools:
            tool.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                tool.wait(_TOOL_SECONDS)
        for thread in self._threads:
            thread.join(_TOOL_SECONDS)

    def summary(self) -> Dict[str, float]:
        """Return `NAME_min`, `NAME_median` and `NAME_max` of each number that was read, such as `gpu_clock_mhz`."""
        names = sorted({name for reading in self._readings for name in reading})
        summed: Dict[str, float] = {}
        for name in names:
            values = [reading[name] for reading in self._readings if name in reading]
            parts = {"min": min(values), "median": float(np.median(values)), "max": max(values)}
            summed.update({f"{name}_{part}": round(value, 1) for part, value in parts.items()})
        return summed

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _poll_kernel(self) -> None:
        while True:
            reading = self._kernel()
            if reading:
                self._readings.append(reading)
            if self._stop.wait(self._interval):
                return

    def _follow(self, tool: subprocess.Popen[str], parse: Callable[[str], Reading]) -> None:
        for line in tool.stdout or ():
            reading = parse(line)
            if reading:
                self._readings.append(reading)
