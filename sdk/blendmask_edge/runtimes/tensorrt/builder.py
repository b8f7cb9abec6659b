"""The thin call into TensorRT's Python API: an ONNX file in, a serialized engine out.

No GPU or Jetson has run this yet. It is tested against a stand-in for the module; names of flags and methods were
compared with the bindings of 8.6.1, 10.3.0 and 11.4.0.
"""

from __future__ import annotations

import functools
from typing import Any, List

from blendmask_edge.compilation.arguments import BuildArguments
from blendmask_edge.errors import InferenceError

_KEPT_ERRORS = 3


def build_engine(trt: Any, graph: bytes, arguments: BuildArguments) -> bytes:
    """Build an engine for the GPU of this machine.

    Args:
        trt: the `tensorrt` module.
        graph: an ONNX file.
        arguments: what this version must be told; see `build_arguments`.

    Raises:
        InferenceError: TensorRT cannot parse or build the graph; the message has its first errors.
    """
    log = error_log(trt)
    log.take()
    builder = trt.Builder(log)
    network = builder.create_network(_bits(trt, arguments))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise _failure(trt, "does not parse the graph", errors or log.take())
    engine = builder.build_serialized_network(network, _make_config(trt, builder, arguments))
    if engine is None:
        raise _failure(trt, "parses the graph but cannot build it", log.take())
    return bytes(engine)


def _bits(trt: Any, arguments: BuildArguments) -> int:
    flags = [int(getattr(trt.NetworkDefinitionCreationFlag, name)) for name in arguments.network_flags]
    return sum(1 << flag for flag in flags)


def _make_config(trt: Any, builder: Any, arguments: BuildArguments) -> Any:
    config = builder.create_builder_config()
    for name in arguments.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if arguments.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, arguments.workspace_bytes)
    return config


@functools.lru_cache(maxsize=None)
def error_log(trt: Any) -> Any:
    """Return the logger that keeps the first errors of TensorRT until `take()`, and drops what is no error.

    TensorRT has one logger in a process, the first that it is given, so all of this package share it.
    """
    severity = trt.ILogger.Severity

    class ErrorLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: List[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self._errors = [*self._errors, message][:_KEPT_ERRORS]

        def take(self) -> List[str]:
            errors, self._errors = self._errors, []
            return errors

    return ErrorLog()


def _failure(trt: Any, what: str, errors: List[str]) -> InferenceError:
    said = " ".join("; ".join(errors[:_KEPT_ERRORS]).split()) or "it gave no reason"
    return InferenceError(
        f"TensorRT {trt.__version__} {what}: {said}. Type `blendmask check M.bmz --target T` for what it takes."
    )
