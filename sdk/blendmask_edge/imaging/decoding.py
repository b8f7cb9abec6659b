"""Decode image files by Pillow, and JPEG files by simplejpeg where it is installed, which is twice as fast.

Both use libjpeg-turbo with the same settings and give the same pixels. CMYK, which they convert differently, is left to
Pillow.
"""

from __future__ import annotations

import importlib
import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Dict, Literal, Optional, Tuple

import numpy as np

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging.channels import gray_to_rgb
from blendmask_edge.imaging.exif import UPRIGHT
from blendmask_edge.imaging.headers import READABLE, ImageHeader

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    Image = NDArray[np.uint8]

_JPEG_END = b"\xff\xd9"
_READERS: Dict[str, Tuple[str, str]] = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "PNM": ("PIL.PpmImagePlugin", "PpmImageFile"),
}
"""Pillow's reader of each format. Its own dispatcher would try others, and refuse or warn at sizes of its own."""
_16_BIT_MODES = ("I;16", "I;16B", "I;16L", "I")


def decode_rgb(data: bytes, header: ImageHeader, name: str) -> Image:
    """Decode the stored pixels as (H, W, 3) uint8 RGB, without applying the orientation.

    Args:
        data: content of the file.
        header: of the file, checked.
        name: of the file, for messages.

    Raises:
        ImageError: the content is damaged, or of a kind that is not read here.
    """
    if header.format == "JPEG" and data.find(_JPEG_END, header.pixels_at) < 0:
        raise ImageError(f"{name} is truncated: the end of the JPEG is missing. Fetch it again.")
    image = _decode_jpeg(data) if header.format == "JPEG" and not header.is_cmyk else None
    if image is None:
        image = _decode(data, header, name)
    if image.shape[:2] != header.size:
        raise ImageError(
            f"{name} is damaged: its header states {header.size} (height, width), but it contains {image.shape[:2]}."
        )
    return image


def encode_jpeg(image: Image, quality: int = 92) -> bytes:
    """Encode an image as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        quality: 0 to 100.

    Raises:
        ImageError: a side exceeds the format's limit of 65500 pixels.
    """
    from PIL import Image as pillow

    stream = io.BytesIO()
    try:
        pillow.fromarray(image).save(stream, "JPEG", quality=quality)
    except OSError as error:
        raise ImageError(f"An image of shape {image.shape} cannot be encoded as JPEG. Scale it down first.") from error
    return stream.getvalue()


@lru_cache(maxsize=1)
def find_simplejpeg() -> Optional[Callable[[bytes], Any]]:
    """Return its decoder, None where it is not installed."""
    try:
        return importlib.import_module("simplejpeg").decode_jpeg  # type: ignore[no-any-return]
    except ImportError:
        return None


def _decode_jpeg(data: bytes) -> Optional[Image]:
    """Return the pixels, None where Pillow has to decide: for a damaged file, and without simplejpeg."""
    decode = find_simplejpeg()
    if decode is None:
        return None
    try:
        return np.asarray(decode(data), np.uint8)
    except ValueError:
        return None


def _decode(data: bytes, header: ImageHeader, name: str) -> Image:
    module, reader = _READERS[header.format]
    try:
        with getattr(importlib.import_module(module), reader)(io.BytesIO(_for_pillow(data, header))) as file:
            if not _has_deep_color(header) and file.size != header.size[::-1]:
                return np.empty((*file.size[::-1], 3), np.uint8)
            file.load()
            return _as_rgb(file, header, name)
    except ImageError:
        raise
    except Exception as error:  # which of many types a decoder raises for damaged content is not documented
        raise ImageError(
            f"{name} is damaged, or compressed in a way that is not read here: {error}. {READABLE}"
        ) from error


def _as_rgb(file: ImageFile, header: ImageHeader, name: str) -> Image:
    if header.format == "TIFF" and file.mode in ("RGBA", "LA") and np.asarray(file)[..., -1].min(initial=255) < 255:
        raise ImageError(f"{name} has transparent pixels, which a TIFF may not have here. Save it without alpha.")
    if file.mode in _16_BIT_MODES:
        upper = (np.asarray(file) >> 8).astype(np.uint8)
        return upper.reshape(*header.size, 3) if _has_deep_color(header) else gray_to_rgb(upper)
    return np.array(file if file.mode == "RGB" else file.convert("RGB"))


def _has_deep_color(header: ImageHeader) -> bool:
    """Return whether it is a PNM with colors of 16 bits, which Pillow would round to 8."""
    return header.format == "PNM" and bool(header.pixels_at)


def _for_pillow(data: bytes, header: ImageHeader) -> bytes:
    """Return the file as Pillow decodes it to the stored pixels.

    Colors of 16 bits become a gray image of three times the width.
    """
    if _has_deep_color(header):
        height, width = header.size
        gray = {b"P3": b"P2", b"P6": b"P5"}[data[:2]]
        return b"%b %d %d 65535" % (gray, 3 * width, height) + data[header.pixels_at :]
    return _without_orientation(data, header)


def _without_orientation(data: bytes, header: ImageHeader) -> bytes:
    """Set the orientation of a TIFF to 1, because Pillow applies it to this format only."""
    where = header.orientation_bytes
    if where is None:
        return data
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    return data[: where.start] + UPRIGHT.to_bytes(where.stop - where.start, order) + data[where.stop :]
