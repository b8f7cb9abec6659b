"""The guard: each fault of a calibration set is found, measured, named and can be overridden."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_calibration import (
    CalibrationError,
    CalibrationImage,
    CalibrationRecord,
    Finding,
    ImageStatistics,
    Limit,
    Limits,
    check_channel_order,
    check_detections,
    check_images,
    image_statistics,
    refusals,
)

INPUT = (384, 512)
GOOD = ImageStatistics(red=120, green=110, blue=100, deviation=50, chroma=30, lowest=0, highest=255, flatness=0.1)


def images(count: int) -> list[CalibrationImage]:
    marks = np.random.default_rng(0).bytes(16 * count).hex()
    return [CalibrationImage(f"{i}.jpg", "0" * 64, 480, 640, marks[32 * i : 32 * i + 32]) for i in range(count)]


def check(
    count: int = 40,
    *,
    small: int = 0,
    repeated: int = 0,
    unreadable: int = 0,
    odd: int = 0,
    odd_statistics: ImageStatistics = GOOD,
    limits: Limits | None = None,
) -> list[Finding]:
    """Check `count` good images, some of which have the given faults."""
    shown = images(count)
    shown[:small] = [replace(image, height=100, width=120) for image in shown[:small]]
    shown[: repeated + 1] = [replace(image, fingerprint=shown[0].fingerprint) for image in shown[: repeated + 1]]
    statistics = [odd_statistics] * odd + [GOOD] * (count - odd)
    broken = [(Path(f"broken{i}.jpg"), "truncated") for i in range(unreadable)]
    return check_images(shown, statistics, broken, INPUT, limits)


def the_only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_good_set_has_no_finding() -> None:
    assert check() == []


def test_no_image_at_all_is_refused_and_cannot_be_overridden() -> None:
    finding = the_only(check_images([], [], [], INPUT))
    assert (finding.severity, finding.code, finding.override) == ("refuse", "no-images", None)
    assert refusals([finding], allow=["few-images"]) == [finding]


def test_when_no_file_can_be_read_the_message_says_how_many_there_were() -> None:
    findings = check_images([], [], [(Path("a.jpg"), "truncated")], INPUT)
    assert {finding.code for finding in findings} == {"unreadable-images", "no-images"}
    assert any("1 files could not be read" in finding.message for finding in findings)


@pytest.mark.parametrize(
    "count, severity, limit", [(1, "refuse", 16), (15, "refuse", 16), (16, "warn", 32), (31, "warn", 32)]
)
def test_few_images_are_refused_below_16_and_warned_of_below_32(count: int, severity: str, limit: int) -> None:
    finding = the_only(check(count))
    assert (finding.code, finding.severity, finding.measured, finding.limit) == ("few-images", severity, count, limit)
    assert check(32) == []


SHARES = {
    "unreadable-images": ("unreadable", GOOD, 1, 5),
    "near-duplicates": ("repeated", GOOD, 9, 21),
    "small-images": ("small", GOOD, 5, 21),
    "blank-images": ("odd", replace(GOOD, red=2, green=2, blue=2), 1, 11),
    "value-range": ("odd", replace(GOOD, red=0.6, green=0.5, blue=0.4, deviation=0.5, highest=1), 1, 5),
    "not-photographs": ("odd", replace(GOOD, flatness=0.9), 1, 5),
    "mixed-folder": ("odd", replace(GOOD, red=100, blue=100, chroma=0.0), 3, 17),
    "channel-order": ("odd", replace(GOOD, red=100, blue=120), 25, 37),
}


@pytest.mark.parametrize("code", SHARES)
def test_faults_are_warned_of_past_one_share_and_refused_past_another(code: str) -> None:
    fault, odd, warned, refused = SHARES[code]
    warning = the_only(check(**{fault: warned}, odd_statistics=odd))
    refusal = the_only(check(**{fault: refused}, odd_statistics=odd))
    assert (warning.code, warning.severity) == (code, "warn")
    assert (refusal.code, refusal.severity) == (code, "refuse")
    assert check(**{fault: warned - 1}, odd_statistics=odd) == []
    assert refusal.measured > refusal.limit > 0
    assert f"--allow {code}" in str(refusal)
    assert f"{refusal.measured:.0%}" in str(refusal)


@pytest.mark.parametrize(
    "odd",
    [replace(GOOD, red=250, green=250, blue=250), replace(GOOD, deviation=1.0), replace(GOOD, red=1, green=1, blue=1)],
    ids=["white", "constant", "black"],
)
def test_images_without_content_are_blank(odd: ImageStatistics) -> None:
    assert the_only(check(odd=20, odd_statistics=odd)).code == "blank-images"


@pytest.mark.parametrize("share, severity", [(5, "warn"), (21, "refuse")])
def test_images_that_use_few_gray_levels_were_scaled_wrongly(share: int, severity: str) -> None:
    finding = the_only(check(odd=share, odd_statistics=replace(GOOD, deviation=20, lowest=40, highest=139)))
    assert (finding.code, finding.severity) == ("value-range", severity)
    assert "wrong scale" in finding.message
    assert check(odd=40, odd_statistics=replace(GOOD, lowest=40, highest=140)) == []


def test_images_of_many_sizes_are_worth_a_warning_and_never_a_refusal() -> None:
    shown = [replace(image, height=400 + 10 * index) for index, image in enumerate(images(40))]
    finding = the_only(check_images(shown, [GOOD] * 40, [], INPUT))
    assert (finding.code, finding.severity, finding.measured) == ("mixed-sizes", "warn", 39 / 40)
    assert "there are 40 sizes" in finding.message


def test_a_camera_that_is_turned_round_gives_one_size() -> None:
    shown = [replace(image, height=640, width=480) if index % 2 else image for index, image in enumerate(images(40))]
    assert check_images(shown, [GOOD] * 40, [], INPUT) == []


@pytest.mark.parametrize("count", [0, 5])
def test_where_images_are_few_the_message_says_what_else_lies_there(count: int) -> None:
    beside = {".mp4": 2, ".heic": 300, "": 1}
    findings = check_images(images(count), [GOOD] * count, [], INPUT, passed_over=beside)
    assert "300 .heic, 2 .mp4, 1 without suffix" in the_only(findings).message


def test_gray_images_are_worth_a_warning_and_never_a_refusal() -> None:
    finding = the_only(check(odd=40, odd_statistics=replace(GOOD, red=100, blue=100, chroma=0.0)))
    assert (finding.code, finding.severity) == ("colorless-images", "warn")


def test_a_share_names_the_first_images_and_their_reason() -> None:
    assert "broken0.jpg (truncated), broken1.jpg (truncated)" in the_only(check(unreadable=2)).message


def test_narrow_images_that_fill_one_side_of_the_input_are_not_small() -> None:
    upright = [replace(image, height=640, width=200) for image in images(40)]
    assert check_images(upright, [GOOD] * 40, [], INPUT) == []


def test_limits_can_be_moved() -> None:
    assert check(8, limits=Limits(images=Limit(warn=8, refuse=4))) == []
    assert the_only(check(repeated=3, limits=Limits(duplicates=Limit(0.0, 0.05)))).severity == "refuse"


def test_refusals_come_before_warnings() -> None:
    findings = check(20, unreadable=10, odd=1, odd_statistics=replace(GOOD, deviation=0.0))
    assert [finding.severity for finding in findings] == ["refuse", "warn", "warn"]


def test_only_the_named_refusals_are_overridden() -> None:
    findings = check(10, unreadable=10)
    assert {finding.code for finding in refusals(findings)} == {"few-images", "unreadable-images"}
    assert the_only(refusals(findings, allow=["few-images"])).code == "unreadable-images"
    assert refusals(findings, allow=["few-images", "unreadable-images"]) == []


def test_overriding_a_check_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"--allow few-image: unknown check.*few-images"):
        refusals([], allow=["few-image"])


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_a_model_that_finds_almost_nothing_is_refused(detections: list[int]) -> None:
    share = detections.count(0) / len(detections)
    expected = "refuse" if share > 0.8 else "warn" if share > 0.5 else None
    findings = check_detections(detections)
    assert [finding.severity for finding in findings] == ([expected] if expected else [])
    assert all(finding.measured == share and finding.code == "few-detections" for finding in findings)


def scores(level: float, count: int = 24) -> list[list[float]]:
    """Scores on each image, around a level."""
    rng = np.random.default_rng(0)
    return [[level + 0.1 * float(rng.random()) for _ in range(4)] for _ in range(count)]


@pytest.mark.parametrize("swapped, severity", [(0.6, None), (0.7, None), (0.705, "warn"), (0.75, "refuse")], ids=str)
def test_a_model_that_is_surer_with_channels_swapped_has_them_swapped(swapped: float, severity: str | None) -> None:
    findings = check_channel_order(scores(0.7), scores(swapped))
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    assert all(finding.code == "channel-order" and "BGR" in finding.message for finding in findings)


def test_a_gain_on_few_images_is_no_proof_of_swapped_channels() -> None:
    given, swapped = scores(0.5), scores(0.5)
    swapped[0] = [0.9] * 8
    assert check_channel_order(given, swapped) == []


@pytest.mark.parametrize("found", [[], [[]], [[], []], [[0.9]]])
def test_nothing_found_says_nothing_of_the_channels(found: list[list[float]]) -> None:
    assert check_channel_order(found, found) == []


def test_statistics_tell_the_faults_apart_in_pixels() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    image[..., 2] //= 2
    plain, swapped = image_statistics(image), image_statistics(image[..., ::-1])
    assert plain.red > plain.blue
    assert swapped.blue > swapped.red
    assert plain.brightness == pytest.approx(image.mean())
    assert image_statistics((image / 255).round().astype(np.uint8)).highest == 1
    assert image_statistics(image[..., :1].repeat(3, axis=2)).chroma == 0
    assert image_statistics(np.full((1, 1, 3), 9, np.uint8)).deviation == 0
    assert image_statistics(np.full((1, 1, 3), 9, np.uint8)).flatness == 0
    assert (plain.lowest, plain.highest) == (0, 255)
    assert plain.flatness < 0.01 < image_statistics(image.repeat(2, axis=1)).flatness < 0.6


def test_a_record_survives_json() -> None:
    record = CalibrationRecord(tuple(images(2)), found=50, seed=3, estimator="mse", overrides=("few-images",))
    written = record.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert (written["count"], written["found"], written["seed"], written["estimator"]) == (2, 50, 3, "mse")
    assert (written["overrides"], written["warnings"]) == (["few-images"], [])
    assert CalibrationImage(**written["images"][1]) == record.images[1]
