"""Which images are trained on and which are held out: disjoint, repeatable, with one message where they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_edge.errors import AnnotationError, CalibrationError
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.quantization.qat.data import labeled_data, unlabeled_data
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.training.options import TrainOptions
from tests.quantize.images import PLAIN, SIZE, some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model

OPTIONS = QatOptions(training=TrainOptions(augmentation=PLAIN), held_out_share=0.25, held_out_least=1)
COUNT = 12


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path, some_images(COUNT))
    return tmp_path


def one_cup(image: np.ndarray) -> Instances:
    """A predictor that is sure of one cup and doubts another."""
    boxes = np.array([[8, 8, 40, 40], [50, 8, 90, 40]], np.float32)
    scores, logits = np.array([0.9, 0.2], np.float32), np.full((2, 28, 28), 9, np.float32)
    return Instances(boxes, scores, np.array([0, 0]), image.shape[:2], LABELS, logits)


def test_no_annotated_image_both_trains_and_judges(folder: Path, checkpoint: Checkpoint) -> None:
    qat_data = labeled_data(folder, folder / "annotations.json", checkpoint, OPTIONS)
    held = {path.name for path in qat_data.held_out.paths}
    assert len(held) == 3
    assert held | set(qat_data.names) == {f"{i}.png" for i in range(COUNT)}
    assert held.isdisjoint(qat_data.names)
    assert len(qat_data.training) == COUNT - 3
    assert qat_data.ground_truth == "labels"


def test_no_plain_image_both_trains_and_judges(folder: Path, checkpoint: Checkpoint) -> None:
    qat_data = unlabeled_data(folder, checkpoint, one_cup, OPTIONS)
    held = {path.name for path in qat_data.held_out.paths}
    assert len(held) == 3
    assert held | set(qat_data.names) == {f"{i}.png" for i in range(COUNT)}
    assert held.isdisjoint(qat_data.names)
    assert qat_data.ground_truth == "the float network"


def test_the_float_networks_sure_instances_are_the_truth(folder: Path, checkpoint: Checkpoint) -> None:
    held_out = unlabeled_data(folder, checkpoint, one_cup, OPTIONS).held_out
    annotations = [a for a in held_out.coco.anns.values() if not a["iscrowd"]]
    assert [a["bbox"] for a in annotations] == [[8, 8, 32, 32]] * 3
    assert {a["category_id"] for a in annotations} == {LABELS.category_ids[0]}
    assert annotations[0]["area"] == pytest.approx(32 * 32, rel=0.1)


def test_a_small_folder_gives_as_many_images_to_decide_on_as_it_can_spare(folder: Path, checkpoint: Checkpoint) -> None:
    counts = []
    for least, most in ((1, 80), (4, 80), (16, 80), (16, 2)):
        options = replace(OPTIONS, held_out_share=0.1, held_out_least=least, held_out_most=most)
        qat_data = labeled_data(folder, folder / "annotations.json", checkpoint, options)
        counts.append(len(qat_data.held_out.ids))
    assert counts == [1, 4, 4, 2], "at most two in five"


def test_the_division_does_not_change(folder: Path, checkpoint: Checkpoint) -> None:
    first, second = (
        labeled_data(folder, folder / "annotations.json", checkpoint, OPTIONS).held_out.ids for _ in range(2)
    )
    assert first == second


def test_plain_views_show_the_image_and_no_object(folder: Path, checkpoint: Checkpoint) -> None:
    training = unlabeled_data(folder, checkpoint, one_cup, OPTIONS).training
    sample = training.sample(0, np.random.default_rng(0))
    assert sample.pixels.shape == (3, *SIZE)
    assert sample.pixels.dtype == torch.uint8
    assert len(sample.boxes) == len(sample.classes) == len(sample.mask_targets) == 0
    assert training.labels == LABELS


def test_unreadable_images_are_left_out(folder: Path, checkpoint: Checkpoint) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    qat_data = unlabeled_data(folder, checkpoint, one_cup, OPTIONS)
    assert "broken.png" not in qat_data.names
    assert len(qat_data.names) + len(qat_data.held_out.ids) == COUNT


def test_too_few_images_are_refused(tmp_path: Path, checkpoint: Checkpoint) -> None:
    annotations = write_images(tmp_path, some_images(3))
    with pytest.raises(AnnotationError, match="3 images are too few"):
        labeled_data(tmp_path, annotations, checkpoint, OPTIONS)
    with pytest.raises(CalibrationError, match="3 images are too few"):
        unlabeled_data(tmp_path, checkpoint, one_cup, OPTIONS)


def test_annotations_of_other_classes_are_refused(folder: Path, checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, labels=Labels(("cup", "plate", "spoon"), LABELS.category_ids))
    with pytest.raises(AnnotationError, match="spoon"):
        labeled_data(folder, folder / "annotations.json", other, OPTIONS)


def test_a_float_network_that_finds_nothing_cannot_judge(folder: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(CalibrationError, match="detects no instance"):
        unlabeled_data(folder, checkpoint, lambda image: one_cup(image)[[1]], OPTIONS)
