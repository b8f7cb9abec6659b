"""Clocks, temperatures and power modes are read from what the tools print; recorded answers stand in for a device."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable

import pytest

from blendmask_edge.verification.state import (
    StateRecorder,
    parse_nvidia_smi,
    parse_tegrastats,
    power_state,
    read_kernel,
)
from tests.sdk.verification import recorded

Tool = Callable[[str, str], None]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Return a function that puts a command on the path, and nothing else of NVIDIA's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put


def test_nvidia_smi_is_read_and_what_the_gpu_lacks_is_left_out() -> None:
    assert parse_nvidia_smi(recorded.NVIDIA_SMI) == {
        "gpu_clock_mhz": 1410, "memory_clock_mhz": 7000, "gpu_temperature_c": 61, "power_w": 143.27,
        "gpu_load_percent": 98, "gpu_memory_mib": 2215,
    }  # fmt: skip
    assert set(parse_nvidia_smi(recorded.NVIDIA_SMI_WITHOUT_POWER)) == {
        "gpu_clock_mhz", "memory_clock_mhz", "gpu_temperature_c", "gpu_memory_mib",
    }  # fmt: skip
    assert parse_nvidia_smi("NVIDIA-SMI has failed because it could not communicate with the driver") == {}


@pytest.mark.parametrize(
    "line, clock, memory, temperature, watts",
    [(recorded.TEGRASTATS_JETPACK_5, 624, 2133, 48.7, 6.217), (recorded.TEGRASTATS_JETPACK_6, 1007, 3199, 56.2, 14.92)],
)
def test_tegrastats_of_either_jetpack_is_read(
    line: str, clock: float, memory: float, temperature: float, watts: float
) -> None:
    reading = parse_tegrastats(line)
    assert (reading["gpu_clock_mhz"], reading["memory_clock_mhz"]) == (clock, memory)
    assert (reading["gpu_temperature_c"], reading["power_w"]) == (temperature, watts)
    assert "power_mw" not in reading


def test_kernel_gives_the_clock_and_the_hottest_zone(tmp_path: Path) -> None:
    clock = tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    clock.parent.mkdir(parents=True)
    clock.write_text("1510400\n")
    for number, text in enumerate(("48000", "56250", "broken")):
        zone = tmp_path / f"class/thermal/thermal_zone{number}/temp"
        zone.parent.mkdir(parents=True)
        zone.write_text(text)
    assert read_kernel(tmp_path) == {"cpu_clock_mhz": 1510.4, "hottest_zone_c": 56.25}
    assert read_kernel(tmp_path / "nothing") == {}


def test_recorder_sums_up_what_a_tool_prints_and_stops_it(tool: Tool, tmp_path: Path) -> None:
    tool("tegrastats", f"echo $$ > {tmp_path}/pid; echo '{recorded.TEGRASTATS_JETPACK_6.strip()}'; exec sleep 60")
    with StateRecorder(kernel=dict) as state:
        end = time.monotonic() + 20
        while not state.summary() and time.monotonic() < end:
            time.sleep(0.01)
    assert state.summary()["gpu_clock_mhz_median"] == 1007
    assert state.summary()["gpu_temperature_c_max"] == 56.2
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_power_mode_and_limits_are_told(tool: Tool) -> None:
    assert power_state() == {}
    tool("nvpmodel", f"printf '{recorded.NVPMODEL}'")
    tool("nvidia-smi", f"printf '{recorded.NVIDIA_SMI_POWER}'")
    assert power_state() == {
        "power mode": "MAXN_SUPER", "power limit": "200.00 W", "highest GPU clock": "2100 MHz",
        "persistence mode": "Enabled",
    }  # fmt: skip
    tool("nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert power_state() == {"power mode": "MAXN_SUPER"}
