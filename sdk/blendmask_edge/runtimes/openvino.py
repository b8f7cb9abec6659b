"""OpenVINO on the CPU."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import io
import logging
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import ClosedError, InferenceError, OutputError
from blendmask_edge.hardware.cpu import processor, saturates_int8
from blendmask_edge.runtimes.base import TensorType
from blendmask_edge.runtimes.contract import check_names, signature_of
from blendmask_edge.runtimes.telemetry import import_openvino
from blendmask_edge.storage.cache import Cache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions

ov = import_openvino()
_CACHE = "compiled"
_DEVICE = "CPU"
_DTYPES = {"u8": "uint8", "i32": "int32", "i64": "int64", "f16": "float16", "f32": "float32", "f64": "float64"}
_LOG = logging.getLogger(__name__)


def load(graph: bytes, options: SessionOptions) -> OpenVinoSession:
    """Load an ONNX graph on the CPU plugin, for the latency of one image; see `Runtime.load`.

    The compiled model is kept in the cache folder, from which the next call takes it.
    """
    properties = compile_properties(options)
    try:
        core = _core()
        name = _file_name(graph, properties)
        compiled = _recalled(core, name, properties) or _compiled(core, graph, name, properties)
        return OpenVinoSession(compiled, options)
    except RuntimeError as error:
        raise _refusal(error) from error


class OpenVinoSession:
    """A graph loaded in OpenVINO."""

    def __init__(self, compiled: Any, options: SessionOptions) -> None:
        """Take an `openvino.CompiledModel`, and the options for its inputs.

        Raises:
            InferenceError: its inputs and outputs do not have the names of the contract.
        """
        self.signature = signature_of(_types(compiled.inputs), _types(compiled.outputs))
        self._constant = options.constant_inputs(self.signature.inputs)
        self._request: Optional[Any] = compiled.create_infer_request()

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one preprocessed image; see `Session.run`."""
        if self._request is None:
            raise ClosedError("The session is closed; load the graph again.")
        try:
            results = self._request.infer({INPUT_NAME: image, **self._constant}, share_inputs=True)
            return Outputs(*(results[name] for name in OUTPUT_NAMES))
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO {ov.__version__} failed to run the graph: {_reason(error)}") from error

    def close(self) -> None:
        """Release the request and, with it, the compiled model."""
        self._request = None


def compile_once(graph: bytes, options: SessionOptions) -> Any:
    """Return an `openvino.CompiledModel` of any ONNX graph, compiled as by `load` but not kept.

    Raises:
        InferenceError: OpenVINO refuses the graph.
    """
    try:
        return _core().compile_model(_read(graph), _DEVICE, compile_properties(options))
    except RuntimeError as error:
        raise _refusal(error) from error


@functools.lru_cache(maxsize=None)
def _core() -> Any:
    """Return the one `Core` of this process, which is never released.

    Each `Core` installs an alternate signal stack on the thread that opens it, and puts the former one back when it is
    released. After several are released out of order, or one by another thread, the kernel is left with a stack that
    was freed, and the next signal kills the process. The extra reference keeps it through the interpreter's exit, too.
    """
    core = ov.Core()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(core))
    return core


def _file_name(graph: bytes, properties: Dict[str, Any]) -> str:
    """Return the name of a compiled model, with all that it depends on."""
    options = repr(sorted(properties.items()))
    parts = [hashlib.sha256(graph).hexdigest(), f"openvino {ov.__version__}", options, processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() + ".bin"


def _recalled(core: Any, name: str, properties: Dict[str, Any]) -> Optional[Any]:
    """Return the model compiled before, or None if there is none that loads.

    OpenVINO's own cache, `CACHE_DIR`, takes what it finds there whole or broken: of 2026.4, a file with changed bytes
    was loaded as it was, which may mean other weights. `Cache` checks a digest first.
    """
    with contextlib.suppress(OutputError):  # without a cache folder it is compiled
        model = Cache.of_machine(_CACHE).read(name)
        return None if model is None else _imported(core, model, properties)
    return None


def _imported(core: Any, model: bytes, properties: Dict[str, Any]) -> Optional[Any]:
    try:
        return core.import_model(model, _DEVICE, properties)
    except RuntimeError as error:
        _LOG.warning("OpenVINO %s does not load the model that it compiled before: %s", ov.__version__, _reason(error))
        return None


def _compiled(core: Any, graph: bytes, name: str, properties: Dict[str, Any]) -> Any:
    """Compile a graph and keep the result."""
    model = _read(graph)
    check_names(_types(model.inputs), _types(model.outputs))
    compiled = core.compile_model(model, _DEVICE, properties)
    stream = io.BytesIO()
    with contextlib.suppress(RuntimeError, OutputError):  # a model that cannot be exported or kept can still run
        compiled.export_model(stream)
        Cache.of_machine(_CACHE).keep(name, stream.getvalue())
    return compiled


def _read(graph: bytes) -> Any:
    """Read a graph as ONNX; `Core.read_model` would try every format that OpenVINO knows, its own among them."""
    try:
        front_end = ov.frontend.FrontEndManager().load_by_framework("onnx")
        return front_end.convert(front_end.load(io.BytesIO(graph)))
    except Exception as error:  # the exceptions of front ends share no base narrower than this
        raise _refusal(error) from error


def compile_properties(options: SessionOptions) -> Dict[str, Any]:
    """Return OpenVINO's properties for the latency of one image, with exact arithmetic and threads as asked."""
    # Where the processor has bfloat16 instructions, OpenVINO would by default compute the float remainder in them.
    properties: Dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if saturates_int8():
        properties["LP_TRANSFORMS_MODE"] = False  # compute what INT8 kernels would, in float32
    if options.threads is not None:
        return {**properties, "INFERENCE_NUM_THREADS": int(options.threads)}
    return properties


def _types(ports: Iterable[Any]) -> Dict[str, TensorType]:
    return {name: _type(port) for port in ports for name in port.get_names()}


def _type(port: Any) -> TensorType:
    dtype, shape = port.element_type.get_type_name(), port.partial_shape
    sizes = () if shape.rank.is_dynamic else tuple(size.get_length() if size.is_static else None for size in shape)
    return TensorType(_DTYPES.get(dtype, dtype), sizes)


def _refusal(error: Exception) -> InferenceError:
    return InferenceError(
        f"OpenVINO {ov.__version__} refuses the graph: {_reason(error)}. Upgrade it, or build the bundle again."
    )


def _reason(error: Exception) -> str:
    """Join the lines that say something; the others name the places in OpenVINO that the error passed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from")) or str(error)
