"""Arguments for building an engine with each version of TensorRT. Pure functions: no TensorRT is needed to test them.

TensorRT 8.5 and 8.6 take FP16 and INT8 as flags of the builder. TensorRT 10 takes the same flags, or none and then all
precisions from the graph ("strongly typed"). TensorRT 11 takes precisions from the graph alone and has no such flags.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Optional, Tuple

from blendmask_edge.devices.table import Architecture, Precision, Table
from blendmask_edge.devices.versions import Version
from blendmask_edge.errors import ConfigError

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
    def workspace_bytes(self) -> Optional[int]:
        """The workspace in bytes."""
        return self.workspace_mib * _MIB if self.workspace_mib is not None else None


@dataclass(frozen=True)
class BuildArguments:
    """Arguments of one build.

    network_flags: names in `NetworkDefinitionCreationFlag`.
    builder_flags: names in `BuilderFlag`.
    workspace_bytes: limit of the workspace pool; None leaves it to TensorRT.
    """

    network_flags: Tuple[str, ...]
    builder_flags: Tuple[str, ...]
    workspace_bytes: Optional[int]

    def as_dict(self) -> Dict[str, object]:
        """Return the arguments by name, as they enter the key of the engine cache; the workspace is apart there."""
        return {name: value for name, value in asdict(self).items() if name != "workspace_bytes"}


def build_arguments(
    version: Version, options: CompileOptions, architecture: Architecture, holds_half: bool, table: Table
) -> BuildArguments:
    """Return the build arguments for a version of TensorRT.

    Args:
        version: of TensorRT.
        options: precision, workspace and runtime.
        architecture: of the GPU that the engine is for.
        holds_half: whether the graph itself has FP16 weights or scales.
        table: the table of devices.
    """
    limits = table.limits
    flags = _precision_flags(options.precision, architecture) if not holds_half else ()
    takes_flags = version.up_to(Version.parse(limits.weak_typing_last.value))
    network: Tuple[str, ...] = ()
    if version.up_to(Version.parse(limits.explicit_batch_last.value)):
        network = ("EXPLICIT_BATCH",)
        flags = _precision_flags(options.precision, architecture)
    elif takes_flags and not flags and version.at_least(Version.parse(limits.strong_typing_first.value)):
        network = ("STRONGLY_TYPED",)
    return BuildArguments(network, flags if takes_flags else (), options.workspace_bytes)


def _precision_flags(precision: Precision, architecture: Architecture) -> Tuple[str, ...]:
    """INT8 alone leaves layers that are not quantized in FP32, so FP16 goes with it where it is fast."""
    half = ("FP16",) if architecture.fp16.value != "slow" else ()
    return {"int8": ("INT8", *half), "fp16": ("FP16",), "fp32": ()}[precision]
