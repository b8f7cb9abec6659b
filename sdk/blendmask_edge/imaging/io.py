"""Read, check and encode images. Sizes are (height, width); images are uint8 (H, W, 3)."""

from __future__ import annotations

import contextlib
import io
import os
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

    One rule holds for every reader of this product: an image is upright as people see it, so the orientation of its
    EXIF data is applied, as detectron2 and `cv2.imread` do. Boxes, masks and annotations refer to the upright pixels;
    for annotations that were drawn on the stored pixels, pass `orientation="stored"`.

    Gray becomes three equal channels, palettes are looked up, alpha is dropped, 16 bits are scaled to 8 (v / 257,
    rounded). Of several frames or pages the first is read.

    Args:
        path: a JPEG, PNG, BMP, WebP, TIFF or PNM file; the format is told by its first bytes.
        orientation: "upright" applies the EXIF orientation, "stored" keeps the pixels as they are stored.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: no such file, a folder, empty, damaged, cut off, another format, a depth other than 8 or 16 bits,
            or more than `MAX_PIXELS` pixels; sizes are checked before anything is decoded.
    """
    _check_orientation(orientation)
    name = _name_of(path)
    with _opened(name) as stream:
        data = stream.read(MAX_FILE_BYTES)
    header = read_header(io.BytesIO(data), name)
    stored = _decode(data, header, name)
    image = _as_rgb(_as_8_bits(stored, name), name)
    return _turn(image, header.orientation) if orientation == "upright" else image


def image_size(path: PathLike, orientation: str = "upright") -> Size:
    """Return the size of an image file from its header, without decoding it.

    Args:
        path, orientation: as `read_image` takes them.

    Returns:
        (height, width) of what `read_image` returns.

    Raises:
        ImageError: as `read_image`, as far as the header tells.
    """
    _check_orientation(orientation)
    name = _name_of(path)
    with _opened(name) as stream:
        header = read_header(stream, name)
    return header.upright_size if orientation == "upright" else header.size


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
        raise ImageError(f"An image of shape {image.shape} cannot be written as JPEG; scale it down first.")
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
    """Open an image file that is neither empty nor too long."""
    path = Path(name)
    try:
        size = path.stat().st_size
        if not path.is_file():
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
    """Decode the stored pixels, in OpenCV's order of channels, without turning them."""
    if header.format == "JPEG" and data.find(_JPEG_END, header.pixels_at) < 0:
        raise ImageError(f"{name} is cut off: the end of the JPEG is missing. Fetch it again.")
    pixels = np.frombuffer(_without_orientation(data, header), np.uint8)
    try:
        stored = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"Cannot decode {name}: {error.err}. {READABLE}") from error
    if stored is None:
        raise ImageError(f"{name} is damaged. {READABLE}")
    if stored.shape[:2] != header.size:
        raise ImageError(f"{name} states {header.size} (height, width) and holds {stored.shape[:2]}: it is damaged.")
    return np.asarray(stored)


def _without_orientation(data: bytes, header: ImageHeader) -> bytes:
    """Return the file with orientation 1 in a TIFF, which OpenCV would apply to some depths and not to others."""
    where = header.orientation_bytes
    if where is None:
        return data
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    return data[: where.start] + UPRIGHT.to_bytes(where.stop - where.start, order) + data[where.stop :]


def _turn(image: Image, orientation: int) -> Image:
    """Return the image upright; `orientation` says where row 0 and column 0 of the stored pixels lie (EXIF 2.32)."""
    if orientation >= 5:
        image = np.asarray(cv2.transpose(image), np.uint8)
    axis = _FLIPS[orientation]
    return image if axis is None else np.asarray(cv2.flip(image, axis), np.uint8)


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
