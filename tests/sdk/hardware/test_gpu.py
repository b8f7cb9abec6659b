"""The GPU is asked of the driver, and nothing is raised where there is none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from blendmask_edge.hardware.gpu import find_gpu


class FakeCuda:
    """A driver library with one GPU; `init` and `device` are the states that it returns."""

    def __init__(self, init: int = 0, device: int = 0) -> None:
        self._init, self._device = init, device

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self._init

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 40 + number
        return self._device

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        assert device.value == 40
        name.value = b"Orin NX"[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        assert device.value == 40
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0

    def cuDriverGetVersion(self, value: Any) -> int:
        value._obj.value = 12060
        return 0


def test_name_capability_and_driver_are_read() -> None:
    gpu = find_gpu(lambda name: FakeCuda() if name == "libcuda.so.1" else None)
    assert gpu is not None
    assert (gpu.name, gpu.sm) == ("Orin NX", "8.7")
    assert re.fullmatch(r"12\.6/.+", gpu.driver)


@pytest.mark.parametrize("states", [{"init": 100}, {"device": 101}])
def test_a_driver_without_a_gpu_gives_none(states: Any) -> None:
    assert find_gpu(lambda _: FakeCuda(**states)) is None


def test_no_driver_gives_none() -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert find_gpu(load) is None
