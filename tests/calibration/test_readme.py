"""The example of the README runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[2] / "calibration" / "README.md"


def test_the_example_calibrates_a_folder_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        cells = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), cv2.resize(cells, (512, 384)))
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(compile(example, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "12 calibration images can be read; at least 16 are needed" in printed
    assert "broken.png (not an image)" in printed
    assert re.search(r"{'contrast': Range\(low=-0\.(4\d+|5), high=0\.(4\d+|5)\)}", printed)
