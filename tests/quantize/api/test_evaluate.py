"""Average precision of a checkpoint on annotated images."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import AnnotationError, InferenceError
from blendmask_edge.evaluation import average_precision
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.imaging import read_image
from blendmask_edge.instances import Instances
from blendmask_quantize.model.predictor import TorchPredictor
from tests.quantize.images import SIZE, Thing, describe, some_images, write_annotations, write_images
from tests.quantize.tiny import LABELS, tiny_model

evaluate_module = importlib.import_module("blendmask_quantize.api.evaluate")
CUP, PLATE, FORK = LABELS.category_ids
IMAGES = [
    [Thing(CUP, (0, 0, 30, 30)), Thing(PLATE, (32, 0, 94, 60))],
    [],
    [Thing(CUP, (10, 10, 30, 60)), Thing(CUP, (50, 5, 80, 60))],
]


class Oracle:
    """Says what was annotated, in the order of the calls; `change` alters the things of an image."""

    def __init__(self, images: list[list[Thing]], change=lambda things: things) -> None:
        self.answers = iter([change(things) for things in images])

    def __call__(self, image: np.ndarray) -> Instances:
        things = next(self.answers)
        boxes = np.array([thing.box for thing in things], np.float32).reshape(-1, 4)
        classes = np.array([LABELS.category_ids.index(thing.category) for thing in things], np.int64)
        scores = np.linspace(0.9, 0.5, len(things), dtype=np.float32)
        return Instances(boxes, scores, classes, image.shape[:2], LABELS, np.full((len(things), 56, 56), 9, np.float32))


def evaluate(predict: Predictor, folder: Path, annotations: Path, limit: int | None = None) -> dict[str, float]:
    return average_precision.evaluate(predict, AnnotatedImages.open(folder, annotations, limit=limit))


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return write_images(tmp_path, IMAGES)


class TestScores:
    def test_perfect_predictions_score_one(self, annotations):
        metrics = evaluate(Oracle(IMAGES), annotations.parent, annotations)
        assert list(metrics.values()) == pytest.approx([1.0] * len(metrics))
        assert {f"{task}_ap{suffix}" for task in ("mask", "box") for suffix in ("", "50", "75")} < set(metrics)

    def test_classes_and_sizes_that_occur_are_listed(self, annotations):
        """The cups are small (below 32 x 32 pixels) or medium, the plate is medium, there is no fork."""
        names = set(evaluate(Oracle(IMAGES), annotations.parent, annotations))
        for task in ("mask", "box"):
            assert {f"{task}_ap/cup", f"{task}_ap/plate", f"{task}_ap_small", f"{task}_ap_medium"} < names
            assert not {f"{task}_ap/fork", f"{task}_ap_large"} & names

    def test_no_predictions_score_nothing(self, annotations):
        metrics = evaluate(Oracle(IMAGES, lambda _: []), annotations.parent, annotations)
        assert metrics == {"mask_ap": 0.0, "box_ap": 0.0}

    def test_a_missed_class_counts_for_itself_only(self, annotations):
        without_plates = Oracle(IMAGES, lambda things: [thing for thing in things if thing.category != PLATE])
        metrics = evaluate(without_plates, annotations.parent, annotations)
        answer = [metrics[name] for name in ("mask_ap/cup", "mask_ap/plate", "mask_ap")]
        assert answer == pytest.approx([1, 0, 0.5])

    def test_the_wrong_class_scores_nothing(self, annotations):
        wrong = Oracle(IMAGES, lambda things: [Thing(FORK, thing.box) for thing in things])
        assert evaluate(wrong, annotations.parent, annotations)["mask_ap"] == 0.0

    def test_crowds_are_neither_found_nor_missed(self, tmp_path):
        crowd = Thing(PLATE, (40, 0, 96, 64), crowd=True, form="rle")
        annotations = write_images(tmp_path, [[IMAGES[0][0], crowd]])
        metrics = evaluate(Oracle([[IMAGES[0][0]]]), tmp_path, annotations)
        assert metrics["mask_ap"] == pytest.approx(1)

    def test_a_limit_leaves_the_other_images_out(self, annotations):
        calls: list[int] = []
        images = AnnotatedImages.open(annotations.parent, annotations, limit=2)
        metrics = average_precision.evaluate(Oracle(IMAGES), images, lambda: calls.append(1))
        assert len(calls) == 2
        assert metrics["mask_ap"] == pytest.approx(1)


class TestACheckpoint:
    def test_it_scores_one_on_its_own_findings(self, tmp_path):
        """From file to average precision and back: the annotations are what the network finds, mask by mask."""
        predict = TorchPredictor(tiny_model(), LABELS)
        write_images(tmp_path, some_images(2))
        content = describe([[], []])
        for image in content["images"]:
            answer = predict(read_image(tmp_path / image["file_name"]))[:20].to_coco(image["id"])
            content["annotations"] += [{**result, "iscrowd": 0, "area": 900, "score": None} for result in answer]
        for identity, annotation in enumerate(content["annotations"], start=1):
            annotation["id"] = identity
        metrics = evaluate(predict, tmp_path, write_annotations(tmp_path, content))
        assert metrics["box_ap75"] > 0.9
        assert metrics["mask_ap75"] > 0.9

    def test_random_weights_find_little(self, annotations):
        predict = TorchPredictor(tiny_model(), LABELS)
        assert evaluate(predict, annotations.parent, annotations)["mask_ap"] < 0.2


class TestUnfitInput:
    def test_missing_images_are_counted(self, annotations):
        (annotations.parent / "2.png").unlink()
        with pytest.raises(AnnotationError, match=r"1 of 3 annotated images are not in .*2\.png"):
            evaluate(Oracle(IMAGES), annotations.parent, annotations)

    def test_broken_annotations(self, tmp_path):
        (tmp_path / "a.json").write_text("{")
        with pytest.raises(AnnotationError, match=r"a\.json: it is not JSON"):
            evaluate(Oracle([]), tmp_path, tmp_path / "a.json")

    def test_a_gray_image_is_read_as_rgb(self, tmp_path):
        annotations = write_images(tmp_path, IMAGES[:1])
        cv2.imwrite(str(tmp_path / "0.png"), np.full(SIZE, 90, np.uint8))
        assert evaluate(Oracle(IMAGES[:1]), tmp_path, annotations)["mask_ap"] == pytest.approx(1)


class OpenedBundle:
    """Stands in for a predictor of a bundle."""

    def __init__(self, *_: object) -> None:
        self.manifest = SimpleNamespace(classes=LABELS.names, category_ids=LABELS.category_ids)
        self.answer, self.is_closed = Oracle(IMAGES), False

    def __call__(self, image: np.ndarray) -> Instances:
        return self.answer(image)

    def __enter__(self) -> OpenedBundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True


def failing(*_: object) -> Instances:
    raise InferenceError("the runtime failed")


@pytest.mark.parametrize("fails", [False, True])
def test_the_predictor_of_a_bundle_is_closed(annotations, monkeypatch, fails):
    opened = OpenedBundle()
    source = SimpleNamespace(of=lambda *_: SimpleNamespace(identity="bundle"))
    monkeypatch.setattr(evaluate_module, "MaskPredictor", lambda *_: opened)
    monkeypatch.setattr(evaluate_module, "BundleSource", source)
    if fails:
        monkeypatch.setattr(OpenedBundle, "__call__", failing)
    with pytest.raises(InferenceError) if fails else nullcontext():
        evaluate_module.evaluate("m.bmz", annotations.parent, annotations)
    assert opened.is_closed
