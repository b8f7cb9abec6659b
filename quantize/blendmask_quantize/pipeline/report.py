"""The report of `quantize`, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blendmask_edge.evaluation.display_threshold import DisplayThreshold
from blendmask_quantize.export.parity import Parity
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.candidate import Trained
from blendmask_quantize.quantization.refine.steps import Outcome
from blendmask_quantize.validation.fidelity import Fidelity


@dataclass(frozen=True)
class VariantReport:
    """One graph.

    Attributes:
        size_bytes: of its ONNX.
        parity: with its torch graph.
        metrics: accuracy by name; empty if it was not measured.
        latency_p50_ms: None if it was not timed.
        fidelity: distance from the float graph; None for that graph itself.
    """

    size_bytes: int
    parity: Parity
    metrics: dict[str, float]
    latency_p50_ms: float | None
    fidelity: Fidelity | None


@dataclass(frozen=True)
class Report:
    """What `quantize` did.

    Attributes:
        bundle: path of the file.
        variants: by name, `float` included for comparison.
        speedup: median latency of `float` over that of `cpu`, on the same frames; NaN if they could not be timed.
        calibration: the images that were used, and findings of the guard.
        refined: result of each refinement step.
        training: results of pruning and training, by name: "pruning", "qat".
        display: the threshold for showing instances, by default those of the bundle; None where it was not measured.
        unmeasured: why accuracy could not be measured after all; empty where it was, or was not asked for.
    """

    bundle: Path
    variants: dict[str, VariantReport]
    speedup: float
    calibration: CalibrationReport
    refined: tuple[Outcome, ...] = ()
    training: Mapping[str, Trained] = field(default_factory=dict)
    display: DisplayThreshold | None = None
    unmeasured: str = ""

    @property
    def how_to_measure(self) -> str:
        """What to do where accuracy could not be measured."""
        return how_to_measure(self.bundle)


def how_to_measure(bundle: Path) -> str:
    """What to tell a user whose bundle could not be measured."""
    return (
        f"{bundle} is complete but states no metrics; measure it with blendmask evaluate {bundle} --images DIR "
        "--annotations JSON"
    )
