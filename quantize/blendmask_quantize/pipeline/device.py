"""The GPU of this machine, for which Torch-TensorRT compiles the quantized network straight from PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.compilation.compiler import find_torch_tools, store_network
from blendmask_edge.compilation.toolchain import TorchToolchain
from blendmask_edge.devices.table import Target
from blendmask_quantize.export.deployable import DeployableGraph


@dataclass(frozen=True)
class Device:
    """This machine, and its Torch-TensorRT."""

    target: Target
    tools: TorchToolchain

    def export(self, graph: DeployableGraph) -> bytes:
        """The network of the `tensorrt` graph as a program of torch, which `compile` takes."""
        program: bytes = self.tools.compiler.export_here(graph)
        return program

    def compile(self, program: bytes, output: Path) -> Path:
        """Compile a program, and store it where `MaskPredictor` looks for that of a bundle.

        Args:
            program: from `export`.
            output: the bundle whose `tensorrt` graph was exported from the same network.

        Raises:
            ConfigError: this device cannot run the bundle.
            InferenceError: Torch-TensorRT refuses the program.
            OutputError: the cache cannot be written.
        """
        compiler = self.tools.compiler
        bundle = Bundle.open(output)
        return store_network(bundle, self.target, self.tools, lambda: compiler.compile_exported(program)).path


def find_device(target: str, output: Path) -> Device:
    """Find Torch-TensorRT and the GPU.

    Args:
        target: name of this device, as listed by `blendmask targets`.
        output: path of the bundle, for the messages.

    Raises:
        ConfigError: the device is unknown or a CPU, or this machine has another GPU.
        RuntimeUnavailableError: Torch-TensorRT or a GPU is missing.
        OutputError: the cache cannot be written.
    """
    return Device(*find_torch_tools(target, output))
