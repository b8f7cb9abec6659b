"""Calibration images as the workstation reads them: what is wrong with them is said in the SDK's own errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import CalibrationError
from blendmask_quantize.pipeline.calibration_set import CalibrationOptions, hold_out, load_calibration_set

SIZE, GRAY = (64, 96), (127, 127, 127)


def write_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), cv2.resize(coarse, (96, 64)))
    return folder


def test_images_are_drawn_prepared_and_recorded(tmp_path: Path) -> None:
    found = load_calibration_set(CalibrationOptions(write_images(tmp_path, 28), count=18), SIZE, GRAY)
    assert [image.shape for image in found.images] == [(1, *SIZE, 3)] * 18
    assert len({image.sha256 for image in found.record.images}) == 18
    assert "few-images" in [finding.code for finding in found.warnings]


@pytest.mark.parametrize(
    "images, count, kept, held",
    [(20, 128, 18, 2), (24, 20, 18, 2), (28, 20, 20, 8), (40, 20, 20, 16), (5, 5, 5, 0)],
    ids=["all drawn", "few to spare", "some to spare", "many to spare", "too few to hold any out"],
)
def test_images_that_give_no_ranges_are_held_out(tmp_path: Path, images: int, count: int, kept: int, held: int) -> None:
    folder = write_images(tmp_path, images)
    options = CalibrationOptions(folder, count=count, allow=("few-images",))
    found = load_calibration_set(options, SIZE, GRAY)
    assert (len(found.images), len(found.held_out)) == (kept, held)
    assert (len(found.record.images), len(found.record.held_out)) == (kept, held)
    assert not {image.name for image in found.record.images} & {image.name for image in found.record.held_out}
    assert found.record == load_calibration_set(options, SIZE, GRAY).record
    compared = found.held_out if held else found.images
    assert [id(image) for image in found.compared] == [id(image) for image in compared]


def test_every_image_that_is_read_is_announced(tmp_path: Path) -> None:
    announced: list[int] = []
    steps: list[None] = []

    def announce(total: int) -> Callable[[], None]:
        announced.append(total)
        return lambda: steps.append(None)

    load_calibration_set(CalibrationOptions(write_images(tmp_path, 40), count=20), SIZE, GRAY, announce)
    assert announced == [36] == [len(steps)]


def test_other_images_can_be_held_out_but_none_that_give_ranges(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 40)
    found = load_calibration_set(CalibrationOptions(folder, count=20), SIZE, GRAY)
    used = [folder / image.name for image in found.record.images]
    spare = [path for path in sorted(folder.iterdir()) if path not in used]
    other = hold_out(found, [used[0], *spare], folder, SIZE, GRAY)
    assert [image.name for image in other.record.held_out] == [path.name for path in spare[:16]]
    assert len(other.held_out) == 16
    assert hold_out(found, used, folder, SIZE, GRAY).compared == found.images[:16]


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="not a folder"):
        load_calibration_set(CalibrationOptions(tmp_path / "nowhere"), SIZE, GRAY)


def test_an_unknown_estimator_is_refused_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="Choose one of: auto, entropy, max"):
        load_calibration_set(CalibrationOptions(write_images(tmp_path, 1), estimator="median"), SIZE, GRAY)


def test_too_few_images_are_refused_unless_allowed(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 8)
    with pytest.raises(CalibrationError, match="--allow few-images"):
        load_calibration_set(CalibrationOptions(folder), SIZE, GRAY)
    allowed = load_calibration_set(CalibrationOptions(folder, allow=("few-images",)), SIZE, GRAY)
    assert allowed.record.overrides == ("few-images",)


def test_an_override_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="few-images"):
        load_calibration_set(CalibrationOptions(write_images(tmp_path, 8), allow=("few-images",)), SIZE, GRAY)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 20)
    (folder / "broken.png").write_bytes(b"no image")
    found = load_calibration_set(CalibrationOptions(folder), SIZE, GRAY)
    assert len(found.images) + len(found.held_out) == 20
    assert any("(broken.png (is not a image, or is damaged)): 5%" in str(finding) for finding in found.warnings)
