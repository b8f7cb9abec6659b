"""Options of `compile`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.architectures import Precision
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions

_MIB = 2**20


@dataclass(frozen=True)
class CompileOptions:
    """Options of an engine.

    precision: "int8" builds from the tensorrt graph, "fp16" and "fp32" from the float graph.
    workspace_mib: memory that the builder may give to one layer; None leaves it to TensorRT, or reuses an engine
        built with any.
    runtime: "tensorrt", or "torch_tensorrt" for its program.
    """

    precision: Precision = "int8"
    workspace_mib: Optional[int] = None
    runtime: str = "tensorrt"

    def __post_init__(self) -> None:
        """Refuse a workspace that is none, and a runtime that compiles nothing.

        Raises:
            ConfigError: workspace_mib is less than 1, or no GPU runtime is named.
        """
        if self.runtime not in ("tensorrt", "torch_tensorrt"):
            raise ConfigError(f"Runtime {self.runtime!r} compiles nothing; expected tensorrt or torch_tensorrt.")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise ConfigError(f"The workspace is {self.workspace_mib} MiB, expected 1 or more; leave it out to let be.")

    @property
    def engine(self) -> EngineOptions:
        """The same for the builder, the workspace in bytes."""
        return EngineOptions(self.precision, None if self.workspace_mib is None else self.workspace_mib * _MIB)
