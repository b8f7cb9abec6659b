"""Calibration images as the workstation reads them: what is wrong with them is said in the SDK's own errors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blendmask_calibration import CalibrationDataset
from blendmask_edge import Bundle
from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.manifest import Calibration, CalibrationImage
from blendmask_edge.errors import CalibrationError
from blendmask_quantize.pipeline.calibration_set import (
    COUNT_MOST,
    HELD_OUT_MOST,
    LONGEST_NAMES,
    TO_MEASURE,
    CalibrationSet,
    HoldOut,
    hold_out,
    load_calibration_set,
)
from blendmask_quantize.pipeline.settings import CalibrationSettings
from tests.sdk.small_bundles import build_graph, describe

SIZE, GRAY = (64, 96), (127, 127, 127)


def load(
    source: Any, announce: Any = None, allow: tuple[str, ...] = (), limits: HoldOut | None = None, **settings: Any
) -> CalibrationSet:  # fmt: skip
    progress = (lambda _name, total: announce(total)) if announce else lambda _name, _total: lambda: None
    return load_calibration_set(
        CalibrationDataset(source), CalibrationSettings(**settings), SIZE, GRAY, progress, allow, limits
    )


def write_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index:02d}.png"), cv2.resize(coarse, (96, 64)))
    return folder


def test_images_are_drawn_prepared_and_recorded(tmp_path: Path) -> None:
    found = load(write_images(tmp_path, 28), count=18)
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
    found = load(folder, count=count, allow=("few-images",))
    assert (len(found.images), len(found.held_out)) == (kept, held)
    assert (len(found.record.images), len(found.record.held_out)) == (kept, held)
    assert not {image.name for image in found.record.images} & {image.name for image in found.record.held_out}
    assert found.record == load(folder, count=count, allow=("few-images",)).record
    compared = found.held_out if held else found.images
    assert [id(image) for image in found.compared] == [id(image) for image in compared]


def test_names_that_no_manifest_can_record_are_refused_before_an_image_is_read(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*[f"{level}" * 200 for level in range(9)])
    folder.mkdir(parents=True)
    for index in range(700):
        (folder / f"{index}.png").touch()
    with pytest.raises(CalibrationError, match="give folders shorter names"):
        load(tmp_path, lambda _: pytest.fail("an image was read"), count=4096)


def test_a_manifest_records_the_largest_sample_with_the_longest_names(tmp_path: Path) -> None:
    length = (LONGEST_NAMES - 16 * 16) // COUNT_MOST
    images = [CalibrationImage(name=f"{index:0{length}d}", sha256="0" * 64) for index in range(COUNT_MOST)]
    graphs = {"cpu": build_graph()}
    calibration = Calibration(images=images, seed=0, held_out=images[:HELD_OUT_MOST])
    path = write_bundle(tmp_path / "a.bmz", describe(graphs, calibration=calibration), graphs)
    assert Bundle.open(path).manifest.calibration == calibration


def test_every_image_that_is_read_is_announced(tmp_path: Path) -> None:
    announced: list[int] = []
    steps: list[None] = []

    def announce(total: int) -> Callable[[], None]:
        announced.append(total)
        return lambda: steps.append(None)

    load(write_images(tmp_path, 40), announce, count=20)
    assert announced == [36] == [len(steps)]


def test_other_images_can_be_held_out_but_none_that_give_ranges(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 40)
    found = load(folder, count=20)
    used = [folder / image.name for image in found.record.images]
    spare = [path for path in sorted(folder.iterdir()) if path not in used]
    other = hold_out(found, [used[0], *spare], folder, SIZE, GRAY)
    assert [image.name for image in other.record.held_out] == [path.name for path in spare[:16]]
    assert len(other.held_out) == 16
    assert hold_out(found, used, folder, SIZE, GRAY).compared == found.images[:16]


def test_an_unknown_estimator_is_refused_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="Expected one of auto, entropy, max"):
        load(write_images(tmp_path, 1), estimator="median")


def test_too_few_images_are_refused_unless_allowed(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 8)
    with pytest.raises(CalibrationError, match="--allow few-images"):
        load(folder)
    allowed = load(folder, allow=("few-images",))
    assert allowed.record.overrides == ("few-images",)


def test_an_override_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="unknown check"):
        load(write_images(tmp_path, 8), allow=("fewer-images",))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 20)
    (folder / "broken.png").write_bytes(b"no image")
    found = load(folder)
    assert len(found.images) + len(found.held_out) == 20
    assert any("(broken.png (" in str(finding) for finding in found.warnings)


def frames(count: int) -> list[np.ndarray]:
    """Scenes that the guard takes for sound."""
    rng = np.random.default_rng(1)
    return [cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (96, 64)) for _ in range(count)]


def test_arrays_go_through_the_guard_and_are_recorded_by_the_hash_of_their_bytes() -> None:
    images = frames(24)
    found = load(iter(images), count=16)
    assert found.record.images[3].sha256 == hashlib.sha256(images[3].tobytes()).hexdigest()
    assert (len(found.images), len(found.held_out), found.record.found) == (16, 8, 24)
    with pytest.raises(CalibrationError, match="--allow near-duplicates"):
        load([images[0]] * 20)


def test_batches_of_a_loader_count_as_images() -> None:
    batches = [{"image": np.stack(frames(20)[start : start + 4])} for start in range(0, 20, 4)]
    dataset = CalibrationDataset(iter(batches), lambda batch: batch["image"])
    found = load_calibration_set(dataset, CalibrationSettings(), SIZE, GRAY)
    assert len(found.images) + len(found.held_out) == 20
    assert found.record.images[5].name == "1/1"


def test_an_item_that_is_not_an_image_is_named() -> None:
    with pytest.raises(CalibrationError, match=r"image 0 is float32 with shape \(64, 96, 3\).*0 to 255"):
        load(iter([np.zeros((64, 96, 3), np.float32)]))


def test_as_many_images_are_held_out_to_measure_on_as_the_refusal_asks_for(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 38)
    for count in (17, 30, 40, 128):
        found = load(folder, count=count, limits=TO_MEASURE)
        assert len(found.held_out) >= 16
        assert len(found.images) == min(count, 22)
    (folder / "00.png").unlink()
    with pytest.raises(CalibrationError, match="give 38 images or more"):
        load(folder, count=40, limits=TO_MEASURE)
