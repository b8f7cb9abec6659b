"""The report of `quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blendmask_edge.bundle.manifest import Measurement
from blendmask_edge.evaluation.display_threshold import DisplayThreshold
from blendmask_quantize.export.parity import Parity
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.candidate import Trained
from blendmask_quantize.quantization.refine.steps import Outcome
from blendmask_quantize.validation.fidelity import Fidelity


@dataclass(frozen=True)
class VariantReport:
    """Size, accuracy and speed of one graph.

    Attributes:
        size_bytes: size of the ONNX file in bytes.
        parity: comparison with the graph in PyTorch.
        metrics: average precision, 0 to 1, by name; empty if it was not measured.
        latency_p50_ms: median time from image to instances in milliseconds; None if it was not measured.
        fidelity: comparison with the float graph; None for the float graph.
    """

    size_bytes: int
    parity: Parity
    metrics: dict[str, float]
    latency_p50_ms: float | None
    fidelity: Fidelity | None


@dataclass(frozen=True)
class Report:
    """Result of `quantize`.

    Attributes:
        bundle: path of the bundle.
        variants: reports by variant: "cpu", "tensorrt", and "float" for comparison.
        speedup: median latency of the float graph over that of the "cpu" graph, on the same frames; NaN if they could
            not be timed.
        calibration: the calibration images and the findings of their checks.
        refined: outcome of each refinement step.
        training: reports of pruning and training by name: "pruning", "qat".
        display: display threshold chosen on the evaluation images; None if it was not measured.
        arithmetic: accuracy of the `tensorrt` graph in each arithmetic that a GPU may use, by name; empty unless it was
            requested.
        unmeasured: why the requested evaluation failed; empty if it succeeded or was not requested.
        program: the network compiled by Torch-TensorRT for this machine, in the cache; None if it was not requested.
        not_compiled: why that failed; empty if it succeeded or was not requested.
    """

    bundle: Path
    variants: dict[str, VariantReport]
    speedup: float
    calibration: CalibrationReport
    refined: tuple[Outcome, ...] = ()
    training: Mapping[str, Trained] = field(default_factory=dict)
    display: DisplayThreshold | None = None
    arithmetic: Mapping[str, Measurement] = field(default_factory=dict)
    unmeasured: str = ""
    program: Path | None = None
    not_compiled: str = ""

    @property
    def how_to_measure(self) -> str:
        """Advice for a bundle whose accuracy could not be measured."""
        return how_to_measure(self.bundle)


def how_to_measure(bundle: Path) -> str:
    """Return advice for a bundle whose accuracy could not be measured."""
    return (
        f"{bundle} is complete but has no metrics; measure it with blendmask evaluate {bundle} --images DIR "
        "--annotations JSON"
    )
