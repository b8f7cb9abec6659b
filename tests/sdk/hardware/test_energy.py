"""Energy is the difference of counters, also after one started again, or power times duration; without them, none."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blendmask_edge.benchmark.measure import measure
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.hardware import energy, jetson_power, nvml
from tests.sdk.scenes import FakePredictor, HandClock, Scenes


@pytest.fixture
def zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two packages, one of which has a zone below it."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (tmp_path / name).mkdir()
        count(tmp_path, name, 1_000_000)
        (tmp_path / name / "max_energy_range_uj").write_text("9000000\n")
    monkeypatch.setattr(energy, "_ZONES", tmp_path)
    return tmp_path


def count(zones: Path, name: str, microjoules: int) -> None:
    (zones / name / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_add_up_and_a_counter_may_start_again(zones: Path) -> None:
    before = energy.read_counters()
    count(zones, "intel-rapl:0", 3_000_000)
    count(zones, "intel-rapl:1", 500_000)
    count(zones, "intel-rapl:0:0", 8_000_000)
    assert energy.joules(before, energy.read_counters()) == pytest.approx(2.0 + 8.5)


@pytest.mark.parametrize("fault", ["none", "text"])
def test_without_readable_counters_there_is_no_energy(fault: str, zones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "none":
        monkeypatch.setattr(energy, "_ZONES", zones / "missing")
    else:
        (zones / "intel-rapl:1" / "energy_uj").write_text("?")
    assert energy.read_counters() == {}
    assert energy.joules({}, {}) is None


def test_a_run_has_the_energy_of_a_frame(zones: Path, scenes: Scenes, clock: HandClock) -> None:
    def reference() -> None:
        count(zones, "intel-rapl:0", energy.read_counters()["intel-rapl:0"][0] + 1000)

    images = AnnotatedImages.open(scenes.folder, scenes.annotations)
    measured = measure(FakePredictor(scenes, clock), images, reference, 12, clock, resamples=0, cpu_times=lambda: None)
    assert measured.metrics["energy_mj"] == pytest.approx(1.0)


class FakeNvml:
    """A driver whose GPU has used 5 J at the first reading, and 2 J more at each further one."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.joules = status, 3.0
        self.nvmlInit_v2 = self.nvmlDeviceGetHandleByIndex_v2 = lambda *_: 0

    def nvmlDeviceGetTotalEnergyConsumption(self, _handle: Any, millijoules: Any) -> int:
        self.joules += 2
        millijoules._obj.value = int(1000 * self.joules)
        return self.status


@pytest.fixture
def quiet_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that reports no energy, whatever runs the tests."""
    monkeypatch.setattr(energy, "_ZONES", tmp_path / "none")
    monkeypatch.setattr(jetson_power, "_MONITORS", tmp_path / "none")
    monkeypatch.setattr(nvml, "LIBRARY_NAME", str(tmp_path / "none.so"))


@pytest.mark.usefixtures("quiet_system")
def test_the_driver_counts_the_energy_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "ctypes", SimpleNamespace(CDLL=lambda _: FakeNvml()))
    with energy.EnergyMeter() as meter:
        pass
    assert meter.spent == {"gpu_energy_mj": pytest.approx(2.0)}


@pytest.mark.usefixtures("quiet_system")
@pytest.mark.parametrize("library", [FakeNvml(status=3), SimpleNamespace()], ids=["not supported", "no such function"])
def test_a_gpu_without_a_counter_is_left_out(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    with energy.EnergyMeter() as meter:
        pass
    assert meter.spent == {}


@pytest.mark.usefixtures("quiet_system")
@pytest.mark.parametrize("is_lost_before", [True, False])
def test_a_counter_that_is_lost_costs_no_measurement(is_lost_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml()
    monkeypatch.setattr(nvml, "ctypes", SimpleNamespace(CDLL=lambda _: driver))
    meter = energy.EnergyMeter()
    driver.status = 15 if is_lost_before else 0
    with meter:
        driver.status = 15  # the GPU is lost
    assert meter.spent == {}


@pytest.mark.usefixtures("quiet_system")
def test_without_a_driver_there_is_no_energy_of_a_gpu() -> None:
    with pytest.raises(OSError, match=r"none\.so"):
        ctypes.CDLL(nvml.LIBRARY_NAME)
    assert nvml.open_gpu_counter() is None


def rail(folder: Path, label: str, number: int = 1, millivolts: str = "5000", milliamperes: str = "2000") -> None:
    monitor = folder / "1-0040" / "hwmon" / "hwmon3"
    monitor.mkdir(parents=True, exist_ok=True)
    for name, text in (("in{}_label", label), ("in{}_input", millivolts), ("curr{}_input", milliamperes)):
        (monitor / name.format(number)).write_text(f"{text}\n")


@pytest.mark.usefixtures("quiet_system")
def test_the_power_of_a_jetson_is_that_of_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson_power, "_MONITORS", tmp_path)
    rail(tmp_path, "VDD_CPU_GPU_CV", 1)
    rail(tmp_path, "VDD_IN", 2)
    found = jetson_power.find_board_rail()
    assert found is not None
    assert jetson_power.watts(found) == pytest.approx(10.0)
    times = iter([100.0, 103.0])
    assert jetson_power.BoardMeter(found, lambda: next(times)).stop() == pytest.approx(30.0)
    with energy.EnergyMeter() as meter:
        pass
    assert meter.spent["board_energy_mj"] > 0


@pytest.mark.parametrize(("label", "volts"), [("VDD_SOC", "5000"), ("VDD_IN", "?")])
def test_a_board_without_a_readable_input_rail_is_left_out(
    label: str, volts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetson_power, "_MONITORS", tmp_path)
    rail(tmp_path, label, millivolts=volts)
    assert jetson_power.find_board_rail() is None
