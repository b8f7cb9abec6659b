"""Copy-paste: what is laid on top hides what lies beneath, and only that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blendmask_edge.errors import ConfigError
from blendmask_quantize.training.augment import Augmentation, AugmentedImage
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.copy_paste import LEAST_VISIBLE, Scene, paste
from blendmask_quantize.training.samples import mask_boxes
from blendmask_quantize.training.sampling import EVEN, SamplingOptions
from tests.quantize.images import PLAIN, SIZE, Thing, some_images, write_images
from tests.quantize.tiny import TINY

SEEDS = st.integers(0, 2**32)


def scene(seed: int, count: int) -> Scene:
    """A scene of noise with rectangles of random classes; every third is ignored."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *SIZE), bool)
    for mask in masks:
        y, x = rng.integers(0, 48, 2)
        height, width = rng.integers(2, 40, 2)
        mask[y : y + height, x : x + width] = True
    pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Scene(AugmentedImage(pixels, masks), rng.integers(0, 3, count), np.arange(count) % 3 == 2)


def rows(data: st.DataObject, count: int) -> np.ndarray:
    return np.array(data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count)), int)


class TestPasting:
    @given(data=st.data(), seed=SEEDS, below=st.integers(0, 6), above=st.integers(1, 6))
    def test_pasted_masks_stay_whole_and_take_their_pixels_from_what_lies_beneath(self, data, seed, below, above):
        scenery, donor = scene(seed, below), scene(seed + 1, above)
        chosen = rows(data, above)
        result = paste(scenery, donor, chosen)
        assert np.array_equal(result.image.masks[below:], donor.image.masks[chosen])
        cover = donor.image.masks[chosen].any(axis=0)
        assert not (result.image.masks[:below] & cover).any()
        assert np.array_equal(result.image.masks[:below] | (scenery.image.masks & cover), scenery.image.masks)

    @given(data=st.data(), seed=SEEDS, below=st.integers(0, 6), above=st.integers(1, 6))
    def test_classes_follow_and_what_is_nearly_hidden_is_ignored(self, data, seed, below, above):
        scenery, donor = scene(seed, below), scene(seed + 1, above)
        chosen = rows(data, above)
        result = paste(scenery, donor, chosen)
        assert result.classes.tolist() == [*scenery.classes, *donor.classes[chosen]]
        assert result.ignored[below:].tolist() == donor.ignored[chosen].tolist()
        for row in range(below):
            left = result.image.masks[row].sum() / scenery.image.masks[row].sum()
            assert result.ignored[row] == (scenery.ignored[row] or left < LEAST_VISIBLE)

    @given(seed=SEEDS)
    @example(seed=353940).via("an instance narrower than its two rims, at the edge")
    def test_pixels_come_from_the_donor_within_and_from_the_scene_away_from_it(self, seed):
        scenery, donor = scene(seed, 1), scene(seed + 1, 1)
        seen = paste(scenery, donor, np.array([0])).image.pixels.astype(int)
        x0, y0, x1, y1 = mask_boxes(donor.image.masks)[0].astype(int)
        inside = (slice(y0 + 4, max(y1 - 4, 0)), slice(x0 + 4, max(x1 - 4, 0)))
        assert np.abs(seen[inside] - donor.image.pixels[inside]).max(initial=0) <= 1
        away = np.ones(SIZE, bool)
        away[max(y0 - 4, 0) : y1 + 4, max(x0 - 4, 0) : x1 + 4] = False
        assert np.abs(seen[away] - scenery.image.pixels[away]).max() <= 1

    def test_nothing_chosen_changes_nothing(self):
        scenery = scene(0, 3)
        result = paste(scenery, scene(1, 3), np.array([], int))
        assert np.array_equal(result.image.pixels, scenery.image.pixels)
        assert np.array_equal(result.image.masks, scenery.image.masks)


class TestSamplesWithPastedInstances:
    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        """Two empty corners: a cup, a plate and a crowd of forks in the first image, a cup in the second."""
        things = [
            [Thing(2, (4, 4, 24, 24)), Thing(5, (30, 4, 60, 24)), Thing(9, (4, 40, 90, 60), crowd=True, form="rle")],
            [Thing(2, (64, 4, 84, 24))],
        ]
        write_images(tmp_path, things)
        return tmp_path

    @staticmethod
    def source(folder: Path, sampling: SamplingOptions = EVEN, **options: float) -> CocoImages:
        return CocoImages.open(folder, folder / "annotations.json", TINY, replace(PLAIN, **options), sampling)

    def test_never_means_never_and_always_always(self, images):
        for seed in range(8):
            assert len(self.source(images).sample(1, np.random.default_rng(seed)).boxes) == 1
            assert len(self.source(images, paste=1.0).sample(1, np.random.default_rng(seed)).boxes) >= 1
        many = [len(self.source(images, paste=1.0).sample(1, np.random.default_rng(s)).boxes) for s in range(8)]
        assert max(many) == 3

    def test_crowds_are_not_pasted(self, images):
        source = self.source(images, paste=1.0)
        sampled = {c for seed in range(30) for c in source.sample(1, np.random.default_rng(seed)).classes.tolist()}
        assert sampled == {0, 1}

    def test_the_most_is_kept(self, images):
        source = self.source(images, paste=1.0, paste_most=1)
        assert max(len(source.sample(1, np.random.default_rng(seed)).boxes) for seed in range(20)) == 2

    @pytest.mark.slow
    def test_a_class_of_more_weight_is_pasted_more_often(self, images):
        def plates(sampling: SamplingOptions) -> int:
            source = self.source(images, sampling, paste=1.0, paste_most=1)
            return sum(1 in source.sample(1, np.random.default_rng(seed)).classes for seed in range(200))

        assert 70 < plates(EVEN) < 130
        assert plates(SamplingOptions(class_weights=(("plate", 9.0),))) > 160

    @given(seed=SEEDS, index=st.integers(0, 5))
    def test_every_box_is_the_extent_of_a_visible_instance(self, seed, index, many):
        """Where the semantic map shows a class, an instance of that class has its box around it."""
        sample = many.sample(index, np.random.default_rng(seed))
        for (x0, y0, x1, y1), class_id in zip(sample.boxes.int().tolist(), sample.classes.tolist(), strict=True):
            inside = (sample.semantic == class_id + 1)[y0:y1, x0:x1]
            for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert side.any()

    @pytest.fixture(scope="class")
    @staticmethod
    def many(tmp_path_factory) -> CocoImages:
        """Images whose instances do not overlap, and samples in which only pasted ones cover anything."""
        folder = tmp_path_factory.mktemp("many")
        write_images(folder, [things[:1] for things in some_images(6)])
        options = Augmentation(crop=SIZE, scale=(0.5, 2.0), rotation=20, paste=1.0)
        return CocoImages.open(folder, folder / "annotations.json", TINY, options)


class TestOptions:
    @pytest.mark.parametrize("options, message", [
        ({"crop": (320, 400)}, "multiples of 32"), ({"scale": (1.5, 0.5)}, "in order"), ({"scale": (0, 1)}, "positive"),
        ({"paste": 1.5}, "paste is 1.5: give a probability"), ({"paste_most": 0}, "set paste to 0"),
    ])  # fmt: skip
    def test_impossible_ones_are_refused(self, options, message):
        with pytest.raises(ConfigError, match=message):
            Augmentation(**options)
