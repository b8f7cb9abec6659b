"""Runtimes report nothing over the network, and write nothing outside the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blendmask_edge import available_runtimes

_PROGRAM = """
import sys
import numpy as np
from blendmask_edge import MaskPredictor
with MaskPredictor(sys.argv[1], sys.argv[2], threads=1) as predictor:
    predictor(np.zeros((48, 64, 3), np.uint8))
import onnxruntime
"""
_CPU = ("onnxruntime", "openvino")


@pytest.mark.parametrize("runtime", _CPU)
def test_a_prediction_leaves_nothing_in_the_home_folder(runtime: str, bundle_path: Path, tmp_path: Path) -> None:
    if not next(each.installed for each in available_runtimes() if each.name == runtime):
        pytest.skip(f"{runtime} is not installed")
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    variables.update(HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"), BLENDMASK_CACHE=str(tmp_path / "ours"))
    variables["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", _PROGRAM, str(bundle_path), runtime]
    subprocess.run(command, cwd=work, env=variables, check=True)
    assert [str(path.relative_to(tmp_path)) for folder in (home, work) for path in folder.rglob("*")] == []


def test_who_wants_to_report_can(monkeypatch: pytest.MonkeyPatch) -> None:
    from blendmask_edge.runtimes.telemetry import disable_onnxruntime_telemetry

    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    disable_onnxruntime_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
