"""TensorRT 8.5 to 11 on an NVIDIA GPU, without torch.

Not yet run on a device. The tests drive it with stand-ins for TensorRT and for the driver that keep real memory, so
it remains to be shown that a real engine takes these calls, and how fast it is.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

import tensorrt as trt

from blendmask_edge.bundle.onnx_facts import read_onnx
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME, Outputs
from blendmask_edge.errors import ClosedError, InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.architectures import Precision, architecture_of
from blendmask_edge.hardware.cuda import Buffer, Device, Gpu, first_gpu
from blendmask_edge.runtimes.base import Signature, TensorType
from blendmask_edge.runtimes.contract import signature_of
from blendmask_edge.runtimes.engines import engine_cache
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions
from blendmask_edge.runtimes.tensorrt.engine import Toolchain, compile_graph
from blendmask_edge.runtimes.tensorrt.log import start, tensorrt_log

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions

# Named tensors and uint8 inputs came with 8.5; 10.0 removed the former calls. These calls are in all of 8.5 to 11.
_FIRST_VERSION = (8, 5)
_DTYPES = {
    INPUT_NAME: "uint8",
    THRESHOLD_NAME: "float32",
    "boxes": "float32",
    "scores": "float32",
    "class_ids": "int32",
    "mask_logits": "float32",
}
_NUMPY = {"UINT8": "uint8", "FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}


def load(graph: bytes, options: SessionOptions) -> TensorRtSession:
    """Take the engine of an ONNX graph from the cache, or build it, which takes minutes; see `Runtime.load`.

    `options.threads` means nothing here.

    Raises:
        RuntimeUnavailableError: no GPU, no driver, or a TensorRT before 8.5.
        InferenceError: the engine cannot be built or loaded, or is not of the contract.
        ConfigError: a GPU that the table of targets does not know.
        OutputError: the cache cannot be written.
    """
    if tuple(int(part) for part in trt.__version__.split(".")[:2]) < _FIRST_VERSION:
        raise RuntimeUnavailableError(
            f"TensorRT {trt.__version__} has no named tensors; 8.5 or newer is needed (JetPack 5.1 or newer)."
        )
    with contextlib.ExitStack() as guard:
        device = Device()
        guard.callback(device.close)
        session = TensorRtSession(*engine_for(graph), device, options)
        guard.pop_all()
        return session


def engine_for(graph: bytes) -> Tuple[Path, bytes]:
    """Return path and content of the engine of an ONNX file for the GPU here, from the cache or newly built.

    Raises:
        As `load`.
    """
    gpu = first_gpu()
    path = compile_graph(graph, Toolchain(trt, gpu), options=EngineOptions(_precision(graph, gpu))).path
    engine = engine_cache().read(path.name)
    if engine is None:
        raise InferenceError(
            f"The engine {path} is gone since it was built or found. Run again: it is then built anew."
        )
    return path, engine


class TensorRtSession:
    """An engine with its execution context and buffers, on a device that it owns."""

    def __init__(self, path: Path, engine: bytes, device: Device, options: SessionOptions) -> None:
        """Deserialize an engine and allocate its buffers on `device`.

        Args:
            path: where the engine lies, for messages.
            engine: the serialized engine.
            device: which is closed with the session.
            options: for the inputs that are the same for each image; they are uploaded once.

        Raises:
            RuntimeUnavailableError: TensorRT does not start.
            InferenceError: the engine is not for this TensorRT and GPU, not of the contract, or memory is short.
        """
        self._device: Optional[Device] = device
        self._buffers: Dict[str, Buffer] = {}
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        try:
            self._open(path, engine, device, options)
            self._replay = self._record(device)
        except BaseException as error:
            # The frames of the error hold parts of the engine, too, and the caller closes the device next.
            traceback.clear_frames(error.__traceback__)
            self._release()
            raise

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the engine on one preprocessed image; see `Session.run`. Any thread may call."""
        if self._device is None:
            raise ClosedError("The session is closed; load the graph again.")
        source = self._buffers[INPUT_NAME].array
        if image.shape != source.shape or image.dtype != source.dtype:
            raise InferenceError(
                f"The image is {image.dtype} {list(image.shape)}, the engine takes {source.dtype} "
                f"{list(source.shape)}. Preprocess it for this bundle."
            )
        source[...] = image
        self._execute(self._device)
        return Outputs(*(self._buffers[name].array.copy() for name in OUTPUT_NAMES))

    def close(self) -> None:
        """Release the engine and all device memory; closing twice does no harm."""
        if self._device is None:
            return
        device, self._device = self._device, None
        with contextlib.closing(device):
            try:
                device.activate()
            finally:
                self._release()

    def _open(self, path: Path, engine: bytes, device: Device, options: SessionOptions) -> None:
        self._runtime = start(trt, "Runtime")
        self._engine = _deserialize(self._runtime, path, engine)
        self.signature = _signature(self._engine)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise InferenceError(f"TensorRT finds no room for the engine: {_reason()}. Free GPU memory.")
        names = [*self.signature.inputs, *OUTPUT_NAMES]
        self._buffers = {name: _allocate(device, self._engine, name) for name in names}
        for name, array in options.constant_inputs(self.signature.inputs).items():
            self._buffers[name].array[...] = array
            device.upload(self._buffers[name])
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise InferenceError(f"TensorRT {trt.__version__} takes no buffer for {name}: {_reason()}.")

    def _release(self) -> None:
        """Release in the order that TensorRT wants: context, engine, runtime; the caller then closes the device."""
        self._replay = None
        self._context = None
        self._engine = None
        self._runtime = None
        self._buffers = {}

    def _record(self, device: Device) -> Optional[Callable[[], None]]:
        """Record a frame, from the copy of the image to those of the outputs, which then takes one launch.

        Engines that cannot be recorded, as with loops, give their layers to the stream one by one.
        """
        self._buffers[INPUT_NAME].array[...] = 0
        self._enqueue(device)  # TensorRT sets up what it needs in the first run, which must not be recorded
        device.synchronize()
        replay = device.record(lambda: self._enqueue(device))
        tensorrt_log(trt).take()
        return replay

    def _execute(self, device: Device) -> None:
        device.activate()
        if self._replay is not None:
            self._replay()
        else:
            self._enqueue(device)
        device.synchronize()

    def _enqueue(self, device: Device) -> None:
        device.upload(self._buffers[INPUT_NAME])
        if not self._context.execute_async_v3(device.stream):
            raise InferenceError(
                f"TensorRT {trt.__version__} failed to run the engine: {_reason()}. Load the bundle again."
            )
        for name in OUTPUT_NAMES:
            device.download(self._buffers[name])


def _precision(graph: bytes, gpu: Gpu) -> Precision:
    """Return what to build: INT8 of a quantized graph, of a float graph FP16 where the GPU is fast at it."""
    if "DequantizeLinear" in read_onnx(graph).operators:
        return "int8"
    return "fp32" if architecture_of(gpu).fp16.value == "slow" else "fp16"


def _deserialize(runtime: Any, path: Path, data: bytes) -> Any:
    """Deserialize an engine; messages logged since the runtime started are part of the reason of a failure."""
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise InferenceError(
            f"TensorRT {trt.__version__} refuses the engine {path}: {_reason()}. Remove it and run again: it is then "
            "built anew."
        )
    return engine


def _signature(engine: Any) -> Signature:
    """Return the signature of an engine whose tensors can be given fixed buffers."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    types = {name: _type(engine, name) for name in names}
    inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
    signature = signature_of(
        {name: types[name] for name in names if name in inputs},
        {name: types[name] for name in names if name not in inputs},
    )
    for name, expected in _DTYPES.items():
        if name not in types:
            continue  # the threshold, which engines of older graphs lack
        if types[name].dtype != expected or not all(types[name].shape):
            raise InferenceError(
                f"The engine has {name} as {types[name]}, expected {expected} and a fixed shape. Build the bundle "
                "again."
            )
    return signature


def _type(engine: Any, name: str) -> TensorType:
    dtype = engine.get_tensor_dtype(name).name
    return TensorType(_NUMPY.get(dtype, dtype), tuple(size if size >= 0 else None for size in _shape(engine, name)))


def _allocate(device: Device, engine: Any, name: str) -> Buffer:
    return device.allocate(_shape(engine, name), _DTYPES[name])


def _shape(engine: Any, name: str) -> Tuple[int, ...]:
    return tuple(engine.get_tensor_shape(name))


def _reason() -> str:
    return str(tensorrt_log(trt).take())
