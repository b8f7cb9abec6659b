"""The logger that all sessions share: TensorRT has one in a process, the first it is given."""

from __future__ import annotations

from typing import Any, List

import tensorrt as trt

_KEPT_MESSAGES = 5


class ErrorLog(trt.ILogger):  # type: ignore[misc]
    """Keeps TensorRT's last errors for a message of ours, instead of printing them."""

    def __init__(self) -> None:
        """Begin without errors."""
        trt.ILogger.__init__(self)
        self._errors: List[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Take a message from TensorRT; anything below an error is dropped."""
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self._errors = [*self._errors, message.strip()][-_KEPT_MESSAGES:]

    def take(self) -> str:
        """Return the last errors in one line, and forget them."""
        text, self._errors = "; ".join(self._errors), []
        return text or "it gives no reason"


LOG = ErrorLog()
