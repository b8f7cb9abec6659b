"""Keep runtimes from reporting their use over the network, and from writing identifiers into the home folder."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

_ONNX_RUNTIME = "ORT_DISABLE_TELEMETRY"
_OPENVINO = "openvino_telemetry"


def disable_onnxruntime_telemetry() -> None:
    """Let ONNX Runtime report nothing to Microsoft, which it does from its import on; a value that is set stays."""
    os.environ.setdefault(_ONNX_RUNTIME, "1")


def import_openvino() -> Any:
    """Import OpenVINO without the package that counts its imports in the home folder and reports conversions to Google.

    OpenVINO has a substitute for where that package is missing.

    Raises:
        ImportError: OpenVINO is not installed, or cannot be loaded.
    """
    loaded = sys.modules.get(_OPENVINO)
    sys.modules[_OPENVINO] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_OPENVINO]
        if loaded is not None:
            sys.modules[_OPENVINO] = loaded
