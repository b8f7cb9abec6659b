"""The one exception of this package."""

from __future__ import annotations


class CalibrationError(ValueError):
    """Input that cannot be used for calibration; the message says what was found, what was expected and what to do."""
