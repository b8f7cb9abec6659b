"""Text as pixels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENDS = "Ag"
"""A letter that is as high and one that reaches as low as any of the font."""


def rendered_text(text: str, size: int) -> NDArray[np.uint8]:
    """Return a line of text as (h, w) uint8, 255 where it covers a pixel.

    Args:
        text: one line.
        size: of the font, which Pillow brings, in pixels. Lines of one size have one height.
    """
    font = _font(size)
    _, top, _, bottom = font.getbbox(_ENDS)
    left, _, right, _ = font.getbbox(text)
    canvas = Image.new("L", (max(1, int(right - left + 0.5)), int(bottom - top + 0.5)))
    ImageDraw.Draw(canvas).text((-left, -top), text, 255, font)
    return np.asarray(canvas)


@lru_cache(maxsize=16)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
