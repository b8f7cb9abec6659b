"""The question that every rule of a check answers a part of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.onnx_facts import OnnxFacts
from blendmask_edge.devices.table import JetPack, Table, Target, TorchTensorRT
from blendmask_edge.hardware.architectures import Architecture, Precision
from blendmask_edge.runtimes.tensorrt.versions import Version

COMPILING_RUNTIMES = ("tensorrt", "torch_tensorrt")
"""Those that `blendmask compile` compiles for."""
ONNXRUNTIME_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")
GPU_RUNTIMES = (*COMPILING_RUNTIMES, *ONNXRUNTIME_GPU)


@dataclass(frozen=True)
class Case:
    """Input of the rules: a bundle, a target, and a way to run the one on the other.

    variant: the graph that the way takes, held by the bundle or not.
    facts: of that graph, or of one that stands in for it where the bundle lacks it; None where no graph is taken.
    tensorrt: version; None on CPUs.   release: the Torch-TensorRT in use, if any.
    """

    table: Table
    target: Target
    manifest: Manifest
    runtime: str
    precision: Precision
    variant: Optional[str]
    facts: Optional[OnnxFacts]
    tensorrt: Optional[Version]
    release: Optional[TorchTensorRT]

    @property
    def architecture(self) -> Optional[Architecture]:
        """Capabilities of the target's GPU, unless the work is done by a CPU."""
        return self.table.architecture_of(self.target) if self.runtime in GPU_RUNTIMES else None

    @property
    def holds_variant(self) -> bool:
        """Whether the bundle has the graph that the way takes."""
        return self.variant in self.manifest.graphs

    @property
    def jetpack(self) -> Optional[JetPack]:
        """The JetPack line that carries the TensorRT version."""
        rows = self.table.jetpacks_of(self.target)
        return next((row for row in rows if self.tensorrt is not None and carries(row, self.tensorrt)), None)


def carries(row: JetPack, version: Version) -> bool:
    """Whether a JetPack line has this version of TensorRT, or may be given it."""
    shipped = Version.parse(row.tensorrt.value)
    last = Version.parse(row.tensorrt_last.value) if row.tensorrt_last is not None else shipped
    return version.same_release(shipped) or (version.at_least(shipped) and version.up_to(last))
