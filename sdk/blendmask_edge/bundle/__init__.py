"""The .bmz format: a zip file with a manifest and the graphs that it describes."""

from __future__ import annotations

from blendmask_edge.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Calibration,
    CalibrationImage,
    GraphEntry,
    InputSpec,
    Manifest,
    Measurement,
    Nms,
    Recipe,
    decode_manifest,
    encode_manifest,
)
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.bundle.tensors import (
    EMPTY_CLASS,
    INPUT_NAME,
    OUTPUT_NAMES,
    THRESHOLD_NAME,
    Outputs,
    constant_inputs,
)
from blendmask_edge.bundle.writer import write_bundle

__all__ = [
    "EMPTY_CLASS",
    "INPUT_NAME",
    "MANIFEST_NAME",
    "OUTPUT_NAMES",
    "SCHEMA_VERSION",
    "THRESHOLD_NAME",
    "Bundle",
    "Calibration",
    "CalibrationImage",
    "GraphEntry",
    "InputSpec",
    "Manifest",
    "Measurement",
    "Nms",
    "Outputs",
    "Recipe",
    "constant_inputs",
    "decode_manifest",
    "encode_manifest",
    "write_bundle",
]
