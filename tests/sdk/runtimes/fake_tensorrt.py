"""A TensorRT whose engines compute the graph of `tests/sdk/small_bundles.py` on the memory of a driver."""

from __future__ import annotations

import ctypes
import enum
import functools
import importlib.machinery
import types
from typing import Any, Callable, Dict, Optional, Protocol, Tuple

import numpy as np

from tests.sdk.small_bundles import BOXES, CELLS, HEIGHT, WIDTH

ENGINE = b"an engine of the tiny graph"
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 INT64")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
NUMPY = {"FLOAT": np.float32, "UINT8": np.uint8, "INT32": np.int32}
THRESHOLD = {"score_threshold": ("FLOAT", (1,))}
"""What engines of newer graphs take beside the image."""
TENSORS = {
    "image": ("UINT8", (1, HEIGHT, WIDTH, 3)),
    "scores": ("FLOAT", (1, 4)),
    "boxes": ("FLOAT", (1, 4, 4)),
    "mask_logits": ("FLOAT", (1, 4, CELLS, CELLS)),
    "class_ids": ("INT32", (1, 4)),
}


class Driver(Protocol):
    """What engines need of a driver: one of Python, `FakeDriver`, or the compiled one."""

    def enqueue(self, stream: int, work: Callable[[], None]) -> bool:
        """Add work to the stream."""
        ...

    def host_address(self, address: int, size: int) -> int:
        """Where the bytes of a tensor on the device lie."""
        ...


class ILogger:
    """The base of loggers."""

    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


class Engine:
    """An `ICudaEngine`."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._tensors: Dict[str, Tuple[str, Tuple[int, ...]]] = module.tensors

    def __del__(self) -> None:
        self._module.note_release("engine")

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name.startswith("im") or name in THRESHOLD else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
        return self._tensors[name][1]

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[self._tensors[name][0]]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self._module.layer_information)

    def create_execution_context(self) -> Optional[Context]:
        return Context(self._module) if self._module.has_room else None


class EngineInspector:
    """An `IEngineInspector` that replays a recorded answer."""

    def __init__(self, recorded: str) -> None:
        self._recorded = recorded

    def get_engine_information(self, format: Any) -> str:
        assert format == LayerInformationFormat.JSON
        return self._recorded


class Context:
    """An `IExecutionContext`."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._addresses: Dict[str, int] = {}

    def __del__(self) -> None:
        self._module.note_release("context")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return bool(self._module.takes_addresses)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._module.is_broken:
            self._module.logger.log(ILogger.Severity.ERROR, "[executionContext] Cask convolution execution")
            return False
        work = functools.partial(_compute, self._module, self._addresses)  # the stream keeps no context
        return bool(self._module.driver.enqueue(stream_handle, work))


def _compute(module: Any, addresses: Dict[str, int]) -> None:
    def array(name: str) -> Any:
        kind, shape = {**TENSORS, **THRESHOLD}[name]
        size = int(np.prod(shape)) * np.dtype(NUMPY[kind]).itemsize
        memory = (ctypes.c_ubyte * size).from_address(module.driver.host_address(addresses[name], size))
        return np.frombuffer(memory, NUMPY[kind]).reshape(shape)

    means = array("image").mean((0, 1, 2)) / 255
    least = array("score_threshold") if "score_threshold" in module.tensors else 0
    array("scores")[...] = [[*(means * (means >= least)), 0]]
    array("boxes")[...] = [BOXES]
    array("class_ids")[...] = [[0, 1, 2, -1]]
    array("mask_logits")[...] = module.mask_logits


def make_module(driver: Driver, version: str) -> Any:
    """Return a module to stand for `tensorrt`; what follows its classes may be changed."""
    module: Any = types.ModuleType("tensorrt")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    module.__version__ = version
    module.ILogger, module.TensorIOMode, module.DataType = ILogger, TensorIOMode, DataType
    module.LayerInformationFormat, module.EngineInspector = LayerInformationFormat, EngineInspector
    module.driver, module.tensors = driver, dict(TENSORS)
    module.mask_logits, module.layer_information = 1, '{"Layers": []}'
    module.start_failure, module.released = None, 0
    module.has_room, module.takes_addresses, module.is_broken = True, True, False
    module.releases = []

    def note_release(what: str) -> None:
        module.releases.append(what if getattr(driver, "retained", 1) else f"{what}, after the GPU")

    module.note_release = note_release

    class Runtime:
        def __init__(self, logger: Any) -> None:
            module.logger = logger
            if module.start_failure == "raises":  # as 8.5 does
                logger.log(ILogger.Severity.WARNING, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")
            if module.start_failure == "logs":  # as 11.4 does
                logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")

        def __del__(self) -> None:
            module.released += 1
            note_release("runtime")

        def deserialize_cuda_engine(self, data: bytes) -> Optional[Engine]:
            if data == ENGINE:
                return Engine(module)
            module.logger.log(ILogger.Severity.WARNING, "a warning that matters to nobody")
            module.logger.log(ILogger.Severity.ERROR, "Serialization assertion stdVersionRead == kVERSION failed")
            return None

    module.Runtime = Runtime
    return module
