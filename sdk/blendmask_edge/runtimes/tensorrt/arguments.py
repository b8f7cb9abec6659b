"""Build arguments for each version of TensorRT. Pure functions that do not need TensorRT.

TensorRT 8.5 and 8.6 take FP16 and INT8 as builder flags. TensorRT 10 takes these flags, or all precisions from the
graph ("strongly typed"). TensorRT 11 has no such flags and takes all precisions from the graph, so it gets a graph with
casts where the flag would have been FP16. All of them look for 2:4 sparse weights only where a flag says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Optional, Tuple

from blendmask_edge.hardware.architectures import Architecture, Precision
from blendmask_edge.hardware.facts import Fact
from blendmask_edge.runtimes.tensorrt.versions import Version

EXPLICIT_BATCH_LAST = Fact(
    "9",
    "TensorRT Python API, Builder: from 10.0 on networks are always of explicit batch; the flag is gone in 11.4",
    "documented",
)
"""The last version that must be told so."""
STRONG_TYPING_FIRST = Fact("10", "bindings of 10.3.0 have the flag, those of 8.6.1 do not", "verified")
"""The first version that can take precisions from the graph alone."""
WEAK_TYPING_LAST = Fact(
    "10", "TensorRT 11 migration guide: the FP16 and INT8 flags of the builder are removed", "documented"
)
"""The last version whose builder takes precision flags."""


@dataclass(frozen=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        precision: "int8" for a graph with Q/DQ, "fp16" or "fp32" for a float graph.
        workspace_bytes: memory limit of one layer during the build; None takes TensorRT's default, or reuses an engine
            that was built with any limit.
    """

    precision: Precision = "int8"
    workspace_bytes: Optional[int] = None


@dataclass(frozen=True)
class BuildArguments:
    """Arguments of one build.

    Attributes:
        network_flags: names in `NetworkDefinitionCreationFlag`.
        builder_flags: names in `BuilderFlag`.
        workspace_bytes: limit of the workspace pool; None takes TensorRT's default.
        half_remainder: whether to build the graph that `half_remainder` returns.
    """

    network_flags: Tuple[str, ...]
    builder_flags: Tuple[str, ...]
    workspace_bytes: Optional[int]
    half_remainder: bool = False

    def as_dict(self) -> Dict[str, object]:
        """Return the arguments by name for the key of the engine cache, without the workspace, its own field there."""
        left_out = {"workspace_bytes"} if self.half_remainder else {"workspace_bytes", "half_remainder"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def build_arguments(
    version: Version, options: EngineOptions, architecture: Architecture, holds_half: bool
) -> BuildArguments:
    """Return the build arguments for a version of TensorRT.

    Args:
        version: version of TensorRT.
        options: precision and workspace.
        architecture: architecture of the GPU.
        holds_half: whether the graph has FP16 weights or scales.
    """
    flags = _precision_flags(options.precision, architecture) if not holds_half else ()
    takes_flags = version.up_to(Version.parse(WEAK_TYPING_LAST.value))
    network: Tuple[str, ...] = ()
    if version.up_to(Version.parse(EXPLICIT_BATCH_LAST.value)):
        network = ("EXPLICIT_BATCH",)
        flags = _precision_flags(options.precision, architecture)
    elif takes_flags and not flags and version.at_least(Version.parse(STRONG_TYPING_FIRST.value)):
        network = ("STRONGLY_TYPED",)
    wants_half = options.precision == "fp16" or "FP16" in _precision_flags(options.precision, architecture)
    sparse = ("SPARSE_WEIGHTS",) if options.precision == "int8" and architecture.sparsity.value else ()
    return BuildArguments(
        network_flags=network,
        builder_flags=(*(flags if takes_flags else ()), *sparse),
        workspace_bytes=options.workspace_bytes,
        half_remainder=wants_half and not takes_flags and not holds_half,
    )


def _precision_flags(precision: Precision, architecture: Architecture) -> Tuple[str, ...]:
    """Return the flags; FP16 accompanies INT8 where it is fast, else layers that are not quantized run in FP32."""
    half = ("FP16",) if architecture.fp16.value != "slow" else ()
    return {"int8": ("INT8", *half), "fp16": ("FP16",), "fp32": ()}[precision]
