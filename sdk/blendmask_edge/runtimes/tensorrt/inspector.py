"""The layers of an engine, from TensorRT's inspector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blendmask_edge.errors import InferenceError
from blendmask_edge.runtimes.tensorrt.log import start, tensorrt_log


def layer_information(trt: Any, path: Path, data: bytes) -> str:
    """Return what the engine inspector tells of an engine, as JSON.

    Args:
        trt: the `tensorrt` module.
        path: where the engine lies, for messages.
        data: the serialized engine.

    Raises:
        RuntimeUnavailableError: TensorRT does not start.
        InferenceError: the engine is not for this TensorRT and GPU.
    """
    runtime = start(trt, "Runtime")
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise InferenceError(
            f"TensorRT {trt.__version__} refuses the engine {path}: {tensorrt_log(trt).take()}. Remove it and run "
            "again: it is then built anew."
        )
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
