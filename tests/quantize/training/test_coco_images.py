"""Annotations become samples: masks of every form, crowds, order of painting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from blendmask_edge.errors import AnnotationError
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.labeled_images import read_labeled_images
from blendmask_quantize.training.samples import collate
from tests.quantize.images import (
    PLAIN,
    SIZE,
    Thing,
    paint,
    write_images,
)
from tests.quantize.tiny import LABELS, TINY
from tests.quantize.training.painted import CUP, THINGS, load, only_sample, rng


class TestSamples:
    def test_an_unchanged_image_comes_with_its_boxes(self, tmp_path):
        sample = only_sample(tmp_path, THINGS)
        assert torch.equal(sample.pixels, torch.from_numpy(paint(THINGS)).permute(2, 0, 1))
        assert sample.boxes.tolist() == [[8, 8, 40, 32], [30, 20, 80, 60]]
        assert sample.boxes.dtype == torch.float32
        assert sample.mask_targets.shape == (2, TINY.resolution, TINY.resolution)
        assert sample.mask_targets.all()

    def test_classes_are_ranks_of_the_category_ids(self, tmp_path):
        assert only_sample(tmp_path, THINGS).classes.tolist() == [1, 2]
        assert load(tmp_path, [THINGS]).labels == LABELS

    @pytest.mark.parametrize("form", ["rle", "counts"])
    def test_every_form_of_mask_gives_the_same_sample(self, tmp_path, form):
        polygons = only_sample(tmp_path / "a", THINGS)
        others = only_sample(tmp_path / "b", [replace(thing, form=form) for thing in THINGS])
        for name in ("pixels", "boxes", "classes", "mask_targets", "semantic"):
            assert torch.equal(getattr(polygons, name), getattr(others, name)), name

    def test_the_semantic_map_is_painted_in_file_order(self, tmp_path):
        for things in (THINGS, THINGS[::-1]):
            semantic = only_sample(tmp_path, things).semantic
            wanted = np.zeros(SIZE, np.int64)
            for thing in things:
                wanted[thing.mask] = LABELS.category_ids.index(thing.category) + 1
            np.testing.assert_array_equal(semantic, wanted)

    def test_crowds_count_in_the_semantic_map_only(self, tmp_path):
        crowd = Thing(CUP, (60, 0, 96, 30), crowd=True, form="rle")
        sample = only_sample(tmp_path, [*THINGS, crowd])
        assert sample.classes.tolist() == [1, 2]
        assert sample.semantic[10, 70] == 1

    def test_slivers_are_no_targets(self, tmp_path):
        sliver, enough = Thing(CUP, (80, 10, 81, 29)), Thing(CUP, (90, 10, 91, 30))
        sample = only_sample(tmp_path, [THINGS[0], sliver, enough])
        assert sample.boxes.tolist() == [[8, 8, 40, 32], [90, 10, 91, 30]]
        assert sample.semantic[15, 80] == 1

    def test_an_augmented_image_may_show_no_instance(self, tmp_path):
        sample = only_sample(tmp_path, [Thing(CUP, (0, 0, 4, 4))])
        assert sample.boxes.shape == (0, 4)
        assert sample.mask_targets.shape == (0, TINY.resolution, TINY.resolution)

    @pytest.mark.parametrize("channels", ["rgb", "bgr"])
    def test_outside_the_image_lies_the_mean(self, tmp_path, channels):
        mean = (10.2, 20, 29.7) if channels == "rgb" else (29.7, 20, 10.2)
        config = replace(TINY, input=replace(TINY.input, channels=channels, mean=mean))
        sample = load(tmp_path, [THINGS], replace(PLAIN, crop=(128, 192)), config).sample(0, rng())
        outside = (sample.pixels == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]).all(dim=0)
        assert 0 <= outside.sum() - (128 * 192 - (SIZE[0] + 1) * (SIZE[1] + 1)) <= SIZE[0] + SIZE[1] + 1

    def test_collating_stacks_images_and_keeps_instances_apart(self, tmp_path):
        images = load(tmp_path, [THINGS, THINGS[:1]])
        samples = [images.sample(i, rng()) for i in range(2)]
        batch = collate(samples)
        assert batch.pixels.shape == (2, 3, *SIZE)
        assert batch.semantic.shape == (2, *SIZE)
        for name in ("boxes", "classes", "mask_targets"):
            assert all(torch.equal(a, getattr(s, name)) for a, s in zip(getattr(batch, name), samples, strict=True))

    def test_an_image_kept_as_a_negative_has_no_instance(self, tmp_path):
        labeled = read_labeled_images(tmp_path, write_images(tmp_path, [THINGS, []]), keep_empty=True)
        sample = CocoImages(labeled, TINY, PLAIN).sample(1, rng())
        assert sample.boxes.shape == (0, 4)
        assert torch.equal(sample.pixels, torch.from_numpy(paint([])).permute(2, 0, 1))
        assert not sample.semantic.any()

    def test_another_number_of_classes_is_refused(self, tmp_path):
        with pytest.raises(AnnotationError, match="has 3 categories, TINY expects 5"):
            load(tmp_path, [THINGS], config=replace(TINY, num_classes=5))
