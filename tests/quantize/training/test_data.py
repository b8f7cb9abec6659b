"""Annotations become samples: masks of every form, crowds, order of painting, and one message for each unfit file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from blendmask_edge.errors import AnnotationError
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.data import CocoImages, Sample, ViewStream, collate
from tests.quantize.images import (
    PLAIN,
    SIZE,
    Thing,
    describe,
    paint,
    some_images,
    write_annotations,
    write_images,
)
from tests.quantize.tiny import LABELS, TINY

CUP, PLATE, FORK = LABELS.category_ids
THINGS = [Thing(PLATE, (8, 8, 40, 32)), Thing(FORK, (30, 20, 80, 60))]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def load(tmp_path, images: list[list[Thing]], options: Augmentation = PLAIN, config=TINY) -> CocoImages:
    return CocoImages(tmp_path, write_images(tmp_path, images), config, options)


def only_view(tmp_path, things: list[Thing], options: Augmentation = PLAIN) -> Sample:
    return load(tmp_path, [things], options).view(0, rng())


class TestSamples:
    def test_an_unchanged_view_is_the_image_with_its_boxes(self, tmp_path):
        sample = only_view(tmp_path, THINGS)
        assert torch.equal(sample.pixels, torch.from_numpy(paint(THINGS)).permute(2, 0, 1))
        assert sample.boxes.tolist() == [[8, 8, 40, 32], [30, 20, 80, 60]]
        assert sample.boxes.dtype == torch.float32
        assert sample.mask_targets.shape == (2, TINY.resolution, TINY.resolution)
        assert sample.mask_targets.all()

    def test_classes_are_ranks_of_the_category_ids(self, tmp_path):
        assert only_view(tmp_path, THINGS).classes.tolist() == [1, 2]
        assert load(tmp_path, [THINGS]).labels == LABELS

    @pytest.mark.parametrize("form", ["rle", "counts"])
    def test_every_form_of_mask_gives_the_same_sample(self, tmp_path, form):
        polygons = only_view(tmp_path / "a", THINGS)
        others = only_view(tmp_path / "b", [replace(thing, form=form) for thing in THINGS])
        for name in ("pixels", "boxes", "classes", "mask_targets", "semantic"):
            assert torch.equal(getattr(polygons, name), getattr(others, name)), name

    def test_the_semantic_map_is_painted_in_file_order(self, tmp_path):
        for things in (THINGS, THINGS[::-1]):
            semantic = only_view(tmp_path, things).semantic
            wanted = np.zeros(SIZE, np.int64)
            for thing in things:
                wanted[thing.mask] = LABELS.category_ids.index(thing.category) + 1
            np.testing.assert_array_equal(semantic, wanted)

    def test_crowds_count_in_the_semantic_map_only(self, tmp_path):
        crowd = Thing(CUP, (60, 0, 96, 30), crowd=True, form="rle")
        sample = only_view(tmp_path, [*THINGS, crowd])
        assert sample.classes.tolist() == [1, 2]
        assert sample.semantic[10, 70] == 1

    def test_slivers_are_not_asked_for(self, tmp_path):
        sliver, enough = Thing(CUP, (80, 10, 81, 29)), Thing(CUP, (90, 10, 91, 30))
        sample = only_view(tmp_path, [THINGS[0], sliver, enough])
        assert sample.boxes.tolist() == [[8, 8, 40, 32], [90, 10, 91, 30]]
        assert sample.semantic[15, 80] == 1

    def test_a_view_may_show_no_object(self, tmp_path):
        sample = only_view(tmp_path, [Thing(CUP, (0, 0, 4, 4))])
        assert sample.boxes.shape == (0, 4)
        assert sample.mask_targets.shape == (0, TINY.resolution, TINY.resolution)

    @pytest.mark.parametrize("channels", ["rgb", "bgr"])
    def test_outside_the_image_lies_the_mean(self, tmp_path, channels):
        mean = (10.2, 20, 29.7) if channels == "rgb" else (29.7, 20, 10.2)
        config = replace(TINY, input=replace(TINY.input, channels=channels, mean=mean))
        sample = load(tmp_path, [THINGS], replace(PLAIN, crop=(128, 192)), config).view(0, rng())
        outside = (sample.pixels == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]).all(dim=0)
        assert 0 <= outside.sum() - (128 * 192 - (SIZE[0] + 1) * (SIZE[1] + 1)) <= SIZE[0] + SIZE[1] + 1

    def test_collating_stacks_images_and_keeps_instances_apart(self, tmp_path):
        images = load(tmp_path, [THINGS, THINGS[:1]])
        samples = [images.view(i, rng()) for i in range(2)]
        batch = collate(samples)
        assert batch.pixels.shape == (2, 3, *SIZE)
        assert batch.semantic.shape == (2, *SIZE)
        for name in ("boxes", "classes", "mask_targets"):
            assert all(torch.equal(a, getattr(s, name)) for a, s in zip(getattr(batch, name), samples, strict=True))


class TestWhichImages:
    def test_images_without_a_valid_object_are_left_out(self, tmp_path):
        crowd, flat = Thing(CUP, (0, 0, 40, 40), crowd=True, form="rle"), Thing(CUP, (5, 5, 5, 30), form="rle")
        images = load(tmp_path, [[], THINGS, [crowd], [flat], THINGS[:1]])
        assert len(images) == 2
        assert [len(images.view(i, rng()).boxes) for i in range(2)] == [2, 1]

    def test_those_need_not_be_in_the_folder(self, tmp_path):
        annotations = write_images(tmp_path, [[], THINGS])
        (tmp_path / "0.png").unlink()
        assert len(CocoImages(tmp_path, annotations, TINY, PLAIN)) == 1


class TestUnfitAnnotations:
    def refused(self, tmp_path, message: str, **keywords: Any) -> None:
        with pytest.raises(AnnotationError, match=message):
            CocoImages(tmp_path, tmp_path / "annotations.json", keywords.get("config", TINY), PLAIN)

    def test_a_missing_file(self, tmp_path):
        self.refused(tmp_path, r"annotations\.json: it (cannot be read|is not)")

    @pytest.mark.parametrize("text", ["", "{", "not json", "\x00\xff"])
    def test_broken_json(self, tmp_path, text):
        (tmp_path / "annotations.json").write_text(text, encoding="latin-1")
        self.refused(tmp_path, r"annotations\.json: it (cannot be read|is not)")

    @pytest.mark.parametrize("content", [7, [], {}, {"images": []}, {"images": 3, "annotations": [], "categories": []}])
    def test_json_of_another_kind(self, tmp_path, content):
        write_annotations(tmp_path, content)
        self.refused(tmp_path, r"annotations\.json: it lacks ")

    def test_another_number_of_classes(self, tmp_path):
        write_images(tmp_path, [THINGS])
        message = "has 3 categories, TINY expects 5: set the configuration's class count"
        self.refused(tmp_path, message, config=replace(TINY, num_classes=5))

    @pytest.mark.parametrize("missing", [["0.png"], ["2.png"], ["0.png", "1.png", "2.png"]])
    def test_missing_images(self, tmp_path, missing):
        write_images(tmp_path, [THINGS] * 3)
        for name in missing:
            (tmp_path / name).unlink()
        self.refused(tmp_path, rf"{len(missing)} of 3 .*images are not in .*{missing[0]}")

    def test_no_instances_at_all(self, tmp_path):
        write_images(tmp_path, [[], []])
        self.refused(tmp_path, "no annotations")

    @pytest.mark.parametrize("field", ["segmentation", "category_id", "image_id"])
    def test_an_object_without_a_field(self, tmp_path, field):
        self.spoilt(tmp_path, lambda annotation: annotation.pop(field))
        self.refused(tmp_path, field)

    @pytest.mark.parametrize("segmentation", [
        None, 3, "text", [], [[]], [3], {"size": [64, 96]}, {"counts": "abc"}, {"size": [64, 96], "counts": [5]},
        {"size": [32, 96], "counts": [0, 32 * 96]},
    ])  # fmt: skip
    def test_a_mask_that_is_none(self, tmp_path, segmentation):
        self.spoilt(tmp_path, lambda annotation: annotation.update(segmentation=segmentation))
        self.refused(tmp_path, r"annotation 2 \(index \d+\): ")

    @pytest.mark.parametrize("box", [[], [1, 2], "abcd"])
    def test_a_box_that_is_none(self, tmp_path, box):
        self.spoilt(tmp_path, lambda annotation: annotation.update(bbox=box))
        self.refused(tmp_path, r"annotation 2 \(index \d+\): ")

    def test_an_unknown_category(self, tmp_path):
        self.spoilt(tmp_path, lambda annotation: annotation.update(category_id=77))
        self.refused(tmp_path, "77")

    def test_images_of_another_size_than_annotated(self, tmp_path):
        content = describe([THINGS])
        write_images(tmp_path, [THINGS])
        content["images"][0].update(height=60, width=90)
        images = CocoImages(tmp_path, write_annotations(tmp_path, content), TINY, PLAIN)
        with pytest.raises(AnnotationError, match=r"0\.png is 96 x 64 pixels, annotated as 90 x 60"):
            images.view(0, rng())

    @staticmethod
    def spoilt(tmp_path, change: Any) -> None:
        write_images(tmp_path, [THINGS])
        content = describe([THINGS])
        change(content["annotations"][1])
        write_annotations(tmp_path, content)


class TestViewStream:
    def stream(self, tmp_path, length: int = 40, seed: int = 3) -> ViewStream:
        """Seven images from two sources, told apart by the width of their only object."""
        things = [[Thing(CUP, (0, 0, 20 + 10 * i, 40))] for i in range(7)]
        sources = [load(tmp_path / "a", things[:4]), load(tmp_path / "b", things[4:])]
        return ViewStream(sources, length, seed)

    @staticmethod
    def image(sample: Sample) -> int:
        return round((float(sample.boxes[0, 2]) - 20) / 10)

    def test_each_pass_shows_every_image_of_all_sources_once(self, tmp_path):
        stream = self.stream(tmp_path)
        shown = [self.image(stream[i]) for i in range(28)]
        passes = [shown[start : start + 7] for start in range(0, 28, 7)]
        assert all(sorted(one) == list(range(7)) for one in passes)
        assert len({tuple(one) for one in passes}) > 1

    def test_an_item_does_not_depend_on_those_before(self, tmp_path):
        stream = self.stream(tmp_path)
        forwards, backwards = [stream[i] for i in range(20)], [stream[i] for i in reversed(range(20))][::-1]
        fresh = self.stream(tmp_path, length=20)
        for i, (a, b) in enumerate(zip(forwards, backwards, strict=True)):
            assert torch.equal(a.pixels, b.pixels)
            assert torch.equal(a.pixels, fresh[i].pixels)

    def test_a_image_is_seen_anew_in_every_pass(self, tmp_path):
        source = load(tmp_path, [THINGS], replace(PLAIN, scale=(0.5, 2.0)))
        stream = ViewStream([source], 8, seed=3)
        assert len({stream[i].pixels.numpy().tobytes() for i in range(8)}) == 8

    def test_the_seed_decides(self, tmp_path):
        order = {seed: [self.image(self.stream(tmp_path, seed=seed)[i]) for i in range(14)] for seed in (3, 4)}
        assert order[3] != order[4]

    def test_it_is_as_long_as_asked(self, tmp_path):
        assert len(self.stream(tmp_path, length=40)) == 40

    def test_sources_with_other_categories_are_refused(self, tmp_path):
        content = describe([THINGS])
        content["categories"][0]["name"] = "knife"
        write_images(tmp_path / "b", [THINGS])
        other = CocoImages(tmp_path / "b", write_annotations(tmp_path / "b", content), TINY, PLAIN)
        with pytest.raises(AnnotationError, match="different categories"):
            ViewStream([load(tmp_path / "a", some_images()), other], 4, 0)
