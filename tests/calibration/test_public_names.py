"""The public face: every name is there, importing brings no runtime, and the program of the docstring runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import blendmask_calibration
from tests.programs import run_docstring


@pytest.mark.parametrize("name", blendmask_calibration.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(blendmask_calibration, name) is not None


def test_importing_loads_no_network_and_no_runtime() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "cv2", "blendmask_edge", "blendmask_quantize")
    code = f"import sys, blendmask_calibration; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_program_of_the_docstring_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_docstring(blendmask_calibration)
    assert "'conv1': Range(" in capsys.readouterr().out
