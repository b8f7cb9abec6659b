"""The accuracy study measures each graph on the same images, says how sure it is, and holds it to the targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bench.studies import accuracy
from blendmask_edge.bundle import InputSpec, write_bundle
from tests.sdk.small_bundles import build_graph, describe

RED, BLUE = (40, 60, 250), (250, 60, 40)
INT8 = ("ptq/cpu", "ptq/tensorrt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of four images with one object each, two photographs, and a bundle with three graphs."""
    for split in ("val", "val_seen"):
        document = {"images": [], "annotations": [], "categories": [{"id": 10, "name": "red"}]}
        for number in range(1, 5):
            entry = {"id": number, "image_id": number, "category_id": 10, "area": 64, "iscrowd": 0}
            entry |= {"bbox": [2, 2, 8, 8], "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]}
            document["images"].append({"id": number, "file_name": f"{number}.jpg", "height": 32, "width": 48})
            document["annotations"].append(entry)
            write_image(tmp_path / "scenes" / split / f"{number}.jpg", RED)
        (tmp_path / "scenes" / f"{split}.json").write_text(json.dumps(document))
    for number, color in enumerate((RED, BLUE)):
        write_image(tmp_path / "photographs" / f"{number}.jpg", color)
    graphs = {name: build_graph(64, 96) for name in accuracy.VARIANTS}
    write_bundle(
        tmp_path / "m.bmz", describe(graphs, input=InputSpec(height=64, width=96, pad_value=(0, 0, 0))), graphs
    )
    return tmp_path


def write_image(path: Path, color: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((32, 48, 3), color, np.uint8))


@pytest.fixture
def study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, dict[str, Any]]]:
    """Run the study with a few draws, and return its rows."""

    def run(*words: object) -> dict[str, dict[str, Any]]:
        given = ["--data", folder / "scenes", "--output", folder, "--threads", 1, "--resamples", 30, *words]
        monkeypatch.setattr(sys, "argv", ["accuracy", *map(str, given)])
        accuracy.main()
        return {row["name"]: row for row in json.loads((folder / "accuracy.json").read_text())["rows"]}

    return run


def test_equal_graphs_keep_everything_with_certainty(folder: Path, study: Callable[..., Any]) -> None:
    rows = study("--bundle", folder / "m.bmz", "--photographs", folder / "photographs")
    scenes = {f"{graph}/{split}" for graph in ("float", *INT8) for split in ("val", "val_seen")}
    assert set(rows) == scenes | {f"{graph}/photographs" for graph in INT8}
    row, base = rows["ptq/cpu/val"], rows["float/val"]
    assert row["mask_ap"] == base["mask_ap"] > 0
    assert base["mask_ap_low"] <= base["mask_ap"] <= base["mask_ap_high"]
    for metric in ("retention", "retention_low", "retention_high", "retention/red", "retention_low/red", "passed"):
        assert row[metric] == 1
    assert (row["images"], row["resamples"], row["seed"]) == (4, 30, 0)
    assert rows["ptq/tensorrt/photographs"]["mask_ap50"] == pytest.approx(1)
    assert rows["ptq/tensorrt/photographs"]["instances"] == 2
    assert rows["ptq/tensorrt/photographs"]["passed"] == 1


def test_bundle_is_made_with_its_float_graph_where_none_is_given(
    folder: Path, study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def quantize(*words: object) -> None:
        asked.extend(map(str, words))
        Path(asked[asked.index("--output") + 1]).write_bytes((folder / "m.bmz").read_bytes())

    monkeypatch.setattr("bench.lib.command.blendmask", quantize)
    rows = study("--checkpoint", "c.safetensors", "--limit", 2)
    assert asked[:2] == ["quantize", "c.safetensors"]
    assert "--keep-float" in asked
    assert rows["float/val"]["images"] == 2
    assert "ptq/cpu/photographs" not in rows


def test_bundle_without_its_float_graph_is_refused(folder: Path, study: Callable[..., Any]) -> None:
    graphs = {"cpu": build_graph(), "tensorrt": build_graph()}
    write_bundle(folder / "int8.bmz", describe(graphs), graphs)
    with pytest.raises(SystemExit, match="lacks the graphs float: make it with --keep-float"):
        study("--bundle", folder / "int8.bmz")


def test_photographs_on_which_float_finds_nothing_are_said_to_tell_nothing(
    folder: Path, study: Callable[..., Any]
) -> None:
    for path in (folder / "photographs").iterdir():
        write_image(path, (0, 0, 0))
    row = study("--bundle", folder / "m.bmz", "--photographs", folder / "photographs")["ptq/cpu/photographs"]
    assert "float finds nothing" in row["error"]
    assert "mask_ap50" not in row


@pytest.mark.parametrize(
    "lost, passed",
    [({}, 1), ({"mask_ap": 0.39}, 0), ({"mask_ap/mug": 0.38}, 0), ({"mask_ap_small": 0.38}, 0), ({"mask_ap50": 0}, 1)],
)
def test_each_target_is_held(lost: dict[str, float], passed: int) -> None:
    metrics = ("mask_ap", "mask_ap50", "mask_ap_small", "mask_ap_large", "mask_ap/mug", "mask_ap/can")
    base = {**dict.fromkeys(metrics, 0.4), "box_ap": 0.3}
    points = base | lost
    spread = {name: np.array([0.9, 1.0, 1.1]) * value for name, value in points.items()}
    base_spread = {name: np.array([0.9, 1.0, 1.1]) * value for name, value in base.items()}
    row = accuracy.retention_columns(points, base, spread, base_spread)
    assert row["passed"] == passed
    assert row["retention_class_worst"] == pytest.approx(points["mask_ap/mug"] / 0.4)
    assert row["retention_size_worst"] == pytest.approx(points["mask_ap_small"] / 0.4)
    assert row["retention_low"] == row["retention_high"] == pytest.approx(row["retention"], abs=1e-4)


def test_nothing_found_by_float_is_no_share() -> None:
    assert accuracy.retention_columns({"mask_ap": 0.4}, {"mask_ap": 0.0}, {}, {}) == {"error": "float finds nothing"}
