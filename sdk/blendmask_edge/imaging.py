"""The only pixel code: read, resize, pad, paste.

Sizes are (height, width). Pictures are uint8 (H, W, 3), RGB unless `channels="bgr"` says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

import cv2
import numpy as np

from blendmask_edge.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.atomic import PathLike

    Image = NDArray[np.uint8]
    Floats = NDArray[np.float32]

Size = Tuple[int, int]

MAX_PIXELS = 2**28
MAX_FILE_BYTES = 2**29
MAX_SIDE = 65535
_BLOCK = 8
_BLOCK_SOURCES = 64
_PASTE_ROWS = 64
_SINGLE_THREAD_PRODUCT = 2**18
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READABLE = "Give a JPEG, PNG, BMP, WebP, TIFF or PNM file."


@dataclass(frozen=True)
class Prepared:
    """A picture ready for the network.

    image: uint8 [1, H, W, 3], RGB; the picture in its top left `size`, the rest the pad value.
    size: (height, width) of the resized picture inside `image`.
    scale_x, scale_y: pixels of the picture per pixel of the network input.
    """

    image: Image
    size: Size
    scale_x: float
    scale_y: float


def read_image(path: PathLike) -> Image:
    """Read a picture file as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, palettes are looked up, alpha is dropped, 16 bits are scaled to 8 (v / 257,
    rounded). Pixels are taken as stored: an orientation in the EXIF data is not applied, so that boxes and masks refer
    to the pixels of the file, as COCO annotations do.

    Raises:
        ImageError: no such file, a folder, empty, not a picture, a depth other than 8 or 16 bits, or more than
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
        raise ImageError(f"{path} is not a picture, or is damaged. {_READABLE}")
    _check_size(stored.shape[:2], str(path))
    return _as_rgb(_as_8_bits(stored, str(path)), str(path))


def encode_jpeg(image: Image, quality: int = 92) -> bytes:
    """Return a (H, W, 3) uint8 RGB picture as the bytes of a JPEG file.

    Raises:
        ImageError: the picture is too large for the format (65500 pixels a side).
    """
    try:
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise ImageError(f"A picture of shape {image.shape} cannot be written as JPEG; scale it down first.")
    return bytes(data)


def check_image(image: object, channels: str = "rgb") -> Image:
    """Return `image` as it is, when it is a (H, W, 3) uint8 array and `channels` is "rgb" or "bgr".

    Raises:
        ImageError: it is not; the message says what was found and how to convert it.
    """
    if channels not in ("rgb", "bgr"):
        raise ImageError(f'channels is {channels!r}, expected "rgb" or "bgr".')
    if not isinstance(image, np.ndarray):
        raise ImageError(f"The picture is a {type(image).__name__}, expected a numpy array; read files by read_image.")
    if image.dtype != np.uint8:
        raise ImageError(
            f"The picture is {image.dtype}, expected uint8 with values 0..255; scale and convert it first."
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"The picture has shape {image.shape}, expected (height, width, 3); "
            "convert grey by cv2.COLOR_GRAY2RGB, drop alpha by image[..., :3]."
        )
    _check_size(image.shape[:2], "The picture")
    return image


def resized_size(height: int, width: int, short: int, long: int) -> Size:
    """Return the size whose short side is `short`, or less where the long side would pass `long`.

    detectron2 data/transforms/augmentation_impl.py, ResizeShortestEdge: scale in floats, add 0.5, truncate.
    """
    scale = short / min(height, width)
    if height < width:
        new_height, new_width = float(short), scale * width
    else:
        new_height, new_width = scale * height, float(short)
    longest = max(new_height, new_width)
    if longest > long:
        new_height, new_width = new_height * (long / longest), new_width * (long / longest)
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def fit_size(size: Size, bounds: Size) -> Size:
    """Return the largest size of the same aspect as `size` inside `bounds`, rounded as `resized_size`, at least 1."""
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    height, width = (min(bound, max(1, int(side * scale + 0.5))) for side, bound in zip(size, bounds))
    return height, width


def resize(image: Image, size: Size) -> Image:
    """Resize a (H, W, 3) uint8 picture to `size`, bilinear, antialiased where it shrinks: Pillow's BILINEAR.

    Equal to Pillow within one grey level: Pillow also rounds between its two passes. Enlarging has no antialiasing, and
    OpenCV does it five times as fast. Where a side shrinks, the weights are banded; one small product per few output
    rows or columns costs less than a dense product and less than a gather per tap.
    """
    if image.shape[:2] == size:
        return image
    height, width = size
    if height >= image.shape[0] and width >= image.shape[1]:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    middle = np.empty((height, rows.shape[1]), np.float32)
    for band in _bands(image.shape[0], height, 1):
        _multiply(band.weights.T, rows[band.source].astype(np.float32), middle[band.target])
    result = np.empty((height, width * 3), np.float32)
    for band in _bands(image.shape[1], width, 3):
        _multiply(middle[:, band.source], band.weights, result[:, band.target])
    return np.asarray(cv2.convertScaleAbs(result), np.uint8).reshape(height, width, 3)


def prepare(image: Image, bounds: Size, pad_value: Sequence[int], channels: str = "rgb") -> Prepared:
    """Fit a picture into the network input: scale it inside `bounds`, pad at the right and bottom with `pad_value`.

    Padding with the pixel mean, rounded, is the reference's zero padding after normalisation.

    Args:
        image: (H, W, 3) uint8 in the order `channels`.
        bounds: (height, width) of the network input.
        pad_value: RGB, 0..255.
        channels: "rgb" or "bgr".

    Raises:
        ImageError: as `check_image`.
    """
    picture = check_image(image, channels)
    height, width = fit_size(picture.shape[:2], bounds)
    resized = resize(picture, (height, width))
    canvas = np.empty((1, bounds[0], bounds[1], 3), np.uint8)
    canvas[0, :height, :width] = resized if channels == "rgb" else cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    canvas[0, height:] = pad_value
    canvas[0, :height, width:] = pad_value
    return Prepared(canvas, (height, width), picture.shape[1] / width, picture.shape[0] / height)


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), float32, exactly 0.5 at 0 and without overflow."""
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * logits) + np.float32(0.5), np.float32)


def clip_boxes(boxes: Floats, size: Size) -> Floats:
    """Clip (N, 4) boxes x0 y0 x1 y1 to a picture of `size`."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def paste(probabilities: Floats, box: Floats, size: Size) -> Tuple[NDArray[np.bool_], Tuple[int, int]]:
    """Stretch a mask over its box and cut it at 0.5.

    As detectron2 layers/mask_ops.py does: pixel centres at +0.5, bilinear between cell centres, zero outside the map,
    foreground where the value is at least 0.5. The whole map is squeezed into the part of the box inside the picture.
    Only pixels that the box touches are computed; no other can be foreground.

    Args:
        probabilities: (R, R) float32, 0..1.
        box: (4,) x0 y0 x1 y1 in pixels of the picture; clipped here.
        size: (height, width) of the picture.

    Returns:
        The (h, w) bool crop and its top left pixel (x0, y0). The crop is (0, 0) for a box without area.
    """
    x0, y0, x1, y1 = clip_boxes(box, size).tolist()
    if not (x0 < x1 and y0 < y1):
        return np.zeros((0, 0), np.bool_), (0, 0)
    columns = _paste_weights(x0, x1, probabilities.shape[1])
    rows = _paste_weights(y0, y1, probabilities.shape[0])
    across = np.empty((len(probabilities), len(columns)), np.float32)
    _multiply(probabilities, columns.T, across)
    crop = np.empty((len(rows), len(columns)), np.bool_)
    values = np.empty((min(_PASTE_ROWS, len(rows)), len(columns)), np.float32)
    for start in range(0, len(rows), _PASTE_ROWS):
        part = rows[start : start + _PASTE_ROWS]
        _multiply(part, across, values[: len(part)])
        np.greater_equal(values[: len(part)], np.float32(0.5), out=crop[start : start + len(part)])
    return crop, (math.floor(x0), math.floor(y0))


@dataclass(frozen=True)
class _Band:
    """Weights (sources, targets) of a few neighbouring output samples over the input samples that they touch."""

    source: slice
    target: slice
    weights: Floats


@lru_cache(maxsize=64)
def _bands(source: int, target: int, channels: int) -> List[_Band]:
    """Return the weights that resize one axis, interleaved over `channels`, a few targets to a band.

    Fewer when it shrinks much, which bounds the rows that are held as floats at a time.
    """
    scale = source / target
    support = max(scale, 1.0)
    block = min(_BLOCK, max(1, int(_BLOCK_SOURCES / scale)))
    bands = []
    for start in range(0, target, block):
        stop = min(start + block, target)
        centres = (np.arange(start, stop) + 0.5) * scale
        low, high = max(0, int(centres[0] - support + 0.5)), min(source, int(centres[-1] + support + 0.5))
        distance = np.abs(np.arange(low, high)[:, None] + 0.5 - centres[None, :])
        triangle = np.maximum(0.0, 1.0 - distance / support)
        weights = np.kron(triangle / triangle.sum(axis=0), np.eye(channels)).astype(np.float32)
        wide = slice(low * channels, high * channels), slice(start * channels, stop * channels)
        bands.append(_Band(*wide, weights))
    return bands


def _multiply(left: Floats, right: Floats, out: Floats) -> None:
    """Write `left @ right` to `out` on the calling thread.

    OpenBLAS wakes its threads for products above this size; beside a runtime's own threads they wait for each other,
    and a product of 25 microseconds was seen to take 8 milliseconds.
    """
    rows, columns = out.shape
    budget = max(1, _SINGLE_THREAD_PRODUCT // left.shape[1])
    width = min(columns, max(1, budget // min(rows, 16)))
    height = max(1, budget // width)
    for top in range(0, rows, height):
        for start in range(0, columns, width):
            part = slice(top, top + height), slice(start, start + width)
            np.matmul(left[part[0]], right[:, part[1]], out=out[part])


def _paste_weights(low: float, high: float, cells: int) -> Floats:
    """Return (pixels, cells) bilinear weights of a map stretched from `low` to `high`, zero outside the map."""
    first, last = math.floor(low), math.ceil(high)
    position = np.clip((np.arange(first, last) + 0.5 - low) / (high - low) * cells - 0.5, -2, cells + 1)
    cell = np.floor(position).astype(np.int64)
    fraction = (position - cell).astype(np.float32)
    weights = np.zeros((last - first, cells + 5), np.float32)
    index = np.arange(last - first)
    weights[index, cell + 2] = 1 - fraction
    weights[index, cell + 3] = fraction
    return weights[:, 2 : cells + 2]


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ImageError(f"{path} is not a file. Give the path of a picture file.")
        if size > MAX_FILE_BYTES:
            raise ImageError(f"{path} has {size} bytes, at most {MAX_FILE_BYTES} are read. Give a smaller picture.")
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"Cannot read {path}: {error.strerror}. Give the path of a picture file.") from error
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
        raise ImageError(f"{name} has {channels} channels, expected grey, RGB or RGBA; convert it first.")
    return np.asarray(cv2.cvtColor(stored, code), np.uint8)
