"""Read, check and encode images. Sizes are (height, width); images are uint8 (H, W, 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence, Tuple

import cv2
import numpy as np

from blendmask_edge.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.storage.atomic import PathLike

    Image = NDArray[np.uint8]

Size = Tuple[int, int]

MAX_PIXELS = 2**28
MAX_FILE_BYTES = 2**29
MAX_SIDE = 65535
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READABLE = "Give a JPEG, PNG, BMP, WebP, TIFF or PNM file."


def read_image(path: PathLike) -> Image:
    """Read a image file as (H, W, 3) uint8 RGB.

    Gray becomes three equal channels, palettes are looked up, alpha is dropped, 16 bits are scaled to 8 (v / 257,
    rounded). Pixels are taken as stored: an orientation in the EXIF data is not applied, so that boxes and masks refer
    to the pixels of the file, as COCO annotations do.

    Raises:
        ImageError: no such file, a folder, empty, not a image, a depth other than 8 or 16 bits, or more than
            `MAX_PIXELS` pixels.
    """
    data = _read_bytes(Path(path))
    size = _stated_size(data)
    if size is not None:
        _check_size(size, str(path))
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"Cannot decode {path}: {error.err}. {_READABLE}") from error
    if stored is None:
        raise ImageError(f"{path} is not a image, or is damaged. {_READABLE}")
    _check_size(stored.shape[:2], str(path))
    return _as_rgb(_as_8_bits(stored, str(path)), str(path))


def encode_jpeg(image: Image, quality: int = 92) -> bytes:
    """Return a (H, W, 3) uint8 RGB image as the bytes of a JPEG file.

    Raises:
        ImageError: the image is too large for the format (65500 pixels a side).
    """
    try:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"A image of shape {image.shape} cannot be written as JPEG; scale it down first.")
    return bytes(data)


def check_image(image: object, channels: str = "rgb") -> Image:
    """Return `image` as it is, when it is a (H, W, 3) uint8 array and `channels` is "rgb" or "bgr".

    Raises:
        ImageError: it is not; the message says what was found and how to convert it.
    """
    if channels not in ("rgb", "bgr"):
        raise ImageError(f'channels is {channels!r}, expected "rgb" or "bgr".')
    if not isinstance(image, np.ndarray):
        raise ImageError(f"The image is a {type(image).__name__}, expected a numpy array; read files by read_image.")
    if image.dtype != np.uint8:
        raise ImageError(f"The image is {image.dtype}, expected uint8 with values 0..255; scale and convert it first.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"The image has shape {image.shape}, expected (height, width, 3); "
            "convert gray by cv2.COLOR_GRAY2RGB, drop alpha by image[..., :3]."
        )
    _check_size(image.shape[:2], "The image")
    return image


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ImageError(f"{path} is not a file. Give the path of a image file.")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size} bytes, at most {MAX_FILE_BYTES} are read. Give a smaller image.")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror}. Give the path of a image file.") from error
    if not data:
        raise ImageError(f"{path} is empty. {_READABLE}")
    return data


def _stated_size(data: bytes) -> Size | None:
    """Read the size from a PNG or JPEG header, so that a small file cannot make the decoder allocate gigabytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    position = 2 if data.startswith(b"\xff\xd8") else len(data)
    while position + 9 <= len(data) and data[position] == 0xFF:
        if data[position + 1] in _JPEG_FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return height, int.from_bytes(data[position + 7 : position + 9], "big")
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _check_size(size: Sequence[int], name: str) -> None:
    height, width = size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ImageError(
            f"{name} is {width} x {height} pixels, expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} in all; "
            "scale it down first."
        )


def _as_8_bits(stored: NDArray[Any], name: str) -> Image:
    if stored.dtype == np.uint8:
        return stored
    if stored.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(stored, alpha=1 / 257), np.uint8)
    raise ImageError(f"{name} holds {stored.dtype} values, expected 8 or 16 bits a channel; convert it first.")


def _as_rgb(stored: Image, name: str) -> Image:
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise ImageError(f"{name} has {channels} channels, expected gray, RGB or RGBA; convert it first.")
    return np.asarray(cv2.cvtColor(stored, code), np.uint8)
