"""Options of `compile`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.architectures import Precision
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions

_MIB = 2**20
_MOST_MIB = 2**20


@dataclass(frozen=True)
class CompileOptions:
    """Options of an engine.

    Attributes:
        precision: "int8" uses the tensorrt graph, "fp16" and "fp32" the float graph.
        workspace_mib: memory limit of one layer during the build, in MiB; None takes TensorRT's default, or reuses an
            engine that was built with any limit.
        runtime: "tensorrt" or "torch_tensorrt".
    """

    precision: Precision = "int8"
    workspace_mib: Optional[int] = None
    runtime: str = "tensorrt"

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            ConfigError: workspace_mib is less than 1, or the runtime does not compile.
        """
        if self.runtime not in ("tensorrt", "torch_tensorrt"):
            raise ConfigError(f"Runtime {self.runtime!r} does not compile. Expected tensorrt or torch_tensorrt.")
        if self.workspace_mib is not None and not _is_size(self.workspace_mib):
            raise ConfigError(
                f"workspace_mib is {self.workspace_mib!r}, expected an integer of 1 or more and at most "
                f"{_MOST_MIB}. Leave it out for TensorRT's default."
            )

    @property
    def engine(self) -> EngineOptions:
        """Options of the builder, with the workspace in bytes."""
        return EngineOptions(self.precision, None if self.workspace_mib is None else int(self.workspace_mib) * _MIB)


def _is_size(value: object) -> bool:
    return is_integer(value, 1, _MOST_MIB)
