"""What users get wrong when they call the package: CalibrationError, which names the argument."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import blendmask_calibration as package
from blendmask_calibration import (
    ESTIMATORS,
    CalibrationDataset,
    CalibrationError,
    Entropy,
    Finding,
    Histogram,
    Limit,
    MeanSquaredError,
    Percentile,
    RangeCollector,
    check_channel_order,
    check_detections,
    check_images,
    describe,
    describe_pixels,
    estimator_named,
    fingerprint,
    image_statistics,
    list_images,
    near_duplicates,
    other_files,
    range_up_to,
    refusals,
    sample,
    sha256_file,
    sha256_pixels,
    squared_errors,
)

IMAGE = np.zeros((40, 60, 3), np.uint8)
VALUES = Histogram.of(np.arange(-5.0, 5.0))
ODD = [None, b"x", object(), math.nan, "a\0b", 1.5, -1, True]


def observed() -> RangeCollector:
    collector = RangeCollector()
    collector.observe("a", np.ones(3))
    return collector


def select(**changes: Any) -> Any:
    return CalibrationDataset([IMAGE]).select(**{"count": 1, "seed": 0, "spare": 0, **changes})


CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "CalibrationDataset": (CalibrationDataset, "calibration source|not a folder"),
    "transform": (lambda value: CalibrationDataset([IMAGE], value), "transform is"),
    "select count": (lambda value: select(count=value), "count is"),
    "select seed": (lambda value: select(seed=value), "seed is"),
    "select spare": (lambda value: select(spare=value), "spare is"),
    "estimator_named": (estimator_named, "Unknown estimator"),
    "Histogram.of": (lambda value: Histogram.of(np.array([value])), "tensor"),
    "observe values": (lambda value: RangeCollector().observe("a", np.array([value])), "a"),
    "observe name": (lambda value: RangeCollector().observe(value, np.ones(3)), "name is"),
    "ranges": (lambda value: observed().ranges(value), "estimator is"),
    "signed_levels": (lambda value: observed().ranges(ESTIMATORS["max"], signed_levels=value), "signed_levels is"),
    "range_up_to": (lambda value: range_up_to(VALUES, value), "high is"),
    "range_up_to histogram": (lambda value: range_up_to(value, 1.0), "histogram is"),
    "squared_errors highs": (lambda value: squared_errors(VALUES, value, 127), "highs is"),
    "squared_errors levels": (lambda value: squared_errors(VALUES, [1.0], value), "levels is"),
    "squared_errors histogram": (lambda value: squared_errors(value, [1.0], 127), "histogram is"),
    "Percentile": (Percentile, "percentage is"),
    **{
        f"{name} histogram": (lambda value, name=name: ESTIMATORS[name](value, 127), "histogram is")  # type: ignore[misc]
        for name in ESTIMATORS
    },
    "Entropy levels": (lambda value: Entropy()(VALUES, value), "levels is"),
    "MeanSquaredError levels": (lambda value: MeanSquaredError()(VALUES, value), "levels is"),
    "check_detections": (check_detections, "detections_per_image is"),
    "check_detections item": (lambda value: check_detections([value]), "detections_per_image is"),
    "check_channel_order": (lambda value: check_channel_order(value, [[0.5]]), "given is"),
    "check_channel_order score": (lambda value: check_channel_order([[0.5]], [[value]]), "swapped is"),
    "check_images": (lambda value: check_images(value, [], [], (32, 32)), "images is"),
    "check_images statistics": (lambda value: check_images([], value, [], (32, 32)), "statistics is"),
    "check_images size": (lambda value: check_images([], [], [], value), "input_size is"),
    "refusals": (refusals, "findings is"),
    "refusals allow": (lambda value: refusals([], value), "allow is"),
    "list_images": (list_images, "folder|not a folder"),
    "other_files": (other_files, "folder is"),
    "sample paths": (lambda value: sample(value, 1, 0), "paths is"),
    "sample count": (lambda value: sample([Path("a")], value, 0), "count is"),
    "sample seed": (lambda value: sample([Path("a")], 1, value), "seed is"),
    "describe": (lambda value: describe(value, IMAGE), "path is"),
    "describe root": (lambda value: describe(Path(__file__), IMAGE, value), "root is"),
    "describe_pixels name": (lambda value: describe_pixels(value, IMAGE), "name is"),
    "describe_pixels": (lambda value: describe_pixels("a", value), "image is"),
    "fingerprint": (fingerprint, "image is"),
    "image_statistics": (image_statistics, "image is"),
    "near_duplicates": (lambda value: near_duplicates(value, 3), "fingerprints is"),
    "near_duplicates item": (lambda value: near_duplicates([value], 3), "fingerprints is"),
    "near_duplicates distance": (lambda value: near_duplicates([], value), "distance is"),
    "sha256_file": (sha256_file, "path is"),
    "sha256_pixels": (sha256_pixels, "rgb is"),
    "Limit": (lambda value: Limit(value, 1.0), "warn is"),
}
FINE = {
    "transform": [None], "select seed": [-1], "select spare": [], "Histogram.of": [1.5, -1, True],
    "observe values": [1.5, -1, True], "observe name": ["a\0b"], "range_up_to": [1.5, -1],
    "squared_errors highs": [1.5],
    "Percentile": [1.5], "check_channel_order score": [True], "sample seed": [-1], "describe root": [None],
    "describe_pixels name": ["a\0b"], "Limit": [1.5, -1],
}  # fmt: skip
"""Values of `ODD` that are what the argument may be."""


@pytest.mark.parametrize("value", ODD, ids=lambda value: "object" if type(value) is object else repr(value))
@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments_are_named(name: str, value: Any) -> None:
    call, message = CALLS[name]
    if any(value is fine for fine in FINE.get(name, ())):
        call(value)
        return
    with pytest.raises(CalibrationError, match=message) as refused:
        call(value)
    assert len(str(refused.value)) < 400


def test_every_public_function_is_looked_at() -> None:
    values = {"CalibrationError", "CalibrationImage", "CalibrationRecord", "ESTIMATORS", "Estimator", "Finding"}
    values |= {"ImageStatistics", "Limits", "Max", "Range", "RangeCollector", "Histogram"}
    called = {name.partition(" ")[0] for name in CALLS}
    assert set(package.__all__) - values <= called


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool, np.uint16])
def test_arrays_that_are_no_image(dtype: Any) -> None:
    for array in (IMAGE.astype(dtype), IMAGE[..., 0], IMAGE[:0], IMAGE.transpose(2, 0, 1)):
        for call in (
            fingerprint,
            image_statistics,
            lambda rgb: list(CalibrationDataset([rgb]).select(1, 0, 0).samples),
        ):
            with pytest.raises(CalibrationError, match=r"image .*is"):
                call(array)


def test_statistics_are_those_of_the_images() -> None:
    record, statistics = describe_pixels("a", IMAGE), image_statistics(IMAGE)
    with pytest.raises(CalibrationError, match="one for each of 1 images"):
        check_images([record], [], [], (32, 32))
    assert check_images([record], [statistics], [], (32, 32))
    assert refusals([Finding("warn", "few-images", "", 0, 0, None)]) == []
