"""Calibration pictures as the workstation reads them: what is wrong with them is said in the SDK's own errors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import CalibrationError
from blendmask_quantize.calibration_set import CalibrationOptions, load_calibration_set

SIZE, GREY = (64, 96), (127, 127, 127)


def write_pictures(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), cv2.resize(coarse, (96, 64)))
    return folder


def test_pictures_are_drawn_prepared_and_recorded(tmp_path: Path) -> None:
    found = load_calibration_set(CalibrationOptions(write_pictures(tmp_path, 20), count=18), SIZE, GREY)
    assert [picture.shape for picture in found.pictures] == [(1, *SIZE, 3)] * 18
    assert len({image.sha256 for image in found.record.images}) == 18
    assert "few-images" in [finding.code for finding in found.warnings]


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="not a folder"):
        load_calibration_set(CalibrationOptions(tmp_path / "nowhere"), SIZE, GREY)


def test_an_unknown_estimator_is_refused_before_pictures_are_read(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="Choose one of: entropy, max"):
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
    assert len(found.pictures) == 20
    assert any("broken.png" in str(finding) for finding in found.warnings)
