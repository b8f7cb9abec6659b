"""ONNX Runtime's TensorRT provider: an engine as TensorRT builds it, behind the interface of ONNX Runtime.

No GPU has run it yet; that it refuses where it cannot start is tested with the real package.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

import onnxruntime as ort

from blendmask_edge.bundle.onnx_facts import read_onnx
from blendmask_edge.errors import InferenceError
from blendmask_edge.hardware.architectures import architecture_of
from blendmask_edge.hardware.cuda import Gpu, first_gpu, is_out_of_memory
from blendmask_edge.runtimes.engines import EngineKey, engine_cache, provider_engine_name
from blendmask_edge.runtimes.onnxruntime_gpu.cuda import CUDA_OPTIONS
from blendmask_edge.runtimes.onnxruntime_gpu.engine_files import engine_folder
from blendmask_edge.runtimes.onnxruntime_gpu.provider import CUDA, TENSORRT, nodes_on, open_on_gpu, some_of
from blendmask_edge.runtimes.onnxruntime_gpu.session import BoundSession

if TYPE_CHECKING:
    from blendmask_edge.runtimes.base import SessionOptions

_LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so", "libnvonnxparser.so")
_MAJORS = (11, 10, 9, 8)
_LOG = logging.getLogger(__name__)


def load(graph: bytes, options: SessionOptions) -> BoundSession:
    """Load an ONNX graph on the TensorRT provider, with its engine from the cache or after minutes of building.

    See `Runtime.load`; `options.threads` means nothing here. Nodes that TensorRT does not take run on the CUDA
    provider, and a warning names them.

    Raises:
        RuntimeUnavailableError: no GPU, or a provider cannot start; the message has the reason.
        InferenceError: the graph is refused, or nodes of it would run on the CPU.
        ConfigError: the GPU is of an unknown architecture.
        OutputError: there is no cache folder, or it cannot be written.
    """
    gpu = first_gpu()
    flags = precision_flags(graph, gpu)
    cache = engine_cache()
    name = provider_engine_name(_key(graph, gpu, flags, preload_tensorrt()))
    if name not in cache.names():
        cache.check()

    def open_in(folder: Path) -> Any:
        engine = {"trt_engine_cache_path": str(folder), "trt_timing_cache_path": str(folder)}
        settings = {"device_id": "0", **flags, **engine}
        settings.update(trt_engine_cache_enable="1", trt_timing_cache_enable="1")
        return open_on_gpu(graph, options, gpu, [(TENSORRT, settings), (CUDA, CUDA_OPTIONS)])

    try:
        with engine_folder(cache, name) as folder:
            session = open_in(folder)
    except InferenceError as error:
        if is_out_of_memory(str(error)) or cache.read(name) is None:
            raise
        _LOG.warning("The engine %s is built anew: %s", cache.path(name), error)
        with engine_folder(cache, name, from_cache=False) as folder:
            session = open_in(folder)
    _warn_of_float(session)
    return BoundSession(session, options)


def precision_flags(graph: bytes, gpu: Gpu) -> Dict[str, str]:
    """Return the provider's options of precision: INT8 for a graph with Q/DQ, FP16 where the GPU is fast at it.

    Raises:
        ConfigError: the GPU is of an unknown architecture.
        BundleError: the graph cannot be read.
    """
    is_quantized = "DequantizeLinear" in read_onnx(graph).operators
    is_half_fast = architecture_of(gpu).fp16.value != "slow"
    return {"trt_int8_enable": str(int(is_quantized)), "trt_fp16_enable": str(int(is_half_fast))}


def preload_tensorrt() -> str:
    """Load TensorRT where pip puts it, which the dynamic linker does not search, and return its version, or "unknown".

    The provider then finds the libraries in the process. Where they are on the linker's path, they come from there.
    """
    for major in _MAJORS:
        paths = [_of_wheel(f"{name}.{major}") for name in _LIBRARIES]
        loaded = [library for library in map(_open, paths) if library is not None]
        if loaded:
            with contextlib.suppress(AttributeError):
                return str(loaded[0].getInferLibVersion())
    return "unknown"


def _warn_of_float(session: Any) -> None:
    """Name the nodes that run beside the engine, each with two changes between providers."""
    nodes = nodes_on(session, CUDA)
    if nodes:
        _LOG.warning(
            "TensorRT does not take %d nodes of the graph, which run in float32 by CUDA: %s. Measure whether another "
            "runtime is faster: blendmask verify-device M.bmz --images DIR.",
            len(nodes),
            some_of(nodes),
        )


def _of_wheel(library: str) -> str:
    """Return the path of a library in an installed wheel of TensorRT, else its bare name."""
    for package in ("tensorrt_libs", "tensorrt"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(folder) / library).is_file():
                return str(Path(folder) / library)
    return library


def _open(path: str) -> Optional[Any]:
    try:
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None


def _key(graph: bytes, gpu: Gpu, flags: Dict[str, str], tensorrt: str) -> EngineKey:
    versions = f"{tensorrt}-onnxruntime{ort.__version__}"
    return EngineKey(hashlib.sha256(graph).hexdigest(), gpu.sm, versions, gpu.driver, dict(flags))
