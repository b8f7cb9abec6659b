"""Read, check and encode images. Sizes are (height, width); images are uint8 (H, W, 3)."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, Iterator, Literal, Optional, Tuple

import cv2
import numpy as np

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging.exif import UPRIGHT
from blendmask_edge.imaging.headers import READABLE, ImageHeader, check_size, read_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.storage.atomic import PathLike

    Image = NDArray[np.uint8]

Size = Tuple[int, int]

MAX_FILE_BYTES = 2**29
ORIENTATIONS = ("upright", "stored")
_JPEG_END = b"\xff\xd9"
_FLIPS: Dict[int, Optional[int]] = {1: None, 2: 1, 3: -1, 4: 0, 5: None, 6: 1, 7: -1, 8: 0}
"""Axis that `cv2.flip` takes for each EXIF orientation, after the transposition of 5 to 8."""


def read_image(path: PathLike, orientation: str = "upright") -> Image:
    """Read an image file as RGB.

    The EXIF orientation is applied, as detectron2 and `cv2.imread` do, and boxes, masks and annotations refer to the
    upright image. If annotations refer to the stored pixels, pass `orientation="stored"`.

    Gray images get three equal channels, palettes are resolved, alpha is dropped, and 16-bit values are scaled to 8
    bits (v / 257, rounded). A transparent TIFF is refused, because its colors are multiplied by alpha. Of several
    frames or pages, the first is read.

    Args:
        path: a JPEG, PNG, BMP, WebP, TIFF or PNM file; its first bytes determine the format.
        orientation: "upright" applies the EXIF orientation; "stored" does not.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the file is missing, empty, damaged or truncated, has an unsupported format or bit depth, or more
            than `MAX_PIXELS` pixels, which is checked before decoding.

    Example:
        >>> from blendmask_edge import read_image
        >>> image = read_image("image.jpg")
        >>> image.shape, image.dtype
        ((48, 64, 3), dtype('uint8'))
    """
    _check_orientation(orientation)
    name = _name_of(path)
    with _opened(name) as stream:
        data = stream.read(MAX_FILE_BYTES)
    return decode_image(data, name, orientation)


def decode_image(data: bytes, name: str, orientation: str = "upright") -> Image:
    """Decode the content of an image file as RGB, as `read_image` does.

    Args:
        data: content of the file.
        name: of the image, for messages.
        orientation: "upright" or "stored"; see `read_image`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the content is damaged, or too large.
    """
    header = read_header(io.BytesIO(data), name)
    stored = _decode(data, header, name)
    image = _as_rgb(_as_8_bits(stored, name), name)
    return _turn(image, header.orientation) if orientation == "upright" else image


def image_size(path: PathLike, orientation: str = "upright") -> Size:
    """Read the size of an image from the file's header.

    Args:
        path: path of an image file.
        orientation: "upright" or "stored"; see `read_image`.

    Returns:
        Height and width of the array that `read_image` returns.

    Raises:
        ImageError: the file or its header cannot be read.
    """
    _check_orientation(orientation)
    name = _name_of(path)
    with _opened(name) as stream:
        header = read_header(stream, name)
    return header.upright_size if orientation == "upright" else header.size


def encode_jpeg(image: Image, quality: int = 92) -> bytes:
    """Encode an image as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        quality: 0 to 100.

    Raises:
        ImageError: a side exceeds the format's limit of 65500 pixels.
    """
    try:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"An image of shape {image.shape} cannot be encoded as JPEG. Scale it down first.")
    return bytes(data)


def check_image(image: object, channels: str = "rgb") -> Image:
    """Return `image` unchanged after checking it.

    Raises:
        ImageError: it is not a uint8 array of shape (H, W, 3), or `channels` is neither "rgb" nor "bgr"; the message
            tells how to convert it.
    """
    if channels not in ("rgb", "bgr"):
        raise ImageError(f'channels is {channels!r}, expected "rgb" or "bgr".')
    if not isinstance(image, np.ndarray):
        raise ImageError(f"The image is a {type(image).__name__}, expected a numpy array. Read files with read_image.")
    if image.dtype != np.uint8:
        raise ImageError(f"The image is {image.dtype}, expected uint8 with values 0..255. Scale and convert it first.")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"The image has shape {image.shape}, expected (height, width, 3). "
            "Convert gray images with cv2.COLOR_GRAY2RGB; drop alpha with image[..., :3]."
        )
    check_size((image.shape[0], image.shape[1]), "The image")
    return image


def _check_orientation(orientation: str) -> None:
    if orientation not in ORIENTATIONS:
        raise ImageError(f'orientation is {orientation!r}, expected "upright" or "stored".')


def _name_of(path: object) -> str:
    try:
        return os.fsdecode(path)  # type: ignore[arg-type]
    except TypeError as error:
        raise ImageError(f"The path is a {type(path).__name__}, expected str or Path.") from error


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """Open an image file that is neither empty nor too large."""
    path = Path(name)
    try:
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a file. Give the path of an image file.")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size} bytes, at most {MAX_FILE_BYTES} are read. Give a smaller image.")
        if not size:
            raise ImageError(f"{path} is empty. {READABLE}")
        with path.open("rb") as stream:
            yield stream
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ImageError:
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"Cannot read {name}: {reason}. Give the path of an image file.")


def _decode(data: bytes, header: ImageHeader, name: str) -> NDArray[Any]:
    """Decode the stored pixels in OpenCV's channel order, without applying the orientation."""
    if header.format == "JPEG" and data.find(_JPEG_END, header.pixels_at) < 0:
        raise ImageError(f"{name} is truncated: the end of the JPEG is missing. Fetch it again.")
    pixels = np.frombuffer(_without_orientation(data, header), np.uint8)
    try:
        stored = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"Cannot decode {name}: {error.err}. {READABLE}") from error
    if stored is None:
        raise ImageError(f"{name} is damaged. {READABLE}")
    if header.format == "TIFF" and _is_transparent(stored):
        raise ImageError(f"{name} has transparent pixels, which a TIFF may not have here. Save it without alpha.")
    if stored.shape[:2] != header.size:
        raise ImageError(
            f"{name} is damaged: its header states {header.size} (height, width), but it contains {stored.shape[:2]}."
        )
    return np.asarray(stored)


def _is_transparent(stored: NDArray[Any]) -> bool:
    """Whether any pixel of a decoded image is not opaque; colors of a TIFF are multiplied with its alpha then."""
    if stored.dtype.kind != "u" or stored.ndim != 3 or stored.shape[2] != 4:
        return False
    return bool(stored[..., 3].min(initial=np.iinfo(stored.dtype).max) < np.iinfo(stored.dtype).max)


def _without_orientation(data: bytes, header: ImageHeader) -> bytes:
    """Set the orientation of a TIFF to 1, because OpenCV applies it to some bit depths only."""
    where = header.orientation_bytes
    if where is None:
        return data
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    return data[: where.start] + UPRIGHT.to_bytes(where.stop - where.start, order) + data[where.stop :]


def _turn(image: Image, orientation: int) -> Image:
    """Return the image upright; `orientation` is the tag of EXIF 2.32."""
    if orientation >= 5:
        image = np.asarray(cv2.transpose(image), np.uint8)
    axis = _FLIPS[orientation]
    return image if axis is None else np.asarray(cv2.flip(image, axis), np.uint8)


def _as_8_bits(stored: NDArray[Any], name: str) -> Image:
    if stored.dtype == np.uint8:
        return stored
    if stored.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(stored, alpha=1 / 257), np.uint8)
    raise ImageError(f"{name} has {stored.dtype} values, expected 8 or 16 bits per channel. Convert it first.")


def _as_rgb(stored: Image, name: str) -> Image:
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise ImageError(f"{name} has {channels} channels, expected gray, RGB or RGBA. Convert it first.")
    return np.asarray(cv2.cvtColor(stored, code), np.uint8)
