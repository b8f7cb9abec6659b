"""The public face: every name loads, importing is light, and the program of the docstring runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import blendmask_edge
from blendmask_edge.imaging import encode_jpeg
from tests.programs import run_docstring

HEAVY = ("cv2", "onnxruntime", "openvino", "tensorrt", "torch", "pycocotools", "msgspec", "numpy")


@pytest.mark.parametrize("name", blendmask_edge.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(blendmask_edge, name) is not None
    assert name in dir(blendmask_edge)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="MaskPrediktor"):
        blendmask_edge.MaskPrediktor  # noqa: B018


def test_importing_loads_no_runtime_and_no_opencv() -> None:
    code = f"import sys, blendmask_edge; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_program_of_the_docstring_runs(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.bmz").write_bytes(bundle_path.read_bytes())
    (tmp_path / "scene.jpg").write_bytes(encode_jpeg(np.full((40, 60, 3), 255, np.uint8)))
    monkeypatch.chdir(tmp_path)
    run_docstring(blendmask_edge)
    assert "red 1.00 at [" in capsys.readouterr().out
