"""The programs of docs/python.md and docs/export.md run as printed, one after the other."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

ROOT = Path(__file__).parents[2]


def blocks_of(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = blocks_of("docs/python.md")


def instances_of(folder: Path) -> dict[str, Any]:
    """COCO instances: a square of one of two classes in each image."""
    sizes = [(path.name, *cv2.imread(str(path)).shape[:2]) for path in sorted(folder.iterdir())]
    images = [{"id": i, "file_name": name, "height": h, "width": w} for i, (name, h, w) in enumerate(sizes)]
    square = [[10, 10, 210, 10, 210, 210, 10, 210]]
    annotations = [{"image_id": i, "category_id": 1 + i % 2, "segmentation": square} for i in range(len(images))]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "mug"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.slow
def test_blocks_run_in_order_and_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
    from tests.quantize.tiny import LABELS, tiny_model

    save_checkpoint(tmp_path / "checkpoint.safetensors", tiny_model(), LABELS)
    chosen = sorted((ROOT / "examples/homescenes/calibration").glob("*.jpg"))[:6]
    (tmp_path / "images").mkdir()
    for path in chosen:
        shutil.copy(path, tmp_path / "images")
    (tmp_path / "train.json").write_text(json.dumps(instances_of(tmp_path / "images")))
    graphs = {"cpu": build_graph()}
    write_bundle(tmp_path / "model.bmz", describe(graphs), graphs)
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((48, 64, 3), 230, np.uint8))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
        assert capsys.readouterr().out, block


@pytest.mark.slow
def test_the_exported_graph_runs_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    from blendmask_quantize import export_onnx
    from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
    from tests.quantize.tiny import LABELS, tiny_model

    save_checkpoint(tmp_path / "checkpoint.safetensors", tiny_model(), LABELS)
    export_onnx(tmp_path / "checkpoint.safetensors", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks_of("docs/export.md")
    exec(compile(block, "docs/export.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(1, ")
