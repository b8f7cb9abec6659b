"""Images are read upright, as Pillow shows them; `stored` keeps what is in the file; sizes need the header only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from blendmask_edge import ImageError, read_image
from blendmask_edge.imaging import image_size

RGB = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def saved(path: Path, orientation: int, pixels: np.ndarray = RGB) -> Path:
    """Save a 32 x 48 image with an orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(path.suffix, {})
    Image.fromarray(pixels).save(path, exif=exif, **lossless)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied_once_and_the_size_agrees(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = saved(tmp_path / f"a{suffix}", orientation)
    upright, stored = read_image(path), read_image(path, orientation="stored")
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    assert np.abs(upright - expected).max() <= 3
    assert np.abs(stored.astype(int) - RGB).max() <= (6 if suffix == ".jpg" else 0)
    assert image_size(path) == upright.shape[:2]
    assert image_size(path, orientation="stored") == stored.shape[:2] == (32, 48)


@pytest.mark.parametrize("orientation", [3, 6])
def test_gray_tiff_of_sixteen_bits_is_turned_once(tmp_path: Path, orientation: int) -> None:
    deep = np.arange(15, dtype=np.uint16).reshape(3, 5) * 4369
    image = read_image(saved(tmp_path / "a.tif", orientation, deep))
    expected = np.rot90(deep >> 8, -1 if orientation == 6 else 2)
    np.testing.assert_array_equal(image[..., 0], expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range_turns_nothing(tmp_path: Path, orientation: int) -> None:
    assert read_image(saved(tmp_path / "a.jpg", orientation)).shape == RGB.shape


def test_unknown_orientation_is_refused(tmp_path: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match='"upright" or "stored"'):
            read(tmp_path / "a.jpg", orientation="exif")
