"""Read and check images. Sizes are (height, width); images are uint8 (H, W, 3)."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Dict, Iterator, Tuple

import numpy as np

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging.decoding import decode_rgb
from blendmask_edge.imaging.headers import READABLE, check_size, read_header
from blendmask_edge.storage.bounded import read_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.storage.atomic import PathLike

    Image = NDArray[np.uint8]

Size = Tuple[int, int]

MAX_FILE_BYTES = 2**29
ORIENTATIONS = ("upright", "stored")
_FORWARD, _BACKWARD = slice(None), slice(None, None, -1)
_FLIPS: Dict[int, Tuple[slice, slice]] = {
    1: (_FORWARD, _FORWARD),
    2: (_FORWARD, _BACKWARD),
    3: (_BACKWARD, _BACKWARD),
    4: (_BACKWARD, _FORWARD),
    5: (_FORWARD, _FORWARD),
    6: (_FORWARD, _BACKWARD),
    7: (_BACKWARD, _BACKWARD),
    8: (_BACKWARD, _FORWARD),
}
"""Order of rows and columns for each EXIF orientation, after the transposition of 5 to 8."""


def read_image(path: PathLike, orientation: str = "upright") -> Image:
    """Read an image file as RGB.

    The EXIF orientation is applied, as detectron2 does, and boxes, masks and annotations refer to the
    upright image. If annotations refer to the stored pixels, pass `orientation="stored"`.

    Gray images get three equal channels, palettes are resolved, and alpha is dropped. Of 16 bits, the upper 8 are
    taken, as OpenCV does. A transparent TIFF is refused, because its colors are multiplied by alpha. Of several frames
    or pages, the first is read.

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
        data = read_stream(stream, MAX_FILE_BYTES)
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
    image = decode_rgb(data, header, name)
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
            "Convert gray images with np.repeat(image[..., None], 3, axis=2); drop alpha with image[..., :3]."
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


def _turn(image: Image, orientation: int) -> Image:
    """Return the image upright; `orientation` is the tag of EXIF 2.32."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[_FLIPS[orientation]])
