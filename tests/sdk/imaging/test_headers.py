"""What an image file states is bounded before a decoder allocates it; damaged files are one clear refusal."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from blendmask_edge import ImageError, read_image
from blendmask_edge.imaging import encode_jpeg, image_size, io

RGB = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
HUGE = 16_000
SUFFIXES = [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """Return the bytes of one small image in each format."""
    folder = tmp_path_factory.mktemp("samples")
    for suffix in SUFFIXES:
        Image.fromarray(RGB).save(folder / f"a{suffix}")
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is decoded."""

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(io, "decode_rgb", decode)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    """Return a PNG that states a size and holds next to nothing."""
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    """Return a JPEG that states a size, with bytes before its frame."""
    data = bytearray(encode_jpeg(RGB))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">2H", height, width)
    return bytes(data[:frame]) + before + bytes(data[frame:])


def bmp(width: int, height: int, compression: int = 0) -> bytes:
    """Return a BMP that states a size."""
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)


def tiff(width: int, height: int, **changes: int) -> bytes:
    """Return a TIFF that states a size."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 10}
    tags.update({int(name[1:]): value for name, value in changes.items()})
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)


TOO_LARGE = {
    "a.png": png(60_000, 60_000),
    "a.jpg": jpeg(65_000, 64_000),
    "fill-byte.jpg": jpeg(65_000, 64_000, before=b"\xff"),
    "garbage.jpg": jpeg(65_000, 64_000, before=b"\x00\x11\x22"),
    "restart.jpg": jpeg(65_000, 64_000, before=b"\xff\xd0"),
    "a.bmp": bmp(60_000, -60_000),
    "a.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x00\xff\xff\x00" + bytes(8),
    "a.tif": tiff(60_000, 60_000),
    "a.ppm": b"P6 # a comment\n60000\t60000 255\n",
}
TOO_SHORT = {
    "a.png": png(HUGE, HUGE),
    "a.jpg": jpeg(HUGE, HUGE),
    "fill-byte.jpg": jpeg(HUGE, HUGE, before=b"\xff\xff"),
    "a.bmp": bmp(HUGE, HUGE),
    "runs.bmp": bmp(1000, 60_000, compression=1),
    "a.tif": tiff(HUGE, HUGE),
    "zip.tif": tiff(HUGE, HUGE, t259=8),
    "a.ppm": b"P6 16000 16000 255\n123",
    "ascii.pbm": b"P1 16000 16000\n0 1",
}


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("name", TOO_LARGE)
def test_size_that_is_too_large_is_refused_before_decoding(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TOO_LARGE[name])
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"\d+ x \d+ pixels, expected sides"):
            read(tmp_path / name)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("name", TOO_SHORT)
def test_file_that_cannot_hold_its_pixels_is_refused_before_decoding(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TOO_SHORT[name])
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"states \d+ x \d+ pixels, which take at least"):
            read(tmp_path / name)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(
    "content, reason",
    [
        (b"hello", "not an image"),
        (b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(37), "not an image"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(50), "not an image"),
        (b"\x76\x2f\x31\x01" + bytes(50), "not an image"),
        (b"#?RADIANCE\n" + bytes(50), "not an image"),
        (b"P7\nWIDTH 9\n", "not an image"),
        (bytes(1000), "not an image"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"\xff\xd8\xff\xc0\x00", "damaged"),
        (b"\xff\xd8\xff" + bytes(2**18), "no marker"),
        (png(5, 5)[:33] + struct.pack(">I", 0xFFFFFFFF) + b"IDAT", "states 4294967295 bytes"),
        (png(5, 5)[:33] + chunk(b"aaAa", b"") * 100_001, "more than 100000 chunks"),
        (tiff(9, 9, t322=60_000, t323=60_000), "tiles"),
        (tiff(9, 9, t277=9), "9 channels"),
        (tiff(9, 9, t258=32), "int32"),
        (b"II*\0" + struct.pack("<L", 2**31) + bytes(30), "behind the end"),
        (b"P6 9999999999 1 255\n", "no number"),
        (b"P6 #" + b"a" * 5000, "does not end"),
        (b"BM" + bytes(50), "header of 0 bytes"),
    ],
)
def test_malformed_file_and_other_formats_are_refused_before_decoding(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / "a.png")


def test_jpeg_that_is_cut_off_is_refused(tmp_path: Path, samples: Dict[str, bytes]) -> None:
    (tmp_path / "a.jpg").write_bytes(samples[".jpg"][:-40])
    with pytest.raises(ImageError, match="truncated"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0, 1))
def test_changed_bytes_are_read_or_refused_and_the_size_is_that_of_the_header(
    suffix: str, edits: list, cut: float, samples: Dict[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(samples[suffix])
    for place, value in edits:
        data[int(place**3 * (len(data) - 1))] = value
    path = tmp_path / f"a{suffix}"
    path.write_bytes(bytes(data[: int(len(data) * cut) or 1]) if cut < 0.3 else bytes(data))
    try:
        image = read_image(path)
    except ImageError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert image.shape == (*image_size(path), 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize("path", [None, 5, ["a.jpg"]])
def test_path_of_another_type_is_refused(path: object) -> None:
    with pytest.raises(ImageError, match="expected str or Path"):
        read_image(path)  # type: ignore[arg-type]


def test_names_that_are_not_utf_8_and_bytes_are_read(tmp_path: Path, samples: Dict[str, bytes]) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Path(os.fsdecode(name)).write_bytes(samples[".png"])
    for path in (name, os.fsdecode(name)):
        np.testing.assert_array_equal(read_image(path), RGB)  # type: ignore[arg-type]


def test_fifo_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match="not a file"):
            read(tmp_path / "a.jpg")
