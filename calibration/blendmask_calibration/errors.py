"""The exception of this package."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Input cannot be used for calibration. The message states the actual and the expected input, and the next step."""
