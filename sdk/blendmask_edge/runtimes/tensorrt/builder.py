"""The thin call into TensorRT's Python API: an ONNX file in, a serialized engine out.

No GPU or Jetson has run this yet. It is tested against a stand-in for the module, which has the calls that the real
modules of 8.5.3 and 11.4 have, see `.ci/modules.sh`.
"""

from __future__ import annotations

from typing import Any

from blendmask_edge.errors import InferenceError
from blendmask_edge.hardware.cuda import FREE_MEMORY, is_out_of_memory
from blendmask_edge.runtimes.tensorrt.arguments import BuildArguments
from blendmask_edge.runtimes.tensorrt.log import start, tensorrt_log

_SHOWN_ERRORS = 3


def build_engine(trt: Any, graph: bytes, arguments: BuildArguments) -> bytes:
    """Build an engine for the GPU of this machine.

    Args:
        trt: the `tensorrt` module.
        graph: an ONNX file.
        arguments: what this version must be told; see `build_arguments`.

    Raises:
        RuntimeUnavailableError: TensorRT does not start, as without a GPU.
        InferenceError: TensorRT cannot parse or build the graph; the message has its first errors.
    """
    builder, log = start(trt, "Builder"), tensorrt_log(trt)
    network = builder.create_network(_bits(trt, arguments))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)][:_SHOWN_ERRORS]
        raise _failure(trt, "does not parse the graph", " ".join("; ".join(errors).split()) or log.take())
    engine = builder.build_serialized_network(network, _make_config(trt, builder, arguments))
    if engine is None:
        raise _failure(trt, "parses the graph but cannot build it", log.take())
    return bytes(engine)


def _bits(trt: Any, arguments: BuildArguments) -> int:
    flags = [int(getattr(trt.NetworkDefinitionCreationFlag, name)) for name in arguments.network_flags]
    return sum(1 << flag for flag in flags)


def _make_config(trt: Any, builder: Any, arguments: BuildArguments) -> Any:
    config = builder.create_builder_config()
    # The engine inspector then tells the precision of each layer; speed does not change.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for name in arguments.builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    if arguments.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, arguments.workspace_bytes)
    return config


def _failure(trt: Any, what: str, said: str) -> InferenceError:
    advice = "Type `blendmask check M.bmz --target T` for its limits."
    if is_out_of_memory(said):
        less = "blendmask compile M.bmz --target T --workspace 256"
        advice = f"{FREE_MEMORY} Or let each layer have less of it: {less}"
    return InferenceError(f"TensorRT {trt.__version__} {what}: {said}. {advice}")
