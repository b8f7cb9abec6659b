"""The augmented images of a run: every image once a pass, each item its own, the seed decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from blendmask_edge.errors import AnnotationError
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.samples import Sample
from blendmask_quantize.training.sampling import repeated
from blendmask_quantize.training.stream import AugmentedStream
from tests.quantize.images import (
    PLAIN,
    Thing,
    describe,
    some_images,
    write_annotations,
    write_images,
)
from tests.quantize.tiny import TINY
from tests.quantize.training.painted import CUP, THINGS, load


class TestAugmentedStream:
    def stream(self, tmp_path, length: int = 40, seed: int = 3) -> AugmentedStream:
        """Seven images from two sources, told apart by the width of their only instance."""
        things = [[Thing(CUP, (0, 0, 20 + 10 * i, 40))] for i in range(7)]
        sources = [load(tmp_path / "a", things[:4]), load(tmp_path / "b", things[4:])]
        return AugmentedStream(sources, length, seed)

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
        stream = AugmentedStream([source], 8, seed=3)
        assert len({stream[i].pixels.numpy().tobytes() for i in range(8)}) == 8

    def test_the_seed_decides(self, tmp_path):
        order = {seed: [self.image(self.stream(tmp_path, seed=seed)[i]) for i in range(14)] for seed in (3, 4)}
        assert order[3] != order[4]

    def test_a_pass_is_permuted_once_for_all_its_items(self, tmp_path, monkeypatch):
        stream, drawn = self.stream(tmp_path), []
        monkeypatch.setattr("blendmask_quantize.training.stream.repeated", lambda *a: drawn.append(1) or repeated(*a))
        for item in range(14):
            stream[item]
        assert len(drawn) == 2

    def test_it_is_as_long_as_asked(self, tmp_path):
        assert len(self.stream(tmp_path, length=40)) == 40

    def test_sources_with_other_categories_are_refused(self, tmp_path):
        content = describe([THINGS])
        content["categories"][0]["name"] = "knife"
        write_images(tmp_path / "b", [THINGS])
        other = CocoImages.open(tmp_path / "b", write_annotations(tmp_path / "b", content), TINY, PLAIN)
        with pytest.raises(AnnotationError, match="different categories"):
            AugmentedStream([load(tmp_path / "a", some_images()), other], 4, 0)
