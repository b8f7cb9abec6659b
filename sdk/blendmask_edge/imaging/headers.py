"""Read the size and orientation of an image file from its header, without decoding it.

A decoder allocates what a header states, so the header is checked first: format, sides, and whether a file of this
length can hold that many pixels at all. Formats are told by their first bytes, never by the name.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Callable, Dict, List, Optional, Tuple

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging.exif import UPRIGHT, orientation_of, read_tiff

if TYPE_CHECKING:
    from blendmask_edge.imaging.exif import Tiff

Size = Tuple[int, int]

MAX_PIXELS = 2**28
MAX_SIDE = 65535
READABLE = "Give a JPEG, PNG, BMP, WebP, TIFF or PNM file."

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_SCAN, _JPEG_END, _JPEG_EXIF = 0xDA, 0xD9, 0xE1
_CMYK_CHANNELS = 4
_MOST_PARTS = 100_000
_MOST_SKIPPED = 2**16
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNM_WHITES = (255, 65535)
_DEFLATE_RATIO = 1032
_TIFF_RATIOS = {1: 1, 5: 4096, 8: _DEFLATE_RATIO, 32773: 64, 32946: _DEFLATE_RATIO}
"""Most bytes of pixels that one byte of a file can hold, by kind of compression."""
_MOST_EXIF_BYTES = 2**20
_LARGEST_SPARE_TILE = 2**20


class _Malformed(Exception):
    """A header breaks the rules of its format; the text says which."""


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    format: "JPEG", "PNG", "BMP", "WebP", "TIFF" or "PNM".
    size: (height, width) of the stored pixels.
    orientation: EXIF orientation, 1 to 8; 1 where the file states none.
    orientation_bytes: where a TIFF file states its orientation.
    pixels_at: offset behind which the pixels of a JPEG, or of a PNM with colors of 16 bits, lie; 0 elsewhere.
    is_cmyk: whether it is a JPEG of four channels.
    least_bytes: bytes that a file of this format and size has at least.
    """

    format: str
    size: Size
    orientation: int = UPRIGHT
    orientation_bytes: Optional[slice] = None
    pixels_at: int = 0
    is_cmyk: bool = False
    least_bytes: int = 0

    @property
    def upright_size(self) -> Size:
        """(height, width) once the orientation is applied."""
        height, width = self.size
        return (width, height) if self.orientation >= 5 else (height, width)


_HEAD = 2**12
"""Bytes that are read at once; most headers lie within them."""


class Source:
    """Bytes of a file by offset, read when they are asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        """Wrap a seekable stream."""
        self._stream = stream
        self.size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._head = stream.read(_HEAD)

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`.

        Raises:
            _Malformed: the file ends before.
        """
        if not 0 <= offset <= self.size - count:
            raise _Malformed("the file ends within its header")
        if offset + count <= len(self._head):
            return self._head[offset : offset + count]
        self._stream.seek(offset)
        return self._stream.read(count)

    def number(self, offset: int, count: int, order: str = "big", signed: bool = False) -> int:
        """Return the integer of `count` bytes at `offset`, in byte order "big" or "little"."""
        return int.from_bytes(self.at(offset, count), "big" if order == "big" else "little", signed=signed)


def read_header(stream: BinaryIO, name: str) -> ImageHeader:
    """Read and check the header of an image file.

    Args:
        stream: of the whole file, seekable.
        name: of the file, for messages.

    Raises:
        ImageError: another format, a malformed header, more than `MAX_PIXELS` pixels or `MAX_SIDE` a side, or a file
            too short for the pixels it states.
    """
    source = Source(stream)
    first = source.at(0, min(16, source.size))
    for is_format, read in _FORMATS.items():
        if is_format(first):
            try:
                header = read(source)
            except _Malformed as error:
                raise ImageError(f"{name} is damaged: {error}. {READABLE}") from error
            check_size(header.size, name)
            _check_length(header, source.size, name)
            return header
    raise ImageError(f"{name} is not an image of a format that is read here. {READABLE}")


def check_size(size: Size, name: str) -> None:
    """Refuse sizes that no image has or that are too large to decode.

    Raises:
        ImageError: a side is not 1 to `MAX_SIDE`, or there are more than `MAX_PIXELS` pixels.
    """
    height, width = size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        advice = "scale it down first" if min(size) > 0 else "give an image that is not empty"
        raise ImageError(
            f"{name} is {width} x {height} pixels, expected sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} in all; "
            f"{advice}."
        )


def _check_length(header: ImageHeader, length: int, name: str) -> None:
    if length < header.least_bytes:
        height, width = header.size
        raise ImageError(
            f"{name} has {length} bytes and states {width} x {height} pixels, which take at least "
            f"{header.least_bytes} bytes as {header.format}: it is cut off or damaged. Fetch it again."
        )


def _read_jpeg(source: Source) -> ImageHeader:
    """Walk the segments as libjpeg does, which skips fill bytes and bytes between segments, up to the first scan."""
    position, orientation, size, channels = 2, UPRIGHT, None, 0
    for _ in range(_MOST_PARTS):
        marker, position = _next_marker(source, position)
        if marker in _JPEG_ALONE:
            continue
        if marker in (_JPEG_SCAN, _JPEG_END):
            break
        length = source.number(position, 2)
        if length < 2:
            raise _Malformed("a segment of the JPEG has no length")
        if marker in _JPEG_FRAMES:
            size, channels = _jpeg_frame(source, marker, position, size), source.number(position + 7, 1)
        elif marker == _JPEG_EXIF and source.at(position + 2, min(6, length - 2)) == b"Exif\0\0":
            orientation = _exif(source, position + 8, length - 8)
        position += length
    if size is None:
        raise _Malformed("the JPEG has no frame")
    blocks = -(-size[0] // 8) * -(-size[1] // 8)
    return ImageHeader(
        "JPEG", size, orientation, pixels_at=position, is_cmyk=channels == _CMYK_CHANNELS, least_bytes=blocks // 8
    )


def _next_marker(source: Source, position: int) -> Tuple[int, int]:
    """Return the next marker, and the offset behind it."""
    is_fill = False
    for offset in range(position, position + _MOST_SKIPPED):
        byte = source.number(offset, 1)
        if is_fill and byte not in (0, 0xFF):
            return byte, offset + 1
        is_fill = byte == 0xFF
    raise _Malformed("the JPEG has no marker where one is expected")


def _jpeg_frame(source: Source, marker: int, position: int, former: object) -> Size:
    if former is not None:
        raise _Malformed("the JPEG has two frames")
    if marker not in _JPEG_HUFFMAN:
        raise _Malformed("it is a JPEG with lossless, hierarchical or arithmetic coding, which is not read here")
    return source.number(position + 3, 2), source.number(position + 5, 2)


def _read_png(source: Source) -> ImageHeader:
    if source.at(8, 8) != b"\0\0\0\rIHDR":
        raise _Malformed("the PNG does not begin with its header")
    width, height = source.number(16, 4), source.number(20, 4)
    bits, color = source.number(24, 1), source.number(25, 1)
    if bits not in (1, 2, 4, 8, 16) or color not in _PNG_CHANNELS:
        raise _Malformed(f"the PNG states {bits} bits of color type {color}")
    position, orientation = 8, UPRIGHT
    for _ in range(_MOST_PARTS):
        length, kind = source.number(position, 4), source.at(position + 4, 4)
        if position + 12 + length > source.size:
            raise _Malformed(f"a chunk of the PNG states {length} bytes and the file ends before")
        if kind == b"eXIf":
            orientation = _exif(source, position + 8, length)
        position += 12 + length
        if kind == b"IEND":
            break
    else:
        raise _Malformed(f"the PNG has more than {_MOST_PARTS} chunks")
    pixel_bytes = height * width * bits * _PNG_CHANNELS[color] // 8
    return ImageHeader("PNG", (height, width), orientation, least_bytes=pixel_bytes // _DEFLATE_RATIO)


def _read_bmp(source: Source) -> ImageHeader:
    start, kind = source.number(10, 4, "little"), source.number(14, 4, "little")
    if kind == 12:
        width, height = source.number(18, 2, "little"), source.number(20, 2, "little")
        bits, compression = source.number(24, 2, "little"), 0
    elif kind >= 40:
        width = source.number(18, 4, "little", signed=True)
        height = abs(source.number(22, 4, "little", signed=True))
        bits, compression = source.number(28, 2, "little"), source.number(30, 4, "little")
    else:
        raise _Malformed(f"the BMP has a header of {kind} bytes")
    is_run_length = compression in (1, 2)
    row = -(-width * bits // 32) * 4
    least = height if is_run_length else start + row * height
    return ImageHeader("BMP", (height, width), least_bytes=least)


def _read_webp(source: Source) -> ImageHeader:
    kind = source.at(12, 4)
    if kind == b"VP8 ":
        size = source.number(28, 2, "little") & 0x3FFF, source.number(26, 2, "little") & 0x3FFF
        return ImageHeader("WebP", size)
    if kind == b"VP8L":
        bits = source.number(21, 4, "little")
        return ImageHeader("WebP", ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1))
    if kind != b"VP8X":
        raise _Malformed("the WebP begins with an unknown chunk")
    size = source.number(27, 3, "little") + 1, source.number(24, 3, "little") + 1
    return ImageHeader("WebP", size, _webp_orientation(source))


def _webp_orientation(source: Source) -> int:
    position = 12
    for _ in range(_MOST_PARTS):
        if position + 8 > source.size:
            break
        length = source.number(position + 4, 4, "little")
        if source.at(position, 4) == b"EXIF":
            return _exif(source, position + 8, min(length, source.size - position - 8))
        position += 8 + length + length % 2
    return UPRIGHT


def _read_tiff_header(source: Source) -> ImageHeader:
    try:
        tiff = read_tiff(source.at(0, source.size))
    except ValueError as error:
        raise _Malformed(str(error)) from error
    width, height = tiff.first("width", 0), tiff.first("height", 0)
    _check_tiff_pixels(tiff, width * height)
    pixel_bytes = width * height * tiff.first("bits", 1) * tiff.first("channels", 1) // 8
    ratio = _TIFF_RATIOS.get(tiff.first("compression", 1))
    least = pixel_bytes // ratio if ratio else 0
    return ImageHeader("TIFF", (height, width), orientation_of(tiff), tiff.orientation_bytes, least_bytes=least)


def _check_tiff_pixels(tiff: Tiff, pixels: int) -> None:
    bits, kind = tiff.first("bits", 1), tiff.first("sample_format", 1)
    if kind == 3 or bits not in (1, 2, 4, 8, 16):
        raise _Malformed(f"it holds {'float' if kind == 3 else 'int'}{bits} values, expected 8 or 16 bits a channel")
    if tiff.first("channels", 1) > 4:
        raise _Malformed(f"it has {tiff.first('channels', 1)} channels, expected gray, RGB or RGBA")
    if tiff.first("tile_width", 0) * tiff.first("tile_height", 0) > max(pixels, _LARGEST_SPARE_TILE):
        raise _Malformed("its tiles are larger than the image")


def _read_pnm(source: Source) -> ImageHeader:
    kind = source.number(1, 1) - ord("0")
    words, start = _pnm_words(source, 2 if kind in (1, 4) else 3)
    width, height = words[0], words[1]
    if kind not in (1, 4) and words[2] not in _PNM_WHITES:
        raise _Malformed(f"the PNM states {words[2]} for white, expected 255 or 65535: scale its values")
    channels = 3 if kind in (3, 6) else 1
    if kind == 4:
        body = -(-width // 8) * height
    elif kind > 4:
        body = width * height * channels * (2 if words[2] > 255 else 1)
    else:
        body = width * height * channels
    is_deep_color = channels == 3 and words[2] > 255
    return ImageHeader("PNM", (height, width), pixels_at=start if is_deep_color else 0, least_bytes=start + body)


def _pnm_words(source: Source, count: int) -> Tuple[Tuple[int, ...], int]:
    """Return the first numbers behind the magic, which spaces and comments divide, and the offset behind them."""
    text = source.at(0, min(source.size, 4096))
    words: List[int] = []
    position = 2
    while len(words) < count:
        while position < len(text) and (text[position : position + 1].isspace() or text[position] == ord("#")):
            position = text.find(b"\n", position) if text[position] == ord("#") else position + 1
            if position < 0:
                raise _Malformed("a comment of the PNM does not end")
        end = position
        while end < len(text) and text[end : end + 1].isdigit():
            end += 1
        if not 0 < end - position <= 9:
            raise _Malformed("the PNM header holds no number where one is expected")
        words.append(int(text[position:end]))
        position = end
    return tuple(words), position


def _exif(source: Source, offset: int, length: int) -> int:
    """Return the orientation of an EXIF block; a block that cannot be read has none."""
    if length > _MOST_EXIF_BYTES:
        return UPRIGHT
    data = source.at(offset, max(length, 0))
    try:
        return orientation_of(read_tiff(data[6:] if data.startswith(b"Exif\0\0") else data))
    except ValueError:
        return UPRIGHT


_FORMATS: Dict[Callable[[bytes], bool], Callable[[Source], ImageHeader]] = {
    lambda first: first.startswith(b"\xff\xd8\xff"): _read_jpeg,
    lambda first: first.startswith(b"\x89PNG\r\n\x1a\n"): _read_png,
    lambda first: first.startswith(b"BM"): _read_bmp,
    lambda first: first[:4] == b"RIFF" and first[8:12] == b"WEBP": _read_webp,
    lambda first: first.startswith((b"II*\0", b"MM\0*")): _read_tiff_header,
    lambda first: first[:1] == b"P" and first[1:2] in b"123456" and first[2:3].isspace(): _read_pnm,
}
