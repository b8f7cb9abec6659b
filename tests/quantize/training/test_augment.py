"""Augmentation: image and masks move together, boxes are tight, the seed decides everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from blendmask_quantize.training.augment import Augmentation, AugmentedImage, augment
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.samples import SMALLEST_INSTANCE, mask_boxes
from tests.quantize.images import PLAIN, SIZE, some_images, write_images
from tests.quantize.tiny import TINY

GRAY = (100, 100, 100)
SEEDS = st.integers(0, 2**32)
MOVING = replace(PLAIN, crop=(64, 96), scale=(0.5, 2.0), flip=0.5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def blobs(count: int, seed: int, size: tuple[int, int] = (80, 120)) -> NDArray[np.bool_]:
    """Ellipses (count, H, W)."""
    y, x = np.mgrid[: size[0], : size[1]]
    random = rng(seed)
    centers, radii = random.uniform((0, 0), size, (count, 2)), random.uniform(8, 30, (count, 2))
    pairs = zip(centers, radii, strict=True)
    return np.array([((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1 for (cy, cx), (ry, rx) in pairs])


def lit(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """An image that is white where the mask is."""
    return np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255


def moved(pixels: NDArray[np.uint8], masks: NDArray[np.bool_], options: Augmentation, seed: int) -> AugmentedImage:
    return augment(pixels, masks, (80, 120), options, rng(seed), (0, 0, 0))


class TestMotion:
    @given(seed=SEEDS, shape=st.integers(0, 20), rotation=st.sampled_from([0.0, 30.0]))
    def test_masks_follow_the_image(self, seed, shape, rotation):
        mask = blobs(1, shape)
        seen = moved(lit(mask[0]), mask, replace(MOVING, rotation=rotation), seed)
        assert seen.pixels.shape == (64, 96, 3)
        # Half a pixel at the rim may fall either way.
        rim = (seen.pixels[..., 0] > 64) & (seen.pixels[..., 0] < 192)
        assert np.array_equal(seen.masks[0] & ~rim, (seen.pixels[..., 0] >= 192))

    @given(seed=SEEDS, count=st.integers(0, 19))
    def test_each_mask_moves_as_if_alone(self, seed, count):
        masks = blobs(count, 1) if count else np.zeros((0, 80, 120), bool)
        pixels = np.zeros((80, 120, 3), np.uint8)
        together = moved(pixels, masks, MOVING, seed).masks
        assert together.shape == (count, 64, 96)
        for index in range(count):
            assert np.array_equal(together[index], moved(pixels, masks[index : index + 1], MOVING, seed).masks[0])

    @given(seed=SEEDS)
    def test_a_flip_mirrors_image_and_masks(self, seed):
        masks = blobs(3, 2)
        pixels = rng(1).integers(0, 256, (80, 120, 3), dtype=np.uint8)
        plain, mirrored = (moved(pixels, masks, replace(MOVING, flip=flip), seed) for flip in (0.0, 1.0))
        difference = np.abs(mirrored.pixels[:, ::-1].astype(int) - plain.pixels)
        # Positions are rounded to 1/32 pixel, so that mirrored ones may differ by one such step.
        assert difference.max() <= 2 * 255 / 32
        assert (mirrored.masks[:, :, ::-1] != plain.masks).mean() < 0.01

    @given(seed=SEEDS)
    def test_two_flips_are_none(self, seed):
        pixels, masks = rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8), blobs(3, 2, SIZE)
        once = augment(pixels, masks, SIZE, replace(PLAIN, flip=1.0), rng(seed), GRAY)
        assert np.array_equal(once.pixels, pixels[:, ::-1])
        twice = augment(once.pixels, once.masks, SIZE, replace(PLAIN, flip=1.0), rng(seed), GRAY)
        assert np.array_equal(twice.pixels, pixels)
        assert np.array_equal(twice.masks, masks)

    @given(seed=SEEDS)
    def test_a_turn_stays_within_its_bounds_and_about_the_middle(self, seed):
        bar = np.zeros((1, 80, 120), bool)
        bar[0, 36:44, 20:100] = True
        options = replace(PLAIN, crop=(96, 128), rotation=20.0)
        seen = augment(lit(bar[0]), bar, (80, 120), options, rng(seed), GRAY).masks[0]
        y, x = np.nonzero(seen)
        angle = np.degrees(np.arctan2(*np.linalg.svd(np.cov(x, y))[0][::-1, 0]))
        assert abs((angle + 90) % 180 - 90) <= 20.5
        assert seen.sum() == pytest.approx(640, rel=0.1)

    @pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
    def test_scale_one_is_the_test_size(self, scale):
        mask = np.ones((1, 40, 60), bool)
        options = replace(MOVING, crop=(320, 320), scale=(scale, scale), flip=0)
        seen = augment(lit(mask[0]), mask, (80, 120), options, rng(), (0, 0, 0)).masks
        x0, y0, x1, y1 = mask_boxes(seen)[0]
        assert x1 - x0 == pytest.approx(120 * scale, abs=1)
        assert y1 - y0 == pytest.approx(80 * scale, abs=1)

    @given(seed=SEEDS)
    def test_a_small_image_stays_whole_and_a_large_one_fills_the_crop(self, seed):
        mask = np.ones((1, 80, 120), bool)
        small = moved(lit(mask[0]), mask, replace(MOVING, scale=(0.25, 0.75), crop=(64, 96)), seed)
        assert not small.masks[0].all()
        large = moved(lit(mask[0]), mask, replace(MOVING, scale=(1.0, 2.0), crop=(64, 96)), seed)
        assert large.masks[0].all()


class TestColor:
    STRONG = replace(MOVING, scale=(1, 1), flip=0, brightness=0.3, contrast=0.3, saturation=0.3, white_balance=0.1)

    @given(seed=SEEDS)
    def test_without_strength_nothing_changes(self, seed):
        pixels = rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        masks = np.zeros((0, *SIZE), bool)
        assert np.array_equal(augment(pixels, masks, SIZE, PLAIN, rng(seed), GRAY).pixels, pixels)

    @pytest.mark.parametrize("field, value", [
        ("brightness", 0.3), ("contrast", 0.3), ("saturation", 0.9), ("white_balance", 0.3), ("blur", 1.0),
        ("motion", 1.0), ("noise", 1.0),
    ])  # fmt: skip
    def test_each_option_changes_the_image_but_not_the_masks(self, field, value):
        pixels = rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        masks = blobs(2, 0, SIZE)
        seen = augment(pixels, masks, SIZE, replace(PLAIN, **{field: value}), rng(5), GRAY)
        assert not np.array_equal(seen.pixels, pixels)
        assert np.array_equal(seen.masks, masks)

    @given(seed=SEEDS)
    def test_motion_blur_keeps_brightness(self, seed):
        pixels = np.full((*SIZE, 3), 90, np.uint8)
        pixels[24:40, 40:56] = 200
        seen = augment(pixels, np.zeros((0, *SIZE), bool), SIZE, replace(PLAIN, motion=1.0), rng(seed), GRAY)
        assert seen.pixels.mean() == pytest.approx(pixels.mean(), abs=0.6)
        assert not np.array_equal(seen.pixels, pixels)

    def test_saturation_leaves_gray_alone(self):
        pixels = np.repeat(rng(3).integers(0, 256, (*SIZE, 1), dtype=np.uint8), 3, axis=2)
        seen = augment(pixels, np.zeros((0, *SIZE), bool), SIZE, replace(PLAIN, saturation=0.9), rng(5), GRAY)
        assert np.abs(seen.pixels.astype(int) - pixels).max() <= 1


class TestSamplesOfImages:
    @pytest.fixture(scope="class")
    @staticmethod
    def images(tmp_path_factory) -> CocoImages:
        folder = tmp_path_factory.mktemp("images")
        options = Augmentation(crop=(64, 96), scale=(0.5, 2.0), rotation=0, paste=0)
        return CocoImages.open(folder, write_images(folder, some_images(6)), TINY, options)

    @given(seed=SEEDS, index=st.integers(0, 5))
    def test_the_seed_decides_everything(self, images, seed, index):
        one, other = (images.sample(index, rng(seed)) for _ in range(2))
        for name in ("pixels", "boxes", "classes", "mask_targets", "semantic"):
            assert (getattr(one, name) == getattr(other, name)).all(), name

    @given(seed=SEEDS, index=st.integers(0, 5))
    def test_boxes_lie_in_the_crop_and_their_masks_fill_them(self, images, seed, index):
        """The instances are rectangles, so what is visible of one fills its tight box but for its sampled corners."""
        sample = images.sample(index, rng(seed))
        for (x0, y0, x1, y1), mask in zip(sample.boxes.tolist(), sample.mask_targets, strict=True):
            assert 0 <= x0 < x1 <= 96
            assert 0 <= y0 < y1 <= 64
            assert mask.float().mean() > 0.9
            assert mask[14].all()
            assert mask[:, 14].all()

    @given(seed=SEEDS)
    def test_after_every_augmentation_a_box_is_the_extent_of_its_mask(self, alone, seed):
        sample = alone.sample(0, rng(seed))
        shown = (sample.semantic > 0).numpy()
        if len(sample.boxes):
            assert np.array_equal(sample.boxes.numpy(), mask_boxes(shown[None]))
        else:
            assert shown.sum() < SMALLEST_INSTANCE

    @pytest.fixture(scope="class")
    @staticmethod
    def alone(tmp_path_factory) -> CocoImages:
        """One instance in one image."""
        folder = tmp_path_factory.mktemp("alone")
        options = Augmentation(crop=(64, 96), scale=(0.3, 3.0), rotation=45, blur=1, motion=1, noise=1, paste=0)
        return CocoImages.open(folder, write_images(folder, [some_images(1)[0][:1]]), TINY, options)

    def test_seeds_differ(self, images):
        assert (images.sample(0, rng(1)).pixels != images.sample(0, rng(2)).pixels).any()


class TestMaskBoxes:
    @given(data=st.data())
    def test_they_are_tight(self, data):
        bits = data.draw(
            st.lists(st.lists(st.booleans(), min_size=12, max_size=12).filter(any), min_size=1, max_size=4)
        )
        masks = np.array(bits).reshape(-1, 3, 4)
        for mask, (x0, y0, x1, y1) in zip(masks, mask_boxes(masks), strict=True):
            rows, columns = np.nonzero(mask)
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)

    def test_no_masks_have_no_boxes(self):
        assert mask_boxes(np.zeros((0, 3, 4), bool)).shape == (0, 4)
