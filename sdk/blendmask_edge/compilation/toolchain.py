"""The compilers of this machine: TensorRT or Torch-TensorRT, and the GPU."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

from blendmask_edge.devices.table import Target, load_table
from blendmask_edge.errors import RuntimeUnavailableError
from blendmask_edge.hardware.cuda import Gpu, find_gpu
from blendmask_edge.runtimes.tensorrt.engine import Toolchain

_TORCH_PACKAGES = "torch-tensorrt nvidia-modelopt huggingface_hub requests onnx"
# The workstation's package, which the SDK knows by name only.
_COMPILER = "blendmask_quantize.export.torch_tensorrt.program"


@dataclass(frozen=True)
class TorchToolchain:
    """The installed Torch-TensorRT.

    compiler: module that has `compile_program`: a graph, its precision and the workspace in bytes to a program; and
        `export_here` and `compile_exported`, for what has a network instead of a graph.
    gpu: the GPU.   version: full version of TensorRT.
    """

    compiler: Any
    gpu: Gpu
    version: str


def find_tools(target: Target, bundle: str, runtime: str) -> Union[Toolchain, TorchToolchain]:
    """Return what compiles for `runtime`, "tensorrt" or "torch_tensorrt", and the GPU of this machine.

    Args:
        target: the device that this should be, and `bundle` the file name of a bundle, for the message.

    Raises:
        RuntimeUnavailableError: something is missing; the message says how the target gets it and what to type there.
    """
    return (_find_torch_tensorrt if runtime == "torch_tensorrt" else _find_tensorrt)(target, bundle)


def _find_tensorrt(target: Target, bundle: str) -> Toolchain:
    gpu = find_gpu()
    modules, missing = _import(("tensorrt",))
    if gpu is not None and not missing:
        return Toolchain(modules[0], gpu)
    install = f"{_python_to_take(target)}{target.install.value} ({target.install.mark})"
    raise _cannot_compile(target, bundle, gpu, missing, install, "")


def _python_to_take(target: Target) -> str:
    """Return what to do where TensorRT is for another Python than this, which is the likely cause; empty elsewhere."""
    here, pythons = "{}.{}".format(*sys.version_info[:2]), load_table().pythons_of(target)
    if not pythons or here in pythons:
        return ""
    return (
        f"its TensorRT is for Python {' or '.join(pythons)}, and this is {here}, so make the environment with such a "
        "Python; "
    )


def _find_torch_tensorrt(target: Target, bundle: str) -> TorchToolchain:
    """Torch-TensorRT is imported only where there is a GPU, since it does not start without one."""
    gpu = find_gpu()
    modules, missing = _import((_COMPILER, "torch_tensorrt", "tensorrt") if gpu is not None else (_COMPILER,))
    if gpu is not None and not missing:
        return TorchToolchain(modules[0], gpu, str(modules[2].__version__))
    install, option = f"pip install {_TORCH_PACKAGES}", " --runtime torch_tensorrt"
    raise _cannot_compile(target, bundle, gpu, missing, install, option)


def _import(names: Tuple[str, ...]) -> Tuple[List[Any], List[str]]:
    """Return the modules, and of each that cannot be imported why."""
    modules, missing = [], []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except Exception as error:  # what a broken installation raises on import is not limited to ImportError
            missing.append(f"{name} cannot be imported ({error})")
    return modules, missing


def _cannot_compile(
    target: Target, bundle: str, gpu: Optional[Gpu], missing: List[str], install: str, option: str
) -> RuntimeUnavailableError:
    lacks = missing if gpu is not None else [*missing, "the CUDA driver shows no GPU"]
    name = "Torch-TensorRT" if option else "TensorRT"
    return RuntimeUnavailableError(
        f"Cannot compile on this machine: {' and '.join(lacks)}. An engine is built on the {target.title} itself. "
        f"To get {name} there: {install}. Then copy {bundle} to it and type: "
        f"blendmask compile {bundle} --target {target.name}{option}"
    )
