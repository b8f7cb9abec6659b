"""A CUDA driver made of ordinary memory.

Its functions are C callbacks of the types in cuda.h, so arguments of a wrong width or kind fail. Work given to a stream
is done when the stream is synchronized, not before. Calls from a thread without a current context fail.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, Callable, Dict, List, Optional

CONTEXT, STREAM = 0xC0, 0x51
INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE, INVALID_CONTEXT = 1, 2, 100, 201
TYPES: Dict[str, List[Any]] = {
    "cuInit": [c_uint],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_void_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDriverGetVersion": [POINTER(c_int)],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamDestroy_v2": [c_void_p],
    "cuStreamSynchronize": [c_void_p],
    "cuMemHostAlloc": [POINTER(c_void_p), c_size_t, c_uint],
    "cuMemFreeHost": [c_void_p],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, c_uint64],
    "cuGraphDestroy": [c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuGraphLaunch": [c_void_p, c_void_p],
}
NEED_NO_CONTEXT = {
    "cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDriverGetVersion",
    "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuGetErrorString",
}  # fmt: skip


class FakeDriver:
    """What `ctypes.CDLL("libcuda.so.1")` returns in the tests.

    failures: status to return, by function name, one for each call; 0 and the end of the list mean success.
    host, device: memory that is allocated and not yet freed, by address.
    """

    def __init__(self) -> None:
        self.failures: Dict[str, List[int]] = {}
        self.host: Dict[int, Any] = {}
        self.device: Dict[int, Any] = {}
        self.retained = 0
        self.streams = 0
        self._current = threading.local()
        self._queue: List[Callable[[], None]] = []
        self._before: Optional[List[Callable[[], None]]] = None
        self.graphs: Dict[int, List[Callable[[], None]]] = {}
        self.launches = 0
        self._functions = {name: self._callback(name, types) for name, types in TYPES.items()}

    def __getattr__(self, name: str) -> Any:
        functions: Dict[str, Any] = self.__dict__["_functions"]
        if name not in functions:
            raise AttributeError(name)
        return functions[name]

    def enqueue(self, stream: int, work: Callable[[], None]) -> bool:
        """Add work to the stream, as an engine does."""
        assert getattr(self._current, "context", None) == CONTEXT
        assert stream == STREAM
        self._queue.append(work)
        return True

    def host_address(self, address: int, size: int) -> int:
        """Where the bytes of a tensor on the device lie."""
        assert len(self.device[address]) == size
        return address

    def is_clean(self) -> bool:
        """Whether all that was taken was given back."""
        return not (self.host or self.device or self.retained or self.streams or self.graphs)

    def _callback(self, name: str, types: List[Any]) -> Any:
        def called(*arguments: Any) -> int:
            planned = self.failures.get(name)
            status = planned.pop(0) if planned else 0
            if status and name == "cuStreamEndCapture":  # it ends in any case
                self._queue, self._before = self._before or [], None
            if status:
                return status
            if name not in NEED_NO_CONTEXT and getattr(self._current, "context", None) != CONTEXT:
                return INVALID_CONTEXT
            return getattr(self, f"_{name}")(*arguments) or 0

        return CFUNCTYPE(c_int, *types)(called)

    def _cuInit(self, flags: int) -> int:
        return INVALID_VALUE if flags else 0

    def _cuDeviceGet(self, device: Any, ordinal: int) -> None:
        device[0] = ordinal

    def _cuDeviceGetName(self, name: int, size: int, _device: int) -> None:
        ctypes.memmove(name, b"Orin NX\0"[:size], min(size, 8))

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, _device: int) -> None:
        value[0] = {75: 8, 76: 7}[attribute]

    def _cuDriverGetVersion(self, version: Any) -> None:
        version[0] = 12060

    def _cuDevicePrimaryCtxRetain(self, context: Any, _device: int) -> None:
        self.retained += 1
        context[0] = CONTEXT

    def _cuDevicePrimaryCtxRelease_v2(self, _device: int) -> None:
        self.retained -= 1

    def _cuCtxSetCurrent(self, context: Optional[int]) -> None:
        self._current.context = context

    def _cuStreamCreate(self, stream: Any, _flags: int) -> None:
        self.streams += 1
        stream[0] = STREAM

    def _cuStreamDestroy_v2(self, stream: int) -> int:
        self.streams -= 1
        return 0 if stream == STREAM else INVALID_VALUE

    def _cuStreamSynchronize(self, _stream: int) -> None:
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def _cuStreamBeginCapture_v2(self, _stream: int, mode: int) -> int:
        self._before, self._queue = self._queue, []
        return 0 if mode == 1 else INVALID_VALUE

    def _cuStreamEndCapture(self, _stream: int, graph: Any) -> int:
        if self._before is None:
            return INVALID_VALUE
        recorded, self._queue, self._before = self._queue, self._before, None
        graph[0] = self._keep(recorded)
        return 0

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: int, flags: int) -> int:
        executable[0] = self._keep(self.graphs[graph])
        return INVALID_VALUE if flags else 0

    def _cuGraphDestroy(self, graph: int) -> int:
        return 0 if self.graphs.pop(graph, None) is not None else INVALID_VALUE

    _cuGraphExecDestroy = _cuGraphDestroy

    def _cuGraphLaunch(self, executable: int, _stream: int) -> None:
        self.launches += 1
        self._queue += self.graphs[executable]

    def _keep(self, work: List[Callable[[], None]]) -> int:
        number = 1 + max(self.graphs, default=0x600)
        self.graphs[number] = work
        return number

    def _cuMemHostAlloc(self, pointer: Any, size: int, _flags: int) -> None:
        pointer[0] = self._allocate(self.host, size)

    def _cuMemFreeHost(self, address: int) -> int:
        return 0 if self.host.pop(address, None) else INVALID_VALUE

    def _cuMemAlloc_v2(self, pointer: Any, size: int) -> None:
        pointer[0] = self._allocate(self.device, size)

    def _cuMemFree_v2(self, address: int) -> int:
        return 0 if self.device.pop(address, None) else INVALID_VALUE

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, size: int, _stream: int) -> int:
        return self._copy(target, source, size, (self.device, target), (self.host, source))

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, size: int, _stream: int) -> int:
        return self._copy(target, source, size, (self.host, target), (self.device, source))

    def _cuGetErrorString(self, status: int, text: Any) -> None:
        text[0] = {OUT_OF_MEMORY: b"out of memory", NO_DEVICE: b"no CUDA-capable device is detected"}.get(status, b"?")

    def _copy(self, target: int, source: int, size: int, *places: Any) -> int:
        if any(address not in memory or len(memory[address]) != size for memory, address in places):
            return INVALID_VALUE
        self._queue.append(lambda: ctypes.memmove(target, source, size))
        return 0

    @staticmethod
    def _allocate(memory: Dict[int, Any], size: int) -> int:
        block = (ctypes.c_ubyte * size)(*[0xA5] * size)
        memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)
