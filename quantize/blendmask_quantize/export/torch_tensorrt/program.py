"""Programs for Torch-TensorRT (Dynamo): straight from a quantized network, or from a graph of a bundle.

Not yet run on a device: tests convert whole networks by the real converters and build them by TensorRT-RTX, which needs
no GPU; see docs/targets.
"""

from __future__ import annotations

import importlib
import io
from typing import Any

import torch
from torch.export.passes import move_to_device_pass

from blendmask_edge.errors import InferenceError
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_edge.storage.temporary import scratch_folder
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.torch_tensorrt.api_family import ApiFamily, family_of, require_known
from blendmask_quantize.export.torch_tensorrt.from_network import ExplicitNetwork
from blendmask_quantize.export.torch_tensorrt.from_onnx import OnnxModule
from blendmask_quantize.export.torch_tensorrt.quantize_op import define_quantize_op, quantize

Program = torch.export.ExportedProgram


def export_network(graph: DeployableGraph, *, half: bool = False) -> Program:
    """The torch program of a quantized network, on the CPU, its rounding in the operator that Torch-TensorRT converts.

    Args:
        graph: with a network of the `tensorrt` variant, and static shapes.
        half: whether what is not quantized is cast to float16, see `ExplicitNetwork`.

    Raises:
        DependencyError: nvidia-modelopt is not installed.
    """
    define_quantize_op()
    module = ExplicitNetwork(graph, quantize, half=half)
    with torch.no_grad():
        return torch.export.export(module, module.examples, strict=False)


def export_program(graph: bytes, device: str = "cpu") -> Program:
    """The torch program of a graph, its rounding in the operator that Torch-TensorRT converts.

    Args:
        graph: an ONNX file of the `tensorrt` or `float` variant.
        device: where the program's constants lie.

    Raises:
        BundleError: no such graph.
        DependencyError: nvidia-modelopt is not installed.
    """
    define_quantize_op()
    module = OnnxModule(graph, quantize).eval().to(device)
    examples = tuple(example.to(device) for example in module.examples)
    with torch.no_grad():
        return torch.export.export(module, examples, strict=False)


def export_here(graph: DeployableGraph) -> bytes:
    """The program of a quantized network for the Torch-TensorRT of this environment, as a file.

    Args:
        graph: as for `export_network`.

    Raises:
        InferenceError: Torch-TensorRT is too old.
        DependencyError: nvidia-modelopt is not installed.
    """
    return to_bytes(export_network(graph, half=not _Compiler().family.takes_flags))


def compile_exported(program: bytes, workspace_bytes: int | None = None, device: str = "cuda") -> bytes:
    """Compile what `export_here` gave for the GPU here; return what `torch_tensorrt.load` reads.

    Args:
        program: from `export_here`.
        workspace_bytes, device: as for `compile_program`.

    Raises:
        InferenceError, DependencyError: as `compile_program`.
    """
    compiler = _Compiler()
    return compiler.compile(move_to_device_pass(from_bytes(program), device), "int8", workspace_bytes, device)


def compile_program(graph: bytes, precision: str, workspace_bytes: int | None, device: str = "cuda") -> bytes:
    """Compile a graph for the GPU here; return what `torch_tensorrt.load` reads, an exported program.

    What is not quantized runs in half: by a flag, or by casts where there is none.

    Args:
        graph: as for `export_program`.
        precision: "int8" or "fp32", which is what the graph is.
        workspace_bytes: memory that the builder may give to one layer; None leaves it to TensorRT.
        device: as for `export_program`.

    Raises:
        InferenceError: Torch-TensorRT is too old, refuses the program, or would leave a part of it to torch.
        BundleError, DependencyError: as `export_program`.
    """
    compiler = _Compiler()
    if precision == "int8" and not compiler.family.takes_flags:
        graph = half_remainder(graph)
    return compiler.compile(export_program(graph, device), precision, workspace_bytes, device)


class _Compiler:
    """The Torch-TensorRT of this environment."""

    def __init__(self) -> None:
        define_quantize_op()
        self._module: Any = importlib.import_module("torch_tensorrt")
        self.family: ApiFamily = family_of(self._module.__version__)

    def compile(self, program: Program, precision: str, workspace_bytes: int | None, device: str) -> bytes:
        """Compile a program whole, see `compile_program`."""
        compile_function, version = self._module.dynamo.compile, self._module.__version__
        arguments = self.family.arguments(precision, workspace_bytes)
        require_known(compile_function, {**arguments, "arg_inputs": ()}, version)
        inputs = [example.to(device) for example in program.example_inputs[0]]
        try:
            compiled = compile_function(program, arg_inputs=inputs, **arguments)
            with scratch_folder() as folder:
                path = folder / "program.ep"
                self._module.save(compiled, str(path), output_format="exported_program", arg_inputs=inputs)
                return path.read_bytes()
        except Exception as error:  # torch's own errors and TensorRT's share no base narrower than this
            raise InferenceError(
                f"Torch-TensorRT {version} cannot compile the graph: {error}. Take --runtime tensorrt, and report it."
            ) from error


def to_bytes(program: Program) -> bytes:
    """A program as a file, which `from_bytes` reads."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def from_bytes(data: bytes) -> Program:
    """The program that `to_bytes` wrote.

    Raises:
        DependencyError: nvidia-modelopt is not installed.
    """
    define_quantize_op()
    return torch.export.load(io.BytesIO(data))
