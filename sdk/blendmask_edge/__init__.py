"""Predict instance masks with BlendMask on edge devices.

    from blendmask_edge import MaskPredictor, read_image

    with MaskPredictor("model.bmz") as predictor:
        image = read_image("scene.jpg")
        instances = predictor(image)
    for name, score, box in zip(instances.class_names, instances.scores, instances.boxes):
        print(f"{name} {score:.2f} at {box.round()}")

The public API consists of the names in `__all__` with their documented arguments and attributes, the `blendmask`
command line and the .bmz format. Changes are announced in CHANGELOG.md, and an old name works for one more release. All
other modules are internal.

Names are loaded on first use: importing this package loads neither a runtime nor OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from blendmask_edge.errors import (
    AnnotationError,
    BaselineError,
    BlendMaskError,
    BundleError,
    CalibrationError,
    CheckpointError,
    ClosedError,
    ConfigError,
    DependencyError,
    DisturbedError,
    ImageError,
    InferenceError,
    InstancesError,
    OutputError,
    RegressionError,
    RuntimeUnavailableError,
    SignatureError,
    SourceError,
    WorkerError,
)
from blendmask_edge.runtimes.telemetry import disable_onnxruntime_telemetry

if TYPE_CHECKING:
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.bundle.signature import require_signature
    from blendmask_edge.bundle.signing import sign_bundle
    from blendmask_edge.comparison.compare import compare
    from blendmask_edge.compilation.compiler import compile
    from blendmask_edge.devices.check import check
    from blendmask_edge.devices.roofline import estimate
    from blendmask_edge.imaging import read_image
    from blendmask_edge.instances import Instances
    from blendmask_edge.integrations.tracking import Tracker
    from blendmask_edge.labels import Labels
    from blendmask_edge.predictor import MaskPredictor
    from blendmask_edge.report.api import write_report
    from blendmask_edge.runtimes.registry import available_runtimes

    __version__: str

_LAZY = {
    "Bundle": "blendmask_edge.bundle.reader",
    "Instances": "blendmask_edge.instances",
    "Labels": "blendmask_edge.labels",
    "MaskPredictor": "blendmask_edge.predictor",
    "Tracker": "blendmask_edge.integrations.tracking",
    "available_runtimes": "blendmask_edge.runtimes.registry",
    "check": "blendmask_edge.devices.check",
    "compare": "blendmask_edge.comparison.compare",
    "compile": "blendmask_edge.compilation.compiler",
    "estimate": "blendmask_edge.devices.roofline",
    "read_image": "blendmask_edge.imaging",
    "require_signature": "blendmask_edge.bundle.signature",
    "sign_bundle": "blendmask_edge.bundle.signing",
    "write_report": "blendmask_edge.report.api",
}

__all__ = [
    "AnnotationError",
    "BaselineError",
    "BlendMaskError",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "DependencyError",
    "DisturbedError",
    "ImageError",
    "InferenceError",
    "Instances",
    "InstancesError",
    "Labels",
    "MaskPredictor",
    "OutputError",
    "RegressionError",
    "RuntimeUnavailableError",
    "SignatureError",
    "SourceError",
    "Tracker",
    "WorkerError",
    "__version__",
    "available_runtimes",
    "check",
    "compare",
    "compile",
    "estimate",
    "read_image",
    "require_signature",
    "sign_bundle",
    "write_report",
]


disable_onnxruntime_telemetry()  # before anything imports it


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    import importlib

    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("blendmask-edge")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    """Return all public names."""
    return sorted({*globals(), *__all__})
