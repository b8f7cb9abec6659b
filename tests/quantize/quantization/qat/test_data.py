"""Which pictures train and which judge: disjoint, repeatable, with one message where they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_edge.errors import AnnotationError, CalibrationError
from blendmask_edge.instances import Instances, Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.quantization.qat.data import labelled_material, plain_material
from blendmask_quantize.quantization.qat.options import TuneOptions
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.images import PLAIN, SIZE, some_pictures, write_pictures
from tests.quantize.tiny import LABELS, tiny_model

OPTIONS = TuneOptions(training=TrainOptions(augmentation=PLAIN), held_share=0.25)
COUNT = 12


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path, some_pictures(COUNT))
    return tmp_path


def one_cup(image: np.ndarray) -> Instances:
    """A predictor that is sure of one cup and doubts another."""
    boxes = np.array([[8, 8, 40, 40], [50, 8, 90, 40]], np.float32)
    scores, logits = np.array([0.9, 0.2], np.float32), np.full((2, 28, 28), 9, np.float32)
    return Instances(boxes, scores, np.array([0, 0]), image.shape[:2], LABELS, logits)


def test_no_annotated_picture_both_trains_and_judges(folder: Path, checkpoint: Checkpoint) -> None:
    material = labelled_material(folder, folder / "annotations.json", checkpoint, OPTIONS)
    held = {material.truth.coco.imgs[i]["file_name"] for i in material.truth.ids}
    assert len(held) == 3
    assert held | set(material.names) == {f"{i}.png" for i in range(COUNT)}
    assert held.isdisjoint(material.names)
    assert len(material.training) == COUNT - 3
    assert material.truth.kind == "labels"


def test_no_plain_picture_both_trains_and_judges(folder: Path, checkpoint: Checkpoint) -> None:
    material = plain_material(folder, checkpoint, one_cup, OPTIONS)
    held = {Path(entry["file_name"]).name for entry in material.truth.coco.imgs.values()}
    assert len(held) == 3
    assert held | set(material.names) == {f"{i}.png" for i in range(COUNT)}
    assert held.isdisjoint(material.names)
    assert material.truth.kind == "the float network"


def test_the_float_networks_sure_objects_are_the_truth(folder: Path, checkpoint: Checkpoint) -> None:
    truth = plain_material(folder, checkpoint, one_cup, OPTIONS).truth
    annotations = truth.coco.loadAnns(truth.coco.getAnnIds())
    assert [a["bbox"] for a in annotations] == [[8, 8, 32, 32]] * 3
    assert {a["category_id"] for a in annotations} == {LABELS.category_ids[0]}
    assert annotations[0]["area"] == pytest.approx(32 * 32, rel=0.1)


def test_the_division_does_not_change(folder: Path, checkpoint: Checkpoint) -> None:
    first, second = (
        labelled_material(folder, folder / "annotations.json", checkpoint, OPTIONS).truth.ids for _ in range(2)
    )
    assert first == second


def test_plain_views_show_the_picture_and_no_object(folder: Path, checkpoint: Checkpoint) -> None:
    training = plain_material(folder, checkpoint, one_cup, OPTIONS).training
    sample = training.view(0, np.random.default_rng(0))
    assert sample.pixels.shape == (3, *SIZE)
    assert sample.pixels.dtype == torch.uint8
    assert len(sample.boxes) == len(sample.classes) == len(sample.mask_targets) == 0
    assert training.labels == LABELS


def test_unreadable_pictures_are_left_out(folder: Path, checkpoint: Checkpoint) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    material = plain_material(folder, checkpoint, one_cup, OPTIONS)
    assert "broken.png" not in material.names
    assert len(material.names) + len(material.truth.ids) == COUNT


def test_too_few_pictures_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    annotations = write_pictures(tmp_path, some_pictures(3))
    with pytest.raises(AnnotationError, match="3 pictures are too few"):
        labelled_material(tmp_path, annotations, checkpoint, OPTIONS)
    with pytest.raises(CalibrationError, match="3 pictures are too few"):
        plain_material(tmp_path, checkpoint, one_cup, OPTIONS)


def test_annotations_of_other_classes_are_refused(folder: Path, checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, labels=Labels(("cup", "plate", "spoon"), LABELS.category_ids))
    with pytest.raises(AnnotationError, match="spoon"):
        labelled_material(folder, folder / "annotations.json", other, OPTIONS)


def test_a_float_network_that_finds_nothing_cannot_judge(folder: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CalibrationError, match="sure of no object"):
        plain_material(folder, checkpoint, lambda image: one_cup(image)[[1]], OPTIONS)
