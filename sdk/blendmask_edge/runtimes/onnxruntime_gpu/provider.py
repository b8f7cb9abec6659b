"""Open a graph on providers of ONNX Runtime, or refuse: ONNX Runtime itself would go on on the CPU.

A provider that cannot start, and nodes that no provider of the GPU takes, end in one message that names them.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

import onnxruntime as ort

from blendmask_edge.errors import InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import FREE_MEMORY, Gpu, is_out_of_memory
from blendmask_edge.runtimes.onnxruntime import session_settings

if TYPE_CHECKING:
    from blendmask_edge.runtimes.base import SessionOptions

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
_LIBRARIES = {CUDA: "libonnxruntime_providers_cuda.so", TENSORRT: "libonnxruntime_providers_tensorrt.so"}
_SHARED = "libonnxruntime_providers_shared.so"
_FATAL_ONLY, _DEFAULT_SEVERITY = 4, 2
_NAMED_NODES = 5
_ELSEWHERE = 'Or predict with runtime="onnxruntime" or "openvino".'
_WITH_CUDA = '"onnxruntime-gpu[cuda,cudnn]"'

Providers = Sequence[Tuple[str, Dict[str, str]]]


def open_on_gpu(graph: bytes, options: SessionOptions, gpu: Gpu, providers: Providers) -> Any:
    """Open an `onnxruntime.InferenceSession` in which every node runs on one of `providers`.

    Args:
        graph: an ONNX file.
        options: of the session.
        gpu: of this machine.
        providers: name and options of each, the preferred one first.

    Raises:
        RuntimeUnavailableError: this ONNX Runtime has no such provider, or it cannot start; the message has the reason.
        InferenceError: the graph is refused, or nodes are left to the CPU; the message names them.
    """
    _require_built([name for name, _ in providers])
    _require_driver(gpu)
    settings = session_settings(options)
    # The first tells which nodes run where; releases that cannot tell refuse by themselves, without names.
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not _tells_nodes():
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with _silent():
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        try:
            session = ort.InferenceSession(graph, settings, providers=list(providers), enable_fallback=0)
        except Exception as error:  # its exceptions share no base narrower than this
            raise _refusal(providers, gpu, error) from error
    for name, _ in providers:
        if name not in session.get_providers():
            raise _cannot_start(name, gpu, "")
    refuse_nodes_on_cpu(session)
    return session


def refuse_nodes_on_cpu(session: Any) -> None:
    """Refuse a session that leaves nodes to the CPU, where each costs two copies.

    Raises:
        InferenceError: with the first of them by operator and name.
    """
    nodes = nodes_on(session, CPU)
    if nodes:
        raise InferenceError(
            f"ONNX Runtime {ort.__version__} would run {len(nodes)} nodes of the graph on the CPU: {some_of(nodes)}. "
            f"Upgrade onnxruntime-gpu. {_ELSEWHERE}"
        )


def some_of(nodes: Sequence[str]) -> str:
    """Return the first of many nodes, and how many more there are."""
    more = f" and {len(nodes) - _NAMED_NODES} more" if len(nodes) > _NAMED_NODES else ""
    return f"{', '.join(nodes[:_NAMED_NODES])}{more}"


def nodes_on(session: Any, provider: str) -> List[str]:
    """Return the nodes that a provider runs, by operator and name; none where this ONNX Runtime cannot tell."""
    if not _tells_nodes():
        return []
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == provider]
    return [f"{node.op_type} {node.name}".strip() for part in parts for node in part.get_nodes()]


def _tells_nodes() -> bool:
    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def _require_built(names: Sequence[str]) -> None:
    """Refuse an ONNX Runtime without the providers, as where the package for CPUs replaced the one for GPUs."""
    missing = [name for name in names if name not in ort.get_available_providers()]
    if missing:
        both = _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu")
        why = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other. " if both else ""
        raise RuntimeUnavailableError(
            f"This ONNX Runtime {ort.__version__} has no {missing[0]}. {why}Type: pip uninstall -y onnxruntime "
            f"onnxruntime-gpu && pip install {_WITH_CUDA}  (on a Jetson the wheel that NVIDIA builds for its JetPack)"
        )


def _require_driver(gpu: Gpu) -> None:
    """Refuse a driver of an older CUDA than the one that ONNX Runtime was built with."""
    built = str(getattr(ort, "cuda_version", None) or "")
    offered = gpu.driver.split("/")[0]
    if built and _major(offered) < _major(built):
        raise RuntimeUnavailableError(
            f"The driver of the {gpu.name} supports CUDA {offered}; onnxruntime-gpu {ort.__version__} is built with "
            f"CUDA {built}. Update the driver, or install an onnxruntime-gpu for CUDA {_major(offered)}. {_ELSEWHERE}"
        )


def _refusal(providers: Providers, gpu: Gpu, error: Exception) -> Exception:
    """Return what to raise where no session was made: the provider that cannot start, if one cannot, else the graph."""
    for name, _ in providers:
        if _library_error(name) is not None:
            return _cannot_start(name, gpu, "")
    if isinstance(error, (RuntimeError, ValueError)):  # what providers raise; the graph ends in exceptions of its own
        return _cannot_start(providers[0][0], gpu, str(error))
    advice = FREE_MEMORY if is_out_of_memory(str(error)) else "Upgrade onnxruntime-gpu, or build the bundle again."
    return InferenceError(
        f"ONNX Runtime {ort.__version__} refuses the graph on {providers[0][0]}: {error}. {advice} {_ELSEWHERE}"
    )


def _cannot_start(name: str, gpu: Gpu, said: str) -> RuntimeUnavailableError:
    reason = _library_error(name) or said or "it gives no reason"
    return RuntimeUnavailableError(
        f"ONNX Runtime {ort.__version__} cannot start {name} on the {gpu.name}: {reason}. {_remedy(reason)} "
        f"{_ELSEWHERE}"
    )


def _library_error(name: str) -> Optional[str]:
    """Return why the library of a provider cannot be loaded, which ONNX Runtime writes to its log alone.

    To be called after ONNX Runtime has failed: what is loaded here first would lack its host.
    """
    folder = Path(ort.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / _SHARED), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / _LIBRARIES[name]))
    except OSError as error:
        return str(error)
    return None


def _remedy(reason: str) -> str:
    """Return how to get what is missing: memory, or a library for the dynamic linker."""
    if is_out_of_memory(reason):
        return FREE_MEMORY
    tensorrt = re.search(r"lib(?:nvinfer|nvonnxparser)\w*\.so\.(\d+)", reason)
    if tensorrt is not None:
        cuda = _major(str(getattr(ort, "cuda_version", None) or "12"))
        return f'It needs TensorRT {tensorrt[1]}; type: pip install "tensorrt-cu{cuda}=={tensorrt[1]}.*"'
    return f"It needs CUDA and cuDNN; type: pip install {_WITH_CUDA}  (on a Jetson both come with JetPack)."


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep ONNX Runtime from printing what one message of ours says."""
    ort.set_default_logger_severity(_FATAL_ONLY)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        ort.set_default_logger_severity(_DEFAULT_SEVERITY)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _major(version: str) -> int:
    return int(version.split(".")[0])
