"""A window for overlays, where there is a display."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import cv2

from blendmask_edge.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TITLE = "blendmask"
_END_KEYS = frozenset({ord("q"), 27})


class Window:
    """Frames in a window, (H, W, 3) uint8 BGR, until the user types q or Esc."""

    def __init__(self) -> None:
        """Open the window.

        Raises:
            OutputError: there is no display, or this OpenCV opens no window.
        """
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise OutputError("There is no display for --show. Leave it out; the overlays are written to --output.")
        try:
            cv2.namedWindow(_TITLE)
        except cv2.error as error:
            raise OutputError(
                "This OpenCV opens no window. Leave out --show, or replace it: "
                "pip uninstall -y opencv-python-headless && pip install opencv-python"
            ) from error

    def show(self, frame: NDArray[np.uint8]) -> bool:
        """Show a frame; return False where the user wants to end."""
        cv2.imshow(_TITLE, frame)
        return (cv2.waitKey(1) & 0xFF) not in _END_KEYS

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
