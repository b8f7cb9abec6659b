"""Which annotated images are trained on, and one message for each file that does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.mask import decode

from blendmask_edge.errors import AnnotationError
from blendmask_quantize.training import labeled_images
from blendmask_quantize.training.labeled_images import LabeledImages, read_labeled_images
from tests.quantize.images import SIZE, Thing, describe, write_annotations, write_images
from tests.quantize.tiny import LABELS

CUP, PLATE, FORK = LABELS.category_ids
THINGS = [Thing(PLATE, (8, 8, 40, 32)), Thing(FORK, (30, 20, 80, 60))]
CROWD = Thing(CUP, (0, 0, 40, 40), crowd=True, form="rle")
FLAT = Thing(CUP, (5, 5, 5, 30), form="rle")


def load(tmp_path, images: list[list[Thing]], keep_empty: bool = False) -> LabeledImages:
    return read_labeled_images(tmp_path, write_images(tmp_path, images), keep_empty=keep_empty)


class TestWhichImages:
    def test_images_without_a_valid_instance_are_left_out(self, tmp_path):
        images = load(tmp_path, [[], THINGS, [CROWD], [FLAT], THINGS[:1]])
        assert images.file_names == ("1.png", "4.png")
        assert images.presence.tolist() == [[False, True, True], [False, True, False]]

    def test_how_many_is_said(self, tmp_path):
        notes = load(tmp_path, [[], THINGS, [CROWD], [FLAT], THINGS[:1]]).notes()
        assert "annotations.json: 3 of 5 images" in notes[0]
        assert notes[0].endswith("show no instance, 3 left out")

    def test_those_without_annotations_can_be_kept_as_negatives(self, tmp_path):
        images = load(tmp_path, [[], THINGS, [CROWD], [FLAT]], keep_empty=True)
        assert images.file_names == ("0.png", "1.png")
        assert images.notes()[0].endswith("show no instance, 1 kept as negatives, 2 left out")
        assert not images.presence[0].any()

    def test_nothing_is_said_where_all_images_and_classes_are_shown(self, tmp_path):
        assert load(tmp_path, [[*THINGS, Thing(CUP, (0, 0, 20, 20))]]).notes() == []

    def test_classes_without_an_instance_are_named(self, tmp_path):
        assert "1 of 3 classes have no instance" in load(tmp_path, [THINGS]).notes()[0]
        assert load(tmp_path, [THINGS]).notes()[0].endswith(": cup")

    def test_those_left_out_need_not_be_in_the_folder(self, tmp_path):
        annotations = write_images(tmp_path, [[], THINGS])
        (tmp_path / "0.png").unlink()
        assert len(read_labeled_images(tmp_path, annotations)) == 1

    def test_some_of_them_can_be_chosen(self, tmp_path):
        images = load(tmp_path, [THINGS, THINGS[:1], THINGS[1:]])
        chosen = images.only([2, 0])
        assert chosen.file_names == ("2.png", "0.png")
        assert chosen.records[0] == images.records[2]
        assert chosen.presence.tolist() == images.presence[[2, 0]].tolist()


class TestStarting:
    def test_no_mask_is_decoded_before_its_image_is_shown(self, tmp_path, monkeypatch):
        write_images(tmp_path, [[replace(thing, form="rle") for thing in THINGS]] * 3)
        decoded = []
        monkeypatch.setattr(labeled_images.rle_codec, "decode", lambda rles: decoded.append(rles) or decode(rles))
        images = read_labeled_images(tmp_path, tmp_path / "annotations.json")
        assert not decoded
        np.testing.assert_array_equal(images.records[1].masks(), [thing.mask for thing in THINGS])
        assert len(decoded) == 1

    def test_the_memory_of_a_mask_is_that_of_its_annotation(self, tmp_path):
        images = load(tmp_path, [THINGS] * 50)
        assert images.records.size_bytes < 2 * (tmp_path / "annotations.json").stat().st_size


class TestDigests:
    def test_they_follow_the_annotations_and_the_files(self, tmp_path):
        before = load(tmp_path, [THINGS]).digests
        assert load(tmp_path, [THINGS]).digests == before
        assert load(tmp_path, [THINGS[:1]]).digests[0] != before[0]
        (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes() + b"0")
        assert read_labeled_images(tmp_path, tmp_path / "annotations.json").digests[1] != before[1]


class TestUnfitAnnotations:
    def refused(self, tmp_path, message: str) -> None:
        with pytest.raises(AnnotationError, match=message):
            read_labeled_images(tmp_path, tmp_path / "annotations.json")

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
        self.resized(tmp_path, height=60, width=90)
        self.refused(tmp_path, r"2 of 2 images: 0\.png is 96 x 64 pixels, annotated as 90 x 60")

    def test_where_exif_is_the_cause_it_is_named(self, tmp_path):
        self.resized(tmp_path, height=SIZE[1], width=SIZE[0])
        self.refused(tmp_path, "EXIF")

    @staticmethod
    def resized(tmp_path, **size: int) -> None:
        content = describe([THINGS[:1]] * 2)
        write_images(tmp_path, [THINGS[:1]] * 2)
        for entry in content["images"]:
            entry.update(size)
        for annotation in content["annotations"]:
            annotation["segmentation"] = [[0, 0, 9, 0, 9, 9]]
        write_annotations(tmp_path, content)

    def test_only_crowds(self, tmp_path):
        write_images(tmp_path, [[CROWD]])
        self.refused(tmp_path, "no image with an instance")

    @staticmethod
    def spoilt(tmp_path, change: Any) -> None:
        write_images(tmp_path, [THINGS])
        content = describe([THINGS])
        change(content["annotations"][1])
        write_annotations(tmp_path, content)
