"""Calibration pictures as the workstation reads them: what is wrong with them is said in the SDK's own errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import CalibrationError
from blendmask_quantize.pipeline.calibration_set import CalibrationOptions, hold_out, load_calibration_set

SIZE, GREY = (64, 96), (127, 127, 127)


def write_pictures(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), cv2.resize(coarse, (96, 64)))
    return folder


def test_pictures_are_drawn_prepared_and_recorded(tmp_path: Path) -> None:
    found = load_calibration_set(CalibrationOptions(write_pictures(tmp_path, 28), count=18), SIZE, GREY)
    assert [picture.shape for picture in found.pictures] == [(1, *SIZE, 3)] * 18
    assert len({image.sha256 for image in found.record.images}) == 18
    assert "few-images" in [finding.code for finding in found.warnings]


@pytest.mark.parametrize(
    "pictures, count, kept, held",
    [(20, 128, 18, 2), (24, 20, 18, 2), (28, 20, 20, 8), (40, 20, 20, 16), (5, 5, 5, 0)],
    ids=["all drawn", "few to spare", "some to spare", "many to spare", "too few to hold any out"],
)
def test_pictures_that_give_no_ranges_are_held_out(
    tmp_path: Path, pictures: int, count: int, kept: int, held: int
) -> None:
    folder = write_pictures(tmp_path, pictures)
    options = CalibrationOptions(folder, count=count, allow=("few-images",))
    found = load_calibration_set(options, SIZE, GREY)
    assert (len(found.pictures), len(found.held_out)) == (kept, held)
    assert (len(found.record.images), len(found.record.held_out)) == (kept, held)
    assert not {image.name for image in found.record.images} & {image.name for image in found.record.held_out}
    assert found.record == load_calibration_set(options, SIZE, GREY).record
    compared = found.held_out if held else found.pictures
    assert [id(picture) for picture in found.compared] == [id(picture) for picture in compared]


def test_every_picture_that_is_read_is_announced(tmp_path: Path) -> None:
    announced: list[int] = []
    steps: list[None] = []

    def announce(total: int) -> Callable[[], None]:
        announced.append(total)
        return lambda: steps.append(None)

    load_calibration_set(CalibrationOptions(write_pictures(tmp_path, 40), count=20), SIZE, GREY, announce)
    assert announced == [36] == [len(steps)]


def test_other_pictures_can_be_held_out_but_none_that_give_ranges(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 40)
    found = load_calibration_set(CalibrationOptions(folder, count=20), SIZE, GREY)
    used = [folder / image.name for image in found.record.images]
    spare = [path for path in sorted(folder.iterdir()) if path not in used]
    other = hold_out(found, [used[0], *spare], folder, SIZE, GREY)
    assert [image.name for image in other.record.held_out] == [path.name for path in spare[:16]]
    assert len(other.held_out) == 16
    assert hold_out(found, used, folder, SIZE, GREY).compared == found.pictures[:16]


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="not a folder"):
        load_calibration_set(CalibrationOptions(tmp_path / "nowhere"), SIZE, GREY)


def test_an_unknown_estimator_is_refused_before_pictures_are_read(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="Choose one of: auto, entropy, max"):
        load_calibration_set(CalibrationOptions(write_pictures(tmp_path, 1), estimator="median"), SIZE, GREY)


def test_too_few_pictures_are_refused_unless_allowed(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 8)
    with pytest.raises(CalibrationError, match="--allow few-images"):
        load_calibration_set(CalibrationOptions(folder), SIZE, GREY)
    allowed = load_calibration_set(CalibrationOptions(folder, allow=("few-images",)), SIZE, GREY)
    assert allowed.record.overrides == ("few-images",)


def test_an_override_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="few-pictures"):
        load_calibration_set(CalibrationOptions(write_pictures(tmp_path, 8), allow=("few-pictures",)), SIZE, GREY)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 20)
    (folder / "broken.png").write_bytes(b"no picture")
    found = load_calibration_set(CalibrationOptions(folder), SIZE, GREY)
    assert len(found.pictures) + len(found.held_out) == 20
    assert any("(broken.png (is not a picture, or is damaged)): 5%" in str(finding) for finding in found.warnings)
