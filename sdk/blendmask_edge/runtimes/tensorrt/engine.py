"""Build the engine of an ONNX graph for the GPU of this machine, or find it in the cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from blendmask_edge.bundle.onnx_facts import read_onnx
from blendmask_edge.hardware.architectures import architecture_of
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import Engine, EngineKey, engine_cache, find_engine
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions, build_arguments
from blendmask_edge.runtimes.tensorrt.builder import build_engine
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_edge.runtimes.tensorrt.versions import Version
from blendmask_edge.storage.cache import Cache

_DEFAULT = EngineOptions()


@dataclass(frozen=True)
class Toolchain:
    """TensorRT and the GPU of this machine.

    Attributes:
        trt: the `tensorrt` module.
        gpu: the GPU.
    """

    trt: Any
    gpu: Gpu

    @property
    def version(self) -> str:
        """Full version of TensorRT."""
        return str(self.trt.__version__)


def compile_graph(
    graph: bytes, toolchain: Toolchain, cache: Optional[Path] = None, options: EngineOptions = _DEFAULT
) -> Engine:
    """Build the engine of an ONNX file for this GPU, or find it in the cache.

    Args:
        graph: bytes of the ONNX file; it is not checked against the GPU.
        toolchain: TensorRT and the GPU.
        cache: folder for engines; None takes the default.
        options: precision and workspace.

    Raises:
        ConfigError: the architecture of the GPU is unknown.
        InferenceError: TensorRT refuses the graph.
        BundleError: the graph cannot be read.
        OutputError: the cache cannot be written.
    """
    engines, gpu = Cache(cache) if cache is not None else engine_cache(), toolchain.gpu
    arguments = build_arguments(
        Version.parse(toolchain.version), options, architecture_of(gpu), read_onnx(graph).holds_half
    )
    digest = hashlib.sha256(graph).hexdigest()
    key = EngineKey(digest, gpu.sm, toolchain.version, gpu.driver, arguments.as_dict(), arguments.workspace_bytes)
    built = find_engine(engines, key)
    if built is not None:
        return Engine(engines.path(built), key, reused=True)
    engines.check()
    built_from = half_remainder(graph) if arguments.half_remainder else graph
    path = engines.write(key.file_name, build_engine(toolchain.trt, built_from, arguments))
    return Engine(path, key, reused=False)
