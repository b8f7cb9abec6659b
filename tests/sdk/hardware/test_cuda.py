"""The driver tells of its GPU; memory goes there and back, and all of it is released."""

from __future__ import annotations

import re
import threading
from typing import List

import numpy as np
import pytest

from blendmask_edge import ClosedError, InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import Device, driver_present, find_gpu
from tests.sdk.runtimes.fake_cuda import NO_DEVICE, OUT_OF_MEMORY, FakeDriver


@pytest.mark.usefixtures("driver")
def test_what_is_uploaded_comes_back_once_the_stream_is_done() -> None:
    device = Device()
    buffer = device.allocate((2, 3), "float32")
    buffer.array[...] = np.arange(6).reshape(2, 3)
    device.upload(buffer)
    device.synchronize()
    buffer.array[...] = 0
    device.download(buffer)
    assert buffer.array.sum() == 0
    device.synchronize()
    np.testing.assert_array_equal(buffer.array, np.arange(6).reshape(2, 3))
    device.close()


def test_closing_gives_everything_back_once(driver: FakeDriver) -> None:
    device = Device()
    device.allocate((4,), "int32")
    device.allocate((5,), "uint8")
    assert sorted(map(len, driver.device.values())) == [5, 16]
    device.close()
    device.close()
    assert driver.is_clean()
    with pytest.raises(ClosedError):
        device.allocate((1,), "uint8")


def test_another_thread_can_use_and_close_the_device(driver: FakeDriver) -> None:
    device = Device()
    buffer = device.allocate((1,), "uint8")
    failures: List[BaseException] = []

    def work() -> None:
        try:
            device.activate()
            device.upload(buffer)
            device.synchronize()
            device.close()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
    assert driver.is_clean()


def test_short_memory_is_told_and_leaves_nothing_behind(driver: FakeDriver) -> None:
    device = Device()
    driver.failures["cuMemAlloc_v2"] = [OUT_OF_MEMORY]
    with pytest.raises(InferenceError, match=r"cuMemAlloc_v2: out of memory \(CUDA error 2\).*Free GPU memory"):
        device.allocate((4,), "int32")
    device.close()
    assert driver.is_clean()


def test_device_that_half_opened_is_released(driver: FakeDriver) -> None:
    driver.failures["cuStreamCreate"] = [OUT_OF_MEMORY]
    with pytest.raises(InferenceError, match="cuStreamCreate"):
        Device()
    assert driver.is_clean()


def test_driver_without_a_gpu_is_told_with_the_next_step(driver: FakeDriver) -> None:
    driver.failures["cuInit"] = [NO_DEVICE]
    with pytest.raises(RuntimeUnavailableError, match=r'no CUDA-capable device.*--gpus all.*runtime="onnxruntime"'):
        Device()


@pytest.mark.usefixtures("no_driver")
def test_missing_driver_is_told_with_the_next_step() -> None:
    assert not driver_present()
    with pytest.raises(RuntimeUnavailableError, match=r'libcuda.so.1.*No such file.*runtime="onnxruntime"'):
        Device()


@pytest.mark.usefixtures("driver")
def test_name_capability_and_driver_are_read() -> None:
    gpu = find_gpu()
    assert gpu is not None
    assert (gpu.name, gpu.sm) == ("Orin NX", "8.7")
    assert re.fullmatch(r"12\.6/.+", gpu.driver)


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet"])
def test_a_driver_without_a_gpu_gives_none(call: str, driver: FakeDriver) -> None:
    driver.failures[call] = [NO_DEVICE]
    assert find_gpu() is None


@pytest.mark.usefixtures("no_driver")
def test_no_driver_gives_none() -> None:
    assert find_gpu() is None
