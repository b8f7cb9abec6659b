"""Arrays from and to `sensor_msgs/Image` and `CompressedImage`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import numpy as np

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging import MAX_FILE_BYTES, check_size, decode_image
from blendmask_edge.imaging.channels import gray_to_rgb, swap_red_and_blue
from blendmask_edge.integrations.id_image import to_id_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances
    from blendmask_edge.integrations.ros2.messages import MessageFactory

    Image = NDArray[np.uint8]

_NAME = "The image message"
_ID_ENCODINGS = ("16UC1", "mono16")
_DEPTH_ENCODINGS = ("16UC1", "32FC1")


class _Encoding(NamedTuple):
    """Number of channels, and the conversion of (H, W, channels) to RGB; None for RGB itself."""

    channels: int
    to_rgb: Optional[Callable[[Image], Image]]


_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, swap_red_and_blue),
    "mono8": _Encoding(1, gray_to_rgb),
    "rgba8": _Encoding(4, lambda pixels: np.ascontiguousarray(pixels[..., :3])),
    "bgra8": _Encoding(4, lambda pixels: swap_red_and_blue(pixels[..., :3])),
}


def image_from_message(message: Any) -> Image:
    """Return the image of a `sensor_msgs/Image` or `CompressedImage`.

    Args:
        message: with encoding rgb8, bgr8, mono8, rgba8 or bgra8, rows padded to `step` or not; or compressed as JPEG,
            PNG or another format that `read_image` reads. Alpha is dropped. The EXIF orientation is not applied,
            because the camera's calibration belongs to the stored pixels.

    Returns:
        (H, W, 3) uint8 RGB. It may share memory with the message.

    Raises:
        ImageError: the encoding is another one, or the message is damaged, too short or too large.
    """
    if hasattr(message, "format"):
        return _decompress(message)
    encoding = _ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(
            f"{_NAME} has encoding {message.encoding!r}, expected {', '.join(_ENCODINGS)}. Convert it first; "
            "image_proc does so for Bayer patterns."
        )
    rows = _rows(message, encoding.channels)
    pixels = rows.reshape(message.height, message.width, encoding.channels)
    return pixels if encoding.to_rgb is None else encoding.to_rgb(pixels)


def image_message(image: Image, header: Any, messages: MessageFactory) -> Any:
    """Return an image as `sensor_msgs/Image` with encoding rgb8.

    Args:
        image: (H, W, 3) uint8 RGB.
        header: `std_msgs/Header` of the message.
        messages: factory of the messages.
    """
    return _message(image, "rgb8", header, messages)


def id_image_message(instances: Instances, header: Any, messages: MessageFactory) -> Any:
    """Return masks as `sensor_msgs/Image` with encoding 16UC1: pixel i + 1 is instance i, 0 is the background.

    Where masks overlap, the instance with the higher score is shown. `detections_message` of the same instances has
    instance i at place i, with its class, score and track id.

    Args:
        instances: at most 65535.
        header: `std_msgs/Header` of the message.
        messages: factory of the messages.
    """
    return _message(to_id_image(instances), "16UC1", header, messages)


def id_image_from_message(message: Any) -> NDArray[np.uint16]:
    """Return the image of ids of a `sensor_msgs/Image`, in the byte order of this machine.

    Args:
        message: with encoding 16UC1 or mono16.

    Returns:
        (H, W) uint16; 0 is the background.

    Raises:
        ImageError: the encoding is another one, or the message is too short or too large.
    """
    if message.encoding not in _ID_ENCODINGS:
        raise ImageError(
            f"{_NAME} has encoding {message.encoding!r}, expected {' or '.join(_ID_ENCODINGS)}. Subscribe to the topic "
            "of masks."
        )
    return _rows(message, 2).view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)


def _rows(message: Any, pixel_bytes: int) -> Image:
    """Return the rows without padding, (H, W * pixel_bytes) uint8, contiguous."""
    height, width, step = message.height, message.width, message.step
    check_size((height, width), _NAME)
    if step < width * pixel_bytes:
        raise ImageError(
            f"{_NAME} has a step of {step} bytes, expected at least {width * pixel_bytes} for {width} pixels of "
            f"{message.encoding}. Correct the driver that fills it in."
        )
    data = _bytes_of(message)
    if len(data) < height * step:
        raise ImageError(
            f"{_NAME} has {len(data)} bytes of data, expected {height * step} for {height} rows of {step}. "
            "Correct the driver that fills it in."
        )
    rows = data[: height * step].reshape(height, step)[:, : width * pixel_bytes]
    return np.ascontiguousarray(rows)


def _decompress(message: Any) -> Image:
    stored, _, _ = message.format.partition(";")
    if "compressedDepth" in message.format or stored.strip() in _DEPTH_ENCODINGS:
        raise ImageError(f"{_NAME} has format {message.format!r}, which is depth. Subscribe to a color image.")
    data = _bytes_of(message)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{_NAME} has {len(data)} bytes, at most {MAX_FILE_BYTES} are read. Send a smaller image.")
    return decode_image(data.tobytes(), _NAME, orientation="stored")


def _bytes_of(message: Any) -> Image:
    """Return the data of a message, whichever type its library gives it, without a copy."""
    return np.frombuffer(message.data, np.uint8) if len(message.data) else np.zeros(0, np.uint8)


def _message(image: NDArray[Any], encoding: str, header: Any, messages: MessageFactory) -> Any:
    packed = np.ascontiguousarray(image)
    return messages.make(
        "sensor_msgs/msg/Image",
        header=header,
        height=int(image.shape[0]),
        width=int(image.shape[1]),
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=int(packed[0].nbytes),
        data=messages.octets(packed.view(np.uint8).reshape(-1)),
    )
