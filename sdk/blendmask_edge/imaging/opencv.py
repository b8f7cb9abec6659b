"""OpenCV, which cameras, videos, windows and outlines need and predictions do not."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from blendmask_edge.errors import DependencyError, install_command


def load_opencv(purpose: str) -> Any:
    """Return the module `cv2`.

    Args:
        purpose: what needs it, as the beginning of a message, e.g. "Video".

    Raises:
        DependencyError: it is not installed, or lacks a library of the system.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) else f" It is installed, but cannot be loaded: {error}."
        raise DependencyError(f"{purpose} needs OpenCV.{reason} Type: {install_command('video')}") from error


def set_opencv_threads(threads: int) -> None:
    """Bound the pool of OpenCV, which belongs to the process, if anything has loaded it."""
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.setNumThreads(threads)
