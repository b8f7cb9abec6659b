"""Run by test_cuda_driver.py in a process of its own, on the compiled driver and under AddressSanitizer.

    python scenarios.py SCENARIO

prints what happened as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List

import numpy as np

from blendmask_edge import BlendMaskError
from blendmask_edge.hardware.cuda import LIBRARY_NAME, Device, first_gpu

OUT_OF_MEMORY = 2
_MOST_CALLS = 200


class Driver:
    """The compiled driver, through the functions that it has for tests."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(LIBRARY_NAME)
        self.library.control_failed.restype = self.library.control_misuse.restype = ctypes.c_char_p
        self.library.control_memory.restype = ctypes.c_void_p
        self.kernels: List[Any] = []

    def enqueue(self, stream: int, work: Callable[[], None]) -> bool:
        """Give a kernel to the stream, as an engine does."""
        self.kernels.append(ctypes.CFUNCTYPE(None)(work))
        return self.library.control_enqueue(ctypes.c_void_p(stream), self.kernels[-1]) == 0

    def host_address(self, address: int, size: int) -> int:
        """Where the bytes of a tensor on the device lie."""
        found = self.library.control_memory(ctypes.c_uint64(address), ctypes.c_size_t(size))
        assert found
        return int(found)


def copy_there_and_back() -> None:
    """What a session does: allocate, upload, compute, download, close."""
    device = Device()
    try:
        buffers = [device.allocate((2, 3), "float32"), device.allocate((7,), "uint8")]
        for buffer in buffers:
            buffer.array[...] = 5
            device.upload(buffer)
        device.synchronize()
        for buffer in buffers:
            buffer.array[...] = 0
            device.download(buffer)
        device.synchronize()
        assert all((buffer.array == 5).all() for buffer in buffers)
    finally:
        device.close()


def run_an_engine(load: Callable[[], Any]) -> None:
    """What a user of the TensorRT runtime does: load, predict, close."""
    session = load()
    try:
        outputs = session.run(np.full(session.signature.inputs["image"].shape, 255, np.uint8))
        assert outputs.scores.tolist() == [[1, 1, 1, 0]]
    finally:
        session.close()


def on_tensorrt() -> Callable[[], Any]:
    """Return a function that loads an engine; a stand-in for TensorRT computes it in the memory of the driver."""
    from tests.sdk.runtimes.fake_tensorrt import ENGINE, make_module

    sys.modules["tensorrt"] = make_module(Driver(), "10.3.0")
    from blendmask_edge.runtimes.engines import engine_cache
    from blendmask_edge.runtimes.registry import SessionOptions
    from blendmask_edge.runtimes.tensorrt import session
    from tests.sdk.small_bundles import build_graph

    path, graph = engine_cache().write("a.engine", ENGINE), build_graph()
    session.compile_graph = lambda *_arguments, **_options: SimpleNamespace(path=path)  # type: ignore[assignment]
    return lambda: session.load(graph, SessionOptions())


def each_call_failing(work: Callable[[], Any]) -> List[Dict[str, Any]]:
    """Do work once for each of its driver calls, which then fails, alone or with all that follow; a record for each."""
    return [record for stays in (False, True) for record in _failing(work, stays)]


def _failing(work: Callable[[], Any], stays: bool) -> Iterator[Dict[str, Any]]:
    driver = Driver()
    for number in range(1, _MOST_CALLS):
        driver.library.control_start(number, OUT_OF_MEMORY, stays)
        message = ""
        try:
            work()
        except BlendMaskError as error:
            message = str(error)
        failed, misuse = (text().decode() for text in (driver.library.control_failed, driver.library.control_misuse))
        live = driver.library.control_live()
        yield {"call": failed, "stays": stays, "message": message, "live": live, "misuse": misuse}
        driver.library.control_recover()
        if not failed:
            return
    raise AssertionError("more calls than were expected")


def destroyed_context() -> Dict[str, Any]:
    """Close a device whose context other code has destroyed."""
    driver, device = Driver(), Device()
    buffer = device.allocate((4,), "int32")
    driver.library.control_destroy_context()
    messages = []
    for use in (lambda: device.upload(buffer), device.close, device.close):
        try:
            use()
            messages.append("")
        except BlendMaskError as error:
            messages.append(str(error))
    return {"messages": messages, "live": driver.library.control_live()}


def closed_in_the_middle() -> Dict[str, Any]:
    """Close a device while its stream still has work."""
    driver, device = Driver(), Device()
    driver.library.control_start(0, 0, False)
    device.upload(device.allocate((4,), "int32"))
    device.close()
    return {"misuse": driver.library.control_misuse().decode(), "live": driver.library.control_live()}


def leak() -> None:
    """Never close a device: the sanitizer must see it."""
    Device().allocate((1000,), "uint8")


def double_free() -> None:
    """Free memory twice: the sanitizer must see it."""
    device = Device()
    address = device.allocate((8,), "uint8").address
    for _ in range(2):
        Driver().library.cuMemFree_v2(ctypes.c_uint64(address))


def use_after_close() -> None:
    """Copy from memory that was freed: the sanitizer must see it."""
    driver, device = Driver(), Device()
    buffer = device.allocate((8,), "uint8")
    target = driver.host_address(buffer.address, 8)
    device.close()
    ctypes.memmove(target, b"12345678", 8)


def overrun() -> None:
    """Write past the end of memory on the device: the sanitizer must see it."""
    driver, device = Driver(), Device()
    target = driver.host_address(device.allocate((8,), "uint8").address, 8)
    ctypes.memmove(target, b"123456789", 9)


SCENARIOS: Dict[str, Callable[[], Any]] = {
    "each-call-of-a-device": lambda: each_call_failing(copy_there_and_back),
    "each-call-of-a-gpu": lambda: each_call_failing(first_gpu),
    "each-call-of-a-session": lambda: each_call_failing(partial(run_an_engine, on_tensorrt())),
    "destroyed-context": destroyed_context,
    "closed-in-the-middle": closed_in_the_middle,
    "leak": leak,
    "double-free": double_free,
    "use-after-close": use_after_close,
    "overrun": overrun,
}


if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))
