"""The demo's images and annotations fit each other, stay small, and are fit to calibrate on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO

from blendmask_calibration import CalibrationDataset
from blendmask_quantize.pipeline.calibration_set import load_calibration_set
from blendmask_quantize.pipeline.settings import CalibrationSettings

SCENES = Path(__file__).parents[2] / "examples" / "homescenes"
SETS = ("calibration", "evaluation")
ALL_MEGABYTES = 6


@pytest.fixture(params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def coco(name: str) -> COCO:
    return COCO(str(SCENES / f"{name}.json"))


def test_annotations_name_every_image_with_its_size(name: str, coco: COCO) -> None:
    sizes = {path.name: cv2.imread(str(path)).shape[:2] for path in (SCENES / name).iterdir()}
    assert {entry["file_name"]: (entry["height"], entry["width"]) for entry in coco.imgs.values()} == sizes
    assert len(sizes) == 40


def test_masks_have_the_box_and_area_that_are_stated(coco: COCO) -> None:
    assert {annotation["category_id"] for annotation in coco.anns.values()} == set(coco.cats)
    for annotation in coco.anns.values():
        segmentation = annotation["segmentation"]
        assert rle_codec.area(segmentation) == annotation["area"]
        np.testing.assert_array_equal(rle_codec.toBbox(segmentation), annotation["bbox"])


def test_nothing_is_measured_on_what_calibrates() -> None:
    hashes = [{hashlib.sha256(path.read_bytes()).digest() for path in (SCENES / name).iterdir()} for name in SETS]
    assert hashes[0].isdisjoint(hashes[1])


def test_images_and_annotations_are_small() -> None:
    files = [path for name in SETS for path in ((SCENES / f"{name}.json"), *(SCENES / name).iterdir())]
    assert sum(path.stat().st_size for path in files) <= ALL_MEGABYTES * 1e6


@pytest.mark.slow
def test_the_guard_has_nothing_against_the_calibration_images() -> None:
    drawn = load_calibration_set(
        CalibrationDataset(SCENES / "calibration"), CalibrationSettings(), (384, 512), (127, 127, 127)
    )
    assert (len(drawn.images), len(drawn.held_out)) == (35, 5)
    assert not drawn.warnings
