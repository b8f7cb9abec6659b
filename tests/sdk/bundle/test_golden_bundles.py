"""Bundles of every released schema version are read as they were meant, and find what they found."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from blendmask_edge import Bundle, BundleError, MaskPredictor
from blendmask_edge.bundle import SCHEMA_VERSION

pytest.importorskip("onnxruntime")

GOLDEN = Path(__file__).parents[2] / "golden"
SUMS = dict(reversed(line.split()) for line in (GOLDEN / "SHA256SUMS").read_text().splitlines())
READABLE = sorted(GOLDEN.glob("schema*.bmz"))


def holds(read: Any, written: Any) -> bool:
    """Whether everything that was written was read as it stands; fields that came later may stand beside it."""
    if isinstance(written, dict):
        return all(name in read and holds(read[name], value) for name, value in written.items())
    if isinstance(written, list):
        return len(read) == len(written) and all(map(holds, read, written))
    return bool(read == written)


def without_additions(document: Any) -> Any:
    """Leave out what `later` of tests/golden/make.py put into the structs."""
    if isinstance(document, dict):
        return {name: without_additions(value) for name, value in document.items() if name != "added_later"}
    return [without_additions(value) for value in document] if isinstance(document, list) else document


def in_words_of_schema_2(document: Any) -> Any:
    """Return a manifest of schema 1 with the names that its fields have now."""
    renamed = {"pictures": "images", "lost": "missed", "invented": "spurious"}
    document["license"] = document.pop("licence")
    document["schema_version"] = 2
    document["fidelity"] = {
        variant: {renamed.get(name, name): value for name, value in entry.items()}
        for variant, entry in document["fidelity"].items()
    }
    return document


def test_golden_files_are_as_they_were_when_they_were_added() -> None:
    result = {path.name for path in GOLDEN.iterdir() if path.suffix in (".bmz", ".npz")}
    assert result == set(SUMS)
    for name, digest in SUMS.items():
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == digest, f"{name} was changed"


def test_every_released_schema_version_has_a_golden_bundle() -> None:
    names = {path.name for path in READABLE}
    assert {f"schema{version}.bmz" for version in range(1, SCHEMA_VERSION + 1)} <= names


@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
def test_manifest_is_read_as_it_was_written(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        written = json.loads(archive.read("manifest.json"))
    expected = without_additions(written)
    if written["schema_version"] == 1:
        expected = in_words_of_schema_2(expected)
    assert holds(msgspec.to_builtins(Bundle.open(path).manifest), expected)


def test_manifest_of_version_1_means_what_it_meant() -> None:
    manifest = Bundle.open(GOLDEN / "schema1.bmz").manifest
    assert (manifest.model, manifest.input.height, manifest.input.width) == ("GOLDEN", 32, 48)
    assert manifest.input.pad_value == (127, 120, 99)
    assert dict(zip(manifest.category_ids, manifest.classes)) == {2: "cup", 5: "plate", 9: "fork"}
    assert manifest.calibration is not None
    assert [image.name for image in manifest.calibration.held_out] == ["2.jpg"]
    assert manifest.metrics["cpu"][0].metrics["mask_ap/cup"] == 0.5
    assert (manifest.nms.rounds, manifest.score_threshold, manifest.detections) == (8, 0.2, 4)


@pytest.mark.parametrize("variant", ["cpu", "tensorrt", "float"])
@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
def test_prediction_is_what_it_was(path: Path, variant: str) -> None:
    with np.load(GOLDEN / f"{path.stem.replace('_later', '')}.npz", allow_pickle=False) as arrays:
        expected = {name: arrays[f"{variant}/{name}"] for name in ("boxes", "scores", "class_ids", "masks")}
        image = arrays["picture" if "picture" in arrays else "image"]
    with MaskPredictor(path, "onnxruntime", threads=1, score_threshold=0, variant=variant) as predictor:
        result = predictor(image)
    assert len(result) == 3
    np.testing.assert_array_equal(result.class_ids, expected["class_ids"])
    np.testing.assert_allclose(result.boxes, expected["boxes"], atol=0.01)
    np.testing.assert_allclose(result.scores, expected["scores"], atol=0.005)
    either, both = result.masks | expected["masks"], result.masks & expected["masks"]
    assert (both.sum(axis=(1, 2)) >= 0.98 * either.sum(axis=(1, 2))).all()
    assert either.any(axis=(1, 2)).all()


def test_version_to_come_is_refused_with_a_word_on_upgrading() -> None:
    with pytest.raises(BundleError, match=r"future\.bmz: .* schema version 1000, .* Upgrade blendmask-edge"):
        Bundle.open(GOLDEN / "future.bmz")
