"""The manifest of a bundle made here."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import msgspec

from blendmask_calibration.estimators import Range
from blendmask_calibration.record import CalibrationRecord
from blendmask_edge.bundle.manifest import (
    DEFAULT_DISPLAY_THRESHOLD,
    Calibration,
    Fidelity,
    GraphEntry,
    InputSpec,
    Manifest,
    Measurement,
    Nms,
)
from blendmask_edge.bundle.manifest import Recipe as RecipeEntry
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.onnx import OPSET
from blendmask_quantize.model.predictor import pad_value

_VERSIONED = ("blendmask-edge", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")
_PRECISIONS = {"float": "float32"}


@dataclass(frozen=True)
class Description:
    """The content of a manifest that does not depend on the graphs.

    Attributes:
        checkpoint: where the weights came from.
        size: height and width of the network input.
        bounds: sizes of the selection.
        recipe: its name and version, the options that were not the default, and the results of its stages.
        calibration: which images gave the ranges.
        ranges: by node name.
        license: SPDX name of the model's license.
    """

    checkpoint: Checkpoint
    size: tuple[int, int]
    bounds: Bounds
    recipe: RecipeEntry
    calibration: CalibrationRecord
    ranges: Mapping[str, Range]
    license: str


@dataclass(frozen=True)
class Measured:
    """The measured quality of the graphs of a bundle.

    Attributes:
        accuracy: by variant.
        fidelity: by INT8 variant, distance from the float graph.
        arithmetic: accuracy of the `tensorrt` graph in each arithmetic that a GPU may use, by name.
        display_threshold: score from which instances are shown.
        display_measurement: what that reaches; None where it is the default.
    """

    accuracy: Mapping[str, Measurement] = field(default_factory=dict)
    fidelity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    arithmetic: Mapping[str, Measurement] = field(default_factory=dict)
    display_threshold: float = DEFAULT_DISPLAY_THRESHOLD
    display_measurement: Measurement | None = None


def with_graphs(manifest: Manifest, graphs: Mapping[str, bytes]) -> Manifest:
    """The manifest for other graphs of the same network, by variant."""
    return msgspec.structs.replace(manifest, graphs=_entries(graphs))


def with_measured(
    manifest: Manifest, measured: Measured, calibration: CalibrationRecord, license: str
) -> Manifest:  # fmt: skip
    """The manifest with what was measured of its graphs, and what is known last.

    Args:
        manifest: from `make_manifest` or `with_graphs`.
        measured: also of graphs that the manifest does not have.
        calibration: with the overrides of the user.
        license: SPDX name of the model's license.
    """
    return msgspec.structs.replace(
        manifest,
        calibration=msgspec.convert(calibration.to_dict(), Calibration),
        display_threshold=measured.display_threshold,
        display_measurement=measured.display_measurement,
        metrics={name: [measurement] for name, measurement in measured.accuracy.items() if name in manifest.graphs},
        fidelity=msgspec.convert(measured.fidelity, dict[str, Fidelity]),
        arithmetic=dict(measured.arithmetic),
        license=license,
        created=_now(),
    )


def make_manifest(about: Description, graphs: Mapping[str, bytes]) -> Manifest:
    """The manifest for `graphs`, by variant, without anything measured."""
    config, labels = about.checkpoint.config, about.checkpoint.labels
    inference = config.inference
    return Manifest(
        model=config.name,
        config=msgspec.to_builtins(config),
        input=InputSpec(height=about.size[0], width=about.size[1], pad_value=pad_value(config.input)),
        classes=list(labels.names),
        category_ids=list(labels.category_ids),
        recipe=about.recipe,
        calibration=msgspec.convert(about.calibration.to_dict(), Calibration),
        graphs=_entries(graphs),
        ranges_sha256=ranges_sha256(about.ranges),
        nms=Nms(
            candidates=about.bounds.candidates,
            rounds=about.bounds.rounds,
            iou_threshold=inference.nms_threshold if inference.nms_threshold > 0 else 1.0,  # nothing is suppressed
            per_level_top=inference.candidates_per_level,
        ),
        score_threshold=inference.score_threshold**0.5,
        threshold_input=True,
        detections=about.bounds.detections,
        mask_size=config.resolution,
        versions={name: importlib.metadata.version(name) for name in _VERSIONED},
        license=about.license,
        created=_now(),
        generator=f"blendmask-edge {importlib.metadata.version('blendmask-edge')}",
    )


def _entries(graphs: Mapping[str, bytes]) -> dict[str, GraphEntry]:
    return {
        variant: GraphEntry.describe(variant, data, opset=OPSET, precision=_PRECISIONS.get(variant, "int8"))
        for variant, data in graphs.items()
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def ranges_sha256(ranges: Mapping[str, Range]) -> str:
    """Hash of the calibrated ranges, the same for every variant rendered from them."""
    rows = [[name, bounds.low, bounds.high] for name, bounds in sorted(ranges.items())]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
