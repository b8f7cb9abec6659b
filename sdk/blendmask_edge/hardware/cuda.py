"""The parts of the CUDA driver that this package needs: which GPU there is, memory, copies and a stream.

It is the driver's own library, through ctypes: `libcuda.so.1` comes with every driver, on a Jetson and on a desktop,
under this one name and with a stable binary interface. The name and place of `libcudart` change with the toolkit, the
modules of cuda-python with its version, and neither need be installed where an engine runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple

import numpy as np

from blendmask_edge.errors import ClosedError, InferenceError, RuntimeUnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIBRARY_NAME = "libcuda.so.1"
_NON_BLOCKING_STREAM = 1
_CAPTURE_OF_THREAD = 1
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 128
_MODULE_VERSION = Path("/sys/module/nvidia/version")
_NO_GPU = (
    "Run the bundle on a machine with an NVIDIA GPU and its driver (a container needs `--gpus all` or `--runtime "
    'nvidia`), or with runtime="onnxruntime" or "openvino".'
)

FREE_MEMORY = "Free GPU memory (on a Jetson close the desktop, too)."
_SHORT_OF_MEMORY = re.compile(
    r"out[ _]?of[ _]?memory|bad_alloc|not enough memory|insufficient memory|memory is insufficient|memory for requested"
    r"|memory .*could not be allocated|fail(?:ed)? to allocate",
    re.IGNORECASE,
)


def is_out_of_memory(said: str) -> bool:
    """Whether software for GPUs says that memory is short, in the words of CUDA, TensorRT, ONNX Runtime or PyTorch."""
    return _SHORT_OF_MEMORY.search(said) is not None


def next_step(said: str) -> str:
    """Return what to do after a run on the GPU failed, by what the software said."""
    return FREE_MEMORY if is_out_of_memory(said) else "Load the bundle again, or restart the program."


def driver_present() -> bool:
    """Whether the driver's library can be loaded; it does not say that there is a GPU."""
    try:
        ctypes.CDLL(LIBRARY_NAME)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Gpu:
    """A GPU: its name, compute capability ("8.7") and driver, as CUDA version and release ("12.6/540.3.0")."""

    name: str
    sm: str
    driver: str


def find_gpu() -> Optional[Gpu]:
    """Return the first GPU that the driver shows, or None without a driver or a GPU."""
    try:
        return first_gpu()
    except RuntimeUnavailableError:
        return None


def first_gpu() -> Gpu:
    """Return the first GPU that the driver shows.

    Raises:
        RuntimeUnavailableError: no driver, or no GPU; the message says which.
    """
    library, device = _open_driver(), c_int()
    _ask(library, "cuDeviceGet", byref(device), c_int(0))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _ask(library, "cuDeviceGetName", name, c_int(_NAME_BYTES), device)
    major, minor = (_attribute(library, number, device) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR))
    return Gpu(name.value.decode(errors="replace"), f"{major}.{minor}", f"{_cuda_version(library)}/{_release()}")


@dataclass(frozen=True)
class Buffer:
    """Memory of one tensor on both sides: `array`, page-locked on the host, and `address` on the device."""

    array: NDArray[Any]
    address: int


class Device:
    """The first visible GPU, by its primary context, which other CUDA code of the process shares.

    `CUDA_VISIBLE_DEVICES` chooses another. All that was allocated is released by `close`.
    """

    def __init__(self) -> None:
        """Start the driver and make the context current.

        Raises:
            RuntimeUnavailableError: no driver, or no GPU.
            InferenceError: the driver has no room for a context or a stream.
        """
        self._library = _open_driver()
        self._context = c_void_p()
        self._stream = c_void_p()
        number = c_int()
        _ask(self._library, "cuDeviceGet", byref(number), c_int(0))
        with contextlib.ExitStack() as resources:
            self._call("cuDevicePrimaryCtxRetain", byref(self._context), number)
            resources.callback(self._call, "cuDevicePrimaryCtxRelease_v2", number)
            self.activate()
            self._call("cuStreamCreate", byref(self._stream), c_uint(_NON_BLOCKING_STREAM))
            resources.callback(self._call, "cuStreamDestroy_v2", self._stream)
            self._resources: Optional[contextlib.ExitStack] = resources.pop_all()

    @property
    def stream(self) -> int:
        """Handle of the one stream of this device."""
        return self._stream.value or 0

    def activate(self) -> None:
        """Make the context current in the calling thread, which need not be the one that opened the device."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, shape: Tuple[int, ...], dtype: Any) -> Buffer:
        """Allocate a tensor on the host and on the device; both start with undefined contents.

        Raises:
            InferenceError: out of memory.
            ClosedError: the device was closed.
        """
        if self._resources is None:
            raise ClosedError("The device is closed; open it again.")
        count, size = int(np.prod(shape)), int(np.prod(shape)) * np.dtype(dtype).itemsize
        host, address = c_void_p(), c_uint64()
        self._call("cuMemHostAlloc", byref(host), c_size_t(size), c_uint(0))
        self._resources.callback(self._call, "cuMemFreeHost", host)
        self._call("cuMemAlloc_v2", byref(address), c_size_t(size))
        self._resources.callback(self._call, "cuMemFree_v2", address)
        memory = (ctypes.c_ubyte * size).from_address(host.value or 0)
        return Buffer(np.frombuffer(memory, dtype, count).reshape(shape), address.value)

    def upload(self, buffer: Buffer) -> None:
        """Copy from host to device, in the order of the stream."""
        source, size = c_void_p(buffer.array.ctypes.data), c_size_t(buffer.array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(buffer.address), source, size, self._stream)

    def download(self, buffer: Buffer) -> None:
        """Copy from device to host, in the order of the stream."""
        target, size = c_void_p(buffer.array.ctypes.data), c_size_t(buffer.array.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", target, c_uint64(buffer.address), size, self._stream)

    def record(self, work: Callable[[], None]) -> Optional[Callable[[], None]]:
        """Record what `work` gives to the stream as a CUDA graph, and return what gives it again, in one call.

        Nothing runs while it is recorded. None is returned where it cannot be recorded: by drivers before CUDA 11.4, or
        because `work` raises InferenceError or needs the host in between; the stream is then as before.

        Raises:
            InferenceError: the driver failed.
            ClosedError: the device was closed.
        """
        if self._resources is None:
            raise ClosedError("The device is closed; open it again.")
        if not hasattr(self._library, "cuGraphInstantiateWithFlags"):
            return None
        recorded, executable = c_void_p(), c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, c_int(_CAPTURE_OF_THREAD))
        is_recorded = True
        try:
            work()
        except InferenceError:
            is_recorded = False
        is_recorded &= not self._library.cuStreamEndCapture(self._stream, byref(recorded))
        try:
            if not is_recorded:
                return None
            self._call("cuGraphInstantiateWithFlags", byref(executable), recorded, c_uint64(0))
            self._resources.callback(self._call, "cuGraphExecDestroy", executable)
        finally:
            if recorded:
                self._call("cuGraphDestroy", recorded)
        return lambda: self._call("cuGraphLaunch", executable, self._stream)

    def synchronize(self) -> None:
        """Wait until the stream has done all that it was given."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Wait for the stream, then release buffers, stream and context; closing twice does no harm.

        The arrays of the buffers must not be used afterwards.

        Raises:
            InferenceError: the driver failed, for instance because the context was destroyed by other code of the
                process. What it did not refuse is released.
        """
        if self._resources is None:
            return
        resources, self._resources = self._resources, None
        with resources:
            self.activate()
            self.synchronize()

    def _call(self, name: str, *arguments: Any) -> None:
        _check(self._library, name, getattr(self._library, name)(*arguments))


def _open_driver() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY_NAME)
    except OSError as error:
        raise RuntimeUnavailableError(f"No NVIDIA driver: {error}. {_NO_GPU}") from error
    _ask(library, "cuInit", c_uint(0))
    return library


def _ask(library: Any, name: str, *arguments: Any) -> None:
    """Call what must work wherever there is a GPU."""
    status = getattr(library, name)(*arguments)
    if status:
        raise RuntimeUnavailableError(f"No usable GPU: {_describe(library, status)} in {name}. {_NO_GPU}")


def _attribute(library: Any, number: int, device: c_int) -> int:
    value = c_int()
    _ask(library, "cuDeviceGetAttribute", byref(value), c_int(number), device)
    return value.value


def _cuda_version(library: Any) -> str:
    value = c_int()
    _ask(library, "cuDriverGetVersion", byref(value))
    return f"{value.value // 1000}.{value.value % 1000 // 10}"


def _release() -> str:
    """Return the release of the driver; older Jetsons have it in their kernel, whose release then stands for it."""
    try:
        return _MODULE_VERSION.read_text().strip()
    except OSError:
        return platform.release()


def _check(library: Any, name: str, status: int) -> None:
    if status:
        raise InferenceError(
            f"The CUDA driver failed in {name}: {_describe(library, status)}. Free GPU memory, or restart the program; "
            "a driver that keeps failing needs to be installed again."
        )


def _describe(library: Any, status: int) -> str:
    text = c_char_p()
    library.cuGetErrorString(c_int(status), byref(text))
    return f"{(text.value or b'unknown error').decode(errors='replace')} (CUDA error {status})"
