"""Programs for Torch-TensorRT (Dynamo), from a graph of a bundle.

Torch-TensorRT converts one operator of explicit quantization, `tensorrt::quantize_op`, which nvidia-modelopt brings: a
QUANTIZE and a DEQUANTIZE layer with scale amax / 127. Not yet run on a device: tests convert whole networks by the real
converters and build them by TensorRT-RTX, which needs no GPU; see docs/targets.
"""

from __future__ import annotations

import importlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blendmask_edge.errors import DependencyError, InferenceError, install_command
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.torch_tensorrt.from_onnx import OnnxModule, round_to_steps

_FLAGLESS = (2, 10)
"""From this Torch-TensorRT on precisions come from the program alone; before, they are asked for."""
_FLAGS = {"int8": (torch.float32, torch.float16, torch.int8), "fp32": (torch.float32,)}


def export_program(graph: bytes, device: str = "cpu") -> torch.export.ExportedProgram:
    """The torch program of a graph, its rounding in the operator that Torch-TensorRT converts.

    Args:
        graph: an ONNX file of the `tensorrt` or `float` variant.
        device: where the program's constants lie.

    Raises:
        BundleError: no such graph.
        DependencyError: nvidia-modelopt is not installed.
    """
    define_quantize_op()
    module = OnnxModule(graph, _quantize).eval().to(device)
    examples = tuple(example.to(device) for example in module.examples)
    with torch.no_grad():
        return torch.export.export(module, examples, strict=False)


def compile_program(graph: bytes, precision: str, workspace_bytes: int | None, device: str = "cuda") -> bytes:
    """Compile a graph for the GPU here; return what `torch_tensorrt.load` reads, an exported program.

    What is not quantized runs in half: by a flag, or by casts where there is none.

    Args:
        graph: as for `export_program`.
        precision: "int8" or "fp32", which is what the graph is.
        workspace_bytes: memory that the builder may give to one layer; None leaves it to TensorRT.
        device: as for `export_program`.

    Raises:
        InferenceError: Torch-TensorRT refuses the program, or would leave a part of it to torch.
        BundleError, DependencyError: as `export_program`.
    """
    define_quantize_op()
    torch_tensorrt = importlib.import_module("torch_tensorrt")
    if precision == "int8" and not takes_flags(torch_tensorrt.__version__):
        graph = half_remainder(graph)
    program = export_program(graph, device)
    arguments = compile_arguments(torch_tensorrt.__version__, precision, workspace_bytes)
    inputs = list(program.example_inputs[0])
    try:
        compiled = torch_tensorrt.dynamo.compile(program, arg_inputs=inputs, **arguments)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "program.ep"
            torch_tensorrt.save(compiled, str(path), output_format="exported_program", arg_inputs=inputs)
            return path.read_bytes()
    except Exception as error:  # torch's own errors and TensorRT's share no base narrower than this
        raise InferenceError(
            f"Torch-TensorRT {torch_tensorrt.__version__} cannot compile the graph: {error}. Take --runtime tensorrt, "
            "and report it."
        ) from error


def compile_arguments(version: str, precision: str, workspace_bytes: int | None = None) -> dict[str, Any]:
    """What a Torch-TensorRT from 2.8 on must be told; newer ones swallow what they do not know.

    Args:
        version: of Torch-TensorRT.
        precision, workspace_bytes: as for `compile_program`.
    """
    arguments: dict[str, Any] = {"require_full_compilation": True, "min_block_size": 1}
    if workspace_bytes is not None:
        arguments["workspace_size"] = workspace_bytes
    if takes_flags(version):
        arguments["enabled_precisions"] = set(_FLAGS[precision])
    return arguments


def takes_flags(version: str) -> bool:
    """Whether a Torch-TensorRT is asked for precisions; newer ones take them from the program alone."""
    return tuple(int(part) for part in version.split(".")[:2]) < _FLAGLESS


@cache
def define_quantize_op() -> torch.library.Library:
    """Define `tensorrt::quantize_op`, computed by torch, before Torch-TensorRT is imported.

    modelopt computes it by a CUDA extension which it compiles when first used; Torch-TensorRT calls it to look for
    constants to fold, also where there is no compiler.

    Raises:
        DependencyError: nvidia-modelopt is not installed or does not start.
    """
    try:
        importlib.import_module("modelopt.torch.quantization")
    except ImportError as error:
        raise DependencyError(
            f"nvidia-modelopt cannot be imported: {error}. Type: {install_command('torch-tensorrt')}"
        ) from error
    library = torch.library.Library("tensorrt", "IMPL")
    for device in ("CPU", "CUDA"):
        library.impl("quantize_op", _compute, device, allow_override=True)
    return library


def _quantize(x: Tensor, scale: Tensor) -> Tensor:
    """One scale must be a scalar, even of a weight with one channel, several must lie along the axis they are for."""
    amax = scale * 127
    amax = amax.reshape(()) if amax.numel() == 1 else amax.reshape(-1, *[1] * (x.ndim - 1))
    return torch.ops.tensorrt.quantize_op(x, amax, 8, 0, False, False)


def _compute(
    x: Tensor, amax: Tensor, num_bits: int = 8, exponent_bits: int = 0, unsigned: bool = False,
    narrow_range: bool = False,
) -> Tensor:  # fmt: skip
    assert (num_bits, exponent_bits, unsigned, narrow_range) == (8, 0, False, False)
    return round_to_steps(x, (amax if amax.ndim == 0 else amax.flatten()) / 127)
