"""How long a run has trained, stops left out."""

from __future__ import annotations

import time


class Clock:
    """Starts when it is made.

    Args:
        before: seconds trained in earlier parts of the run.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before, self._began = before, time.monotonic()

    @property
    def seconds(self) -> float:
        """Trained so far, without what was lost when the run was stopped."""
        return self._before + time.monotonic() - self._began
