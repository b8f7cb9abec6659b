"""Options of one call: score, classes, region of interest; and several predictors on one loaded graph."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
import pytest

from blendmask_edge import ClosedError, ConfigError, Instances, InstancesError, Labels, MaskPredictor

pytest.importorskip("onnxruntime")
DIM = np.full((64, 96, 3), (250, 180, 60), np.uint8)


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor with a threshold of 0.2."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


def assert_equal(one: Instances, other: Instances) -> None:
    """Compare what a user sees of two results."""
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.class_ids, other.class_ids)
    assert one.rles() == other.rles()


def test_score_and_classes_choose_instances_of_one_call(predictor: MaskPredictor) -> None:
    assert predictor(DIM).class_names == ["red", "green", "blue"]
    assert predictor(DIM, score_threshold=0.5).class_names == ["red", "green"]
    assert predictor(DIM, classes=["blue", "red"]).class_names == ["red", "blue"]
    assert predictor(DIM, classes=[1]).class_names == ["green"]
    assert predictor(DIM, classes=[]).class_names == []
    assert predictor(DIM).class_names == ["red", "green", "blue"]


def test_threshold_below_that_of_the_graph_is_refused_with_what_to_do(predictor: MaskPredictor) -> None:
    with pytest.raises(ConfigError, match=r"runs with 0\.2.*MaskPredictor\(\.\.\., score_threshold=0\.1\)"):
        predictor(DIM, score_threshold=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": "0.5"},
        {"score_threshold": 2},
        {"classes": "red"},
        {"classes": ["mauve"]},
        {"classes": [3]},
        {"classes": [True]},
        {"classes": 1},
        {"roi": (10, 10, 5, 20)},
        {"roi": (0, 0, 5)},
        {"roi": 7},
        {"roi": (0, 0, float("nan"), 5)},
        {"roi": (200, 0, 300, 10)},
    ],
    ids=str,
)
def test_wrong_options_of_a_call_are_refused(predictor: MaskPredictor, options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        predictor(DIM, **options)


def test_region_is_predicted_alone_and_returned_in_pixels_of_the_image(predictor: MaskPredictor) -> None:
    image = np.zeros((200, 300, 3), np.uint8)
    image[40:104, 100:196] = DIM
    found, alone = predictor(image, roi=(100, 40, 196, 104)), predictor(DIM)
    assert found.image_size == (200, 300)
    np.testing.assert_array_equal(found.boxes, np.add(alone.boxes, [100, 40, 100, 40]))
    np.testing.assert_array_equal(found.scores, alone.scores)
    assert (found.masks[:, 40:104, 100:196] != alone.masks).mean() < 1e-3
    assert found.masks.sum() == found.masks[:, 40:104, 100:196].sum()
    assert len(found.draw(image)) == 200


def test_region_is_extended_to_pixels_and_clipped_to_the_image(predictor: MaskPredictor) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    assert_equal(predictor(image, roi=(-20, 10.2, 60.1, 500)), predictor(image, roi=(0, 10, 61, 90)))


def test_predictors_that_share_a_graph_have_options_and_lives_of_their_own(bundle_path: Path) -> None:
    first = MaskPredictor(bundle_path, "onnxruntime", threads=1)
    second = first.share(score_threshold=0.5)
    third = second.share()
    assert [len(each(DIM)) for each in (first, second, third)] == [3, 2, 2]
    assert second.runtime == "onnxruntime"
    first.close()
    first.close()
    for use in (lambda: first(DIM), first.share):
        with pytest.raises(ClosedError, match="MaskPredictor"):
            use()
    second.close()
    assert len(third(DIM)) == 2
    third.close()
    with pytest.raises(ClosedError):
        third(DIM)


def test_sharing_cannot_lower_the_threshold(predictor: MaskPredictor) -> None:
    for options in ({"score_threshold": 0.1}, {"agnostic_nms": 1}):
        with pytest.raises(ConfigError):
            predictor.share(**options)  # type: ignore[arg-type]


def test_threads_with_predictors_of_their_own_get_what_one_gets_alone(predictor: MaskPredictor) -> None:
    images = [np.full((30 + n, 40, 3), (255 - n, 5 * n, 60), np.uint8) for n in range(24)]
    alone = [predictor(image) for image in images]
    predictors = [predictor.share() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: predictors[n % 4](images[n]), range(24)))
    for one, other in zip(found, alone):
        assert_equal(one, other)
    for each in predictors:
        each.close()


COUNT_THREADS = """
import os, sys
from blendmask_edge import MaskPredictor, read_image
with MaskPredictor(sys.argv[1], "onnxruntime", threads=1) as predictor:
    before = len(os.listdir("/proc/self/task"))
    image = read_image(sys.argv[2])
    predictor(image).draw(image)
    print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_one_thread_is_one_thread_in_opencv_too(bundle_path: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.bmp"), np.full((1500, 2000, 3), 255, np.uint8))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COUNT_THREADS, str(bundle_path), str(tmp_path / "large.bmp")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0", done.stderr


LABELS = Labels(["mug", "bowl"], [47, 51])


def test_masks_that_are_given_stay_as_they_are() -> None:
    masks = np.random.default_rng(1).random((3, 20, 30)) > 0.6
    masks[1, :, 10:] = masks[1, :5] = False
    made = Instances.from_masks(masks, np.float32([0.2, 0.9, 0.5]), np.array([0, 1, 1]), LABELS)
    np.testing.assert_array_equal(made.masks, masks[[1, 2, 0]])
    assert made.class_names == ["bowl", "bowl", "mug"]
    np.testing.assert_array_equal(made[1:].masks, masks[[2, 0]])
    x0, y0, x1, y1 = made.boxes[0].astype(int)
    assert masks[1, y0:y1, x0:x1].sum() == masks[1].sum()
    moved = made.shift(5, 7, (40, 50))
    np.testing.assert_array_equal(moved.masks[:, 7:27, 5:35], made.masks)
    assert moved.masks.sum() == made.masks.sum()
    np.testing.assert_array_equal(moved.boxes - made.boxes, [[5, 7, 5, 7]] * 3)


def test_mask_without_a_pixel_is_an_instance_without_area() -> None:
    made = Instances.from_masks(np.zeros((1, 8, 8), np.bool_), np.float32([1]), np.array([0]), LABELS)
    assert made.boxes.tolist() == [[0, 0, 0, 0]]
    assert not made.masks.any()


@pytest.mark.parametrize("crops", [[None], [(np.ones((3, 3), np.bool_), (90, 0)), None], [3, None], "ab", [None, 7]])
def test_wrong_crops_are_refused(crops: Any) -> None:
    two = Instances.from_masks(np.ones((2, 9, 9), np.bool_), np.float32([1, 1]), np.array([0, 0]), LABELS)
    with pytest.raises(InstancesError, match="mask_crops"):
        Instances(two.boxes, two.scores, two.class_ids, two.image_size, LABELS, two.mask_logits, mask_crops=crops)
    with pytest.raises(InstancesError, match="does not lie inside"):
        two.shift(2, 0, (10, 10))
