"""What the SDK calls in TensorRT, by class: each method with the number of arguments that it is given.

The table is held to the sources, the stand-ins and the real modules: no stand-in has what TensorRT lacks.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import blendmask_edge.runtimes.tensorrt as package

PROPERTY = -1
BUILDING: Dict[str, int] = {
    "Builder.__init__": 1,
    "Builder.create_network": 1,
    "Builder.create_builder_config": 0,
    "Builder.build_serialized_network": 2,
    "OnnxParser.__init__": 2,
    "OnnxParser.parse": 1,
    "OnnxParser.num_errors": PROPERTY,
    "OnnxParser.get_error": 1,
    "ParserError.desc": 0,
    "IBuilderConfig.set_flag": 1,
    "IBuilderConfig.set_memory_pool_limit": 2,
    "IBuilderConfig.profiling_verbosity": PROPERTY,
}
INSPECTING: Dict[str, int] = {
    "ICudaEngine.create_engine_inspector": 0,
    "EngineInspector.get_engine_information": 1,
}
"""Lean runtimes lack these and those above."""
RUNNING: Dict[str, int] = {
    "Runtime.__init__": 1,
    "Runtime.deserialize_cuda_engine": 1,
    "ICudaEngine.num_io_tensors": PROPERTY,
    "ICudaEngine.get_tensor_name": 1,
    "ICudaEngine.get_tensor_mode": 1,
    "ICudaEngine.get_tensor_shape": 1,
    "ICudaEngine.get_tensor_dtype": 1,
    "ICudaEngine.create_execution_context": 0,
    "IExecutionContext.set_tensor_address": 2,
    "IExecutionContext.execute_async_v3": 1,
    "ILogger.__init__": 0,
}
MEMBERS: Dict[str, Set[str]] = {
    "ILogger.Severity": {"INTERNAL_ERROR", "ERROR", "WARNING"},
    "TensorIOMode": {"INPUT"},
    "DataType": {"UINT8", "FLOAT", "HALF", "INT32"},
    "MemoryPoolType": {"WORKSPACE"},
    "ProfilingVerbosity": {"DETAILED"},
    "LayerInformationFormat": {"JSON"},
}
_VARIABLES = {
    "builder",
    "network",
    "parser",
    "config",
    "engine",
    "runtime",
    "inspector",
    "_engine",
    "_context",
    "_runtime",
}


def called_in_sources() -> Set[str]:
    """Return the names that the SDK's sources look up on TensorRT's objects, without those of the module itself."""
    names: Set[str] = set()
    for path in Path(str(package.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and _holder(node.value) in _VARIABLES:
                names.add(node.attr)
    return names


def _holder(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) else ""


def problems(module: Any, calls: Dict[str, int]) -> List[str]:
    """Return what `module`, real or a stand-in, lacks of `calls`, or takes with other numbers of arguments."""
    found: List[str] = []
    for call, count in calls.items():
        owner, name = call.split(".")
        attribute = getattr(getattr(module, owner, None), name, None)
        if attribute is None:
            found.append(f"{call} is missing")
        elif count != PROPERTY and not _takes(attribute, name, count):
            found.append(f"{call} does not take {count} arguments: {inspect.getdoc(attribute)}")
    return found


def _takes(function: Any, name: str, count: int) -> bool:
    """Whether a method takes so many arguments beside self; pybind11 tells in the docstring, one line an overload."""
    try:
        inspect.signature(function).bind(None, *range(count))
        return True
    except TypeError:
        return False
    except ValueError:
        pass
    lines = re.findall(rf"\b{name}\(self: [\w.]+(?:, )?(.*)\) ->", inspect.getdoc(function) or "")
    return any(_required(line) <= count <= _all(line) for line in lines)


def _arguments(line: str) -> List[str]:
    return [part for part in re.split(r", (?=\w+: )", line) if part]


def _all(line: str) -> int:
    return len(_arguments(line))


def _required(line: str) -> int:
    return sum(" = " not in part for part in _arguments(line))
