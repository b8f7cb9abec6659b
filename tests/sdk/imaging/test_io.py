"""Every kind of image file becomes (H, W, 3) uint8 RGB, or one clear refusal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import cv2
import numpy as np
import pytest
from PIL import Image

from blendmask_edge import ImageError, read_image
from blendmask_edge.imaging import check_image, decoding, encode_jpeg

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_color_file_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).save(path)
    np.testing.assert_array_equal(read_image(path), RGB)


@pytest.fixture(params=["simplejpeg", "Pillow"])
def jpeg_decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Take one of the decoders of JPEG files."""
    if request.param == "simplejpeg":
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
    decoding.find_simplejpeg.cache_clear()
    yield request.param
    decoding.find_simplejpeg.cache_clear()


@pytest.mark.usefixtures("jpeg_decoder")
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_read_to_the_pixels_of_opencv(tmp_path: Path, mode: str, options: Dict[str, Any]) -> None:
    smooth = cv2.resize(RGB, (61, 47), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(smooth).convert(mode).save(tmp_path / "a.jpg", **options)
    image = read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(image, cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1])
    assert image.flags.writeable


@pytest.mark.usefixtures("jpeg_decoder")
def test_cmyk_jpeg_is_read(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg").mean(axis=(0, 1))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.usefixtures("jpeg_decoder")
def test_cmyk_jpeg_is_read_to_the_pixels_of_pillow(tmp_path: Path) -> None:
    ink = np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8)
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.jpg"), np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    )


@pytest.mark.usefixtures("jpeg_decoder")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1])


def test_size_beyond_the_limits_of_pillow_itself_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(GRAY[..., None], 3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, GRAY]), "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_opaque_alpha_of_a_tiff_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, np.full_like(GRAY, 255)]), "RGBA").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


def test_transparent_tiff_is_refused_since_its_colors_are_changed(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, GRAY]), "RGBA").save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="Save it without alpha"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("header", [b"P5 2 1 100\n", b"P6 2 1 1\n", b"P5 2 1 1023\n", b"P2 2 1 15\n", b"P6 2 1 0\n"])
def test_pnm_with_another_white_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.ppm").write_bytes(header + b"1 2 " * 5)
    with pytest.raises(ImageError, match="for white, expected 255 or 65535"):
        read_image(tmp_path / "a.ppm")


@pytest.mark.parametrize("white", [255, 65535])
def test_pnm_of_8_and_16_bits_is_read(tmp_path: Path, white: int) -> None:
    pixels = RGB.astype(">u2") * 257 if white == 65535 else RGB
    (tmp_path / "a.ppm").write_bytes(b"P6 5 7 %d\n" % white + pixels.tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm"), RGB)


def test_gray_with_alpha_keeps_its_gray(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([GRAY, RGB[..., 1]]), "LA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(GRAY[..., None], 3, axis=2))


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (7, 5, 4)])
def test_the_upper_eight_of_sixteen_bits_are_taken(tmp_path: Path, shape: Tuple[int, ...]) -> None:
    deep = RNG.integers(0, 65536, shape, dtype=np.uint16)
    deep.flat[:2] = 0, 65535
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    expected = deep[..., 2::-1] if deep.ndim == 3 else np.repeat(deep[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected >> 8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), cv2.imread(str(tmp_path / "a.png"))[..., ::-1])


@pytest.mark.parametrize("magic", [b"P2", b"P3", b"P5", b"P6"])
def test_sixteen_bits_of_a_pnm_are_scaled_as_those_of_any_format(tmp_path: Path, magic: bytes) -> None:
    channels = 3 if magic in (b"P3", b"P6") else 1
    deep = RNG.integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    deep.flat[:2] = 0, 65535
    is_plain = magic in (b"P2", b"P3")
    body = b" ".join(b"%d" % value for value in deep.flat) if is_plain else deep.astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(magic + b" # a comment\n5 7\n65535\n" + body)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm"), np.broadcast_to(deep >> 8, (7, 5, 3)))


@pytest.mark.parametrize("missing", [1, 30])
def test_pnm_of_deep_colors_that_ends_early_is_refused(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a.ppm").write_bytes((b"P6 5 7 65535\n" + bytes(210))[:-missing])
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.ppm")


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(RGB[:1, :1]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (1, 1, 3)


def test_missing_file_folder_and_empty_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, reason in (("no.jpg", "No such file"), ("", "not a file"), ("empty.jpg", "is empty")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB[..., 0].astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="float32"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "image, reason",
    [
        ([[1]], "list"),
        (RGB.astype(np.float32), "float32"),
        (GRAY, r"\(7, 5\)"),
        (np.dstack([RGB, GRAY]), r"\(7, 5, 4\)"),
        (RGB[:0], "5 x 0"),
        (np.broadcast_to(RGB[:1, :1], (20_000, 20_000, 3)), "20000 x 20000"),
        (np.broadcast_to(RGB[:1, :1], (1, 70_000, 3)), "70000 x 1"),
    ],
)
def test_array_that_is_no_image_is_refused(image: object, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        check_image(image)


def test_unknown_channel_order_is_refused() -> None:
    with pytest.raises(ImageError, match="gbr"):
        check_image(RGB, "gbr")


def test_image_too_large_for_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match="JPEG"):
        encode_jpeg(np.zeros((1, 65_535, 3), np.uint8))
