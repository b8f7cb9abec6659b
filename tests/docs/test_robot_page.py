"""The programs of docs/robot.md run as printed, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from blendmask_edge import DependencyError
from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

PAGE = Path(__file__).parents[2] / "docs/robot.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_blocks_run_in_order_and_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    graphs = {"cpu": build_graph()}
    write_bundle(tmp_path / "model.bmz", describe(graphs), graphs)
    cv2.imwrite(str(tmp_path / "image.jpg"), np.full((48, 64, 3), 230, np.uint8))
    writer = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 230, np.uint8))
    writer.release()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        try:
            exec(compile(block, "docs/robot.md", "exec"), names)
        except DependencyError:
            assert "track=True" in block
            continue
        assert capsys.readouterr().out, block
