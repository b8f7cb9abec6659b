"""Resizing follows the reference: its sizes and Pillow's pixels, both exactly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blendmask_edge.imaging import ImageTransform, fit_size, preprocess, read_image, resize, resized_size
from tests.reference_values import PARITY, recorded_cases

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "examples/homescenes/evaluation"
SIDES = st.integers(1, 120)
NOISE_LONG = np.random.default_rng(1).integers(0, 256, (2400, 2, 3), dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)


def by_pillow(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Return Pillow's bilinear resize to (height, width).

    Pillow resizes widths first; from release 13 on heights first where that is cheaper, with other roundings.
    """
    wide = Image.fromarray(image).resize((size[1], len(image)), Image.BILINEAR)
    return np.asarray(wide.resize(size[::-1], Image.BILINEAR))


@given(height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES, seed=st.integers(0, 3))
def test_resize_equals_pillow(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    image, size = np.roll(NOISE, seed * 7)[:height, :width], (new_height, new_width)
    np.testing.assert_array_equal(resize(image, size), by_pillow(np.ascontiguousarray(image), size))


@given(target=st.integers(1, 40), factor=st.integers(1, 60), kind=st.sampled_from(["noise", "extremes", "white"]))
def test_every_rate_of_shrinking_equals_pillow(target: int, factor: int, kind: str) -> None:
    image = NOISE_LONG[: target * factor]
    image = {"noise": image, "extremes": np.where(image < 128, 0, 255), "white": np.full_like(image, 255)}[kind]
    image = image.astype(np.uint8)
    np.testing.assert_array_equal(resize(image, (target, 3)), by_pillow(image, (target, 3)))


@pytest.mark.parametrize(
    "source, target",
    [
        ((480, 640), (384, 512)),
        ((720, 1280), (288, 512)),
        ((96, 128), (384, 512)),
        ((640, 480), (384, 288)),
        ((1280, 720), (512, 288)),
        ((479, 641), (383, 511)),
        ((333, 517), (211, 389)),
        ((2000, 3001), (64, 96)),
        ((17, 23), (384, 512)),
        ((1, 1), (384, 512)),
        ((1, 900), (1, 512)),
        ((900, 1), (384, 1)),
        ((2, 1500), (384, 3)),
        ((480, 640), (1, 1)),
    ],
)
def test_camera_and_odd_sizes_equal_pillow(source: Tuple[int, int], target: Tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*source, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, target), by_pillow(image, target))


@pytest.mark.parametrize("bounds", [(384, 512), (512, 384), (64, 96)])
def test_photographs_reach_the_network_as_pillow_would_bring_them(bounds: Tuple[int, int]) -> None:
    images = sorted(IMAGES.glob("*.jpg"))[:6]
    assert images
    for path in images:
        image = read_image(path)
        prepared = preprocess(image, bounds, (127, 127, 127))
        height, width = prepared.transform.resized
        np.testing.assert_array_equal(prepared.image[0, :height, :width], by_pillow(image, prepared.transform.resized))


def test_resize_takes_views_of_any_stride() -> None:
    view = NOISE[::-2, ::3, ::-1]
    np.testing.assert_array_equal(resize(view, (20, 30)), resize(view.copy(), (20, 30)))


@given(value=st.integers(0, 255), height=SIDES, width=SIDES, new_height=SIDES, new_width=SIDES)
def test_flat_color_stays_flat(value: int, height: int, width: int, new_height: int, new_width: int) -> None:
    assert (resize(np.full((height, width, 3), value, np.uint8), (new_height, new_width)) == value).all()


@pytest.mark.parametrize("case", recorded_cases("image.npz"))
def test_resize_equals_the_reference_images(case: str) -> None:
    arrays = np.load(PARITY / case / "image.npz")
    expected = arrays["bgr_resized"][..., ::-1]
    np.testing.assert_array_equal(resize(arrays["rgb_original"], expected.shape[:2]), expected)


@pytest.mark.parametrize(
    "size, short, long, expected",
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((375, 1242), 800, 1333, (402, 1333)),
        ((500, 500), 512, 736, (512, 512)),
        ((300, 396), 200, 333, (200, 264)),
        ((300, 397), 200, 333, (200, 265)),
        ((411, 290), 180, 333, (255, 180)),
        ((1, 3000), 512, 736, (1, 736)),
    ],
)
def test_resized_size_is_the_reference_rule(
    size: Tuple[int, int], short: int, long: int, expected: Tuple[int, int]
) -> None:
    assert resized_size(*size, short, long) == expected


@given(
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    bounds=st.tuples(st.integers(1, 900), st.integers(1, 900)),
)
def test_fitted_image_fills_one_side_and_keeps_its_aspect(size: Tuple[int, int], bounds: Tuple[int, int]) -> None:
    height, width = fit_size(size, bounds)
    assert 1 <= height <= bounds[0]
    assert 1 <= width <= bounds[1]
    assert height == bounds[0] or width == bounds[1]
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    assert abs(height - size[0] * scale) <= max(0.5, 1 - size[0] * scale)
    assert abs(width - size[1] * scale) <= max(0.5, 1 - size[1] * scale)


def test_prepared_image_lies_top_left_and_the_rest_is_padding() -> None:
    prepared = preprocess(NOISE[:30, :60], (64, 96), (1, 2, 3))
    assert prepared.image.shape == (1, 64, 96, 3)
    assert prepared.transform == ImageTransform((30, 60), (48, 96))
    np.testing.assert_array_equal(prepared.image[0, :48], resize(NOISE[:30, :60], (48, 96)))
    assert (prepared.image[0, 48:] == (1, 2, 3)).all()
    assert prepared.transform.scale == (60 / 96, 30 / 48)


def test_padding_at_the_right() -> None:
    prepared = preprocess(NOISE[:60, :30], (60, 96), (9, 8, 7))
    np.testing.assert_array_equal(prepared.image[0, :, :30], NOISE[:60, :30])
    assert (prepared.image[0, :, 30:] == (9, 8, 7)).all()


def test_bgr_images_give_the_same_network_input() -> None:
    rgb = preprocess(NOISE[:50, :70], (64, 64), (1, 2, 3)).image
    bgr = preprocess(NOISE[:50, :70, ::-1], (64, 64), (1, 2, 3), channels="bgr").image
    np.testing.assert_array_equal(bgr, rgb)


def test_threads_do_not_disturb_each_other() -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (97, 131, 3), np.uint8) for seed in range(4)]
    alone = [resize(image, (40, 60)) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda number: resize(images[number % 4], (40, 60)), range(200)))
    for number, result in enumerate(together):
        np.testing.assert_array_equal(result, alone[number % 4])
