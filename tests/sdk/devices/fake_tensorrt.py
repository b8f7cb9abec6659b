"""A TensorRT that records what it is told, with the names that its version has and no others."""

from __future__ import annotations

import enum
import types
from typing import Any, List, Tuple

GRAPH_ERROR = "UNSUPPORTED_NODE: no importer for Fancy\nin node 7"
BUILD_ERROR = "Could not find any implementation for node 7"


class ILogger:
    """The base of loggers."""

    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")


def make_tensorrt(version: str, parses: bool = True, builds: bool = True) -> Any:
    """Return a module to stand for `tensorrt` of a version; `calls` holds what was asked of it, in order."""
    major = int(version.split(".")[0])
    module: Any = types.ModuleType("tensorrt")
    module.__version__ = version
    module.ILogger = ILogger
    module.calls = []
    module.NetworkDefinitionCreationFlag = types.SimpleNamespace()
    module.BuilderFlag = types.SimpleNamespace(TF32="TF32", SPARSE_WEIGHTS="SPARSE_WEIGHTS")
    module.ProfilingVerbosity = types.SimpleNamespace(DETAILED="DETAILED")
    module.MemoryPoolType = types.SimpleNamespace(WORKSPACE="WORKSPACE")
    if major < 11:
        module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH = 0
        module.BuilderFlag.FP16, module.BuilderFlag.INT8 = "FP16", "INT8"
    if major >= 10:
        module.NetworkDefinitionCreationFlag.STRONGLY_TYPED = 1
    module.Builder, module.OnnxParser = _classes(module, parses, builds)
    return module


def _classes(module: Any, parses: bool, builds: bool) -> Tuple[Any, Any]:
    class Config:
        profiling_verbosity = ""

        def set_flag(self, flag: str) -> None:
            module.calls.append(("flag", flag))

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            module.calls.append((pool, size))

    class Builder:
        def __init__(self, log: Any) -> None:
            self._log = log

        def create_network(self, flags: int) -> str:
            module.calls.append(("network", flags))
            return "network"

        def create_builder_config(self) -> Config:
            return Config()

        def build_serialized_network(self, network: str, config: Config) -> Any:
            assert (network, type(config)) == ("network", Config)
            module.calls.append(("verbosity", config.profiling_verbosity))
            self._log.log(ILogger.Severity.WARNING, "a warning that matters to nobody")
            if builds:
                return memoryview(b"engine of " + module.__version__.encode())
            self._log.log(ILogger.Severity.ERROR, BUILD_ERROR)
            return None

    class OnnxParser:
        num_errors = 0 if parses else 1

        def __init__(self, network: str, log: Any) -> None:
            assert network == "network"
            assert isinstance(log, ILogger)

        def parse(self, graph: bytes) -> bool:
            module.calls.append(("graph", graph))
            return parses

        def get_error(self, number: int) -> Any:
            assert number == 0
            return types.SimpleNamespace(desc=lambda: GRAPH_ERROR)

    return Builder, OnnxParser


def flags_of(module: Any) -> List[str]:
    """Return the builder flags that were set, in order."""
    return [value for name, value in module.calls if name == "flag"]
