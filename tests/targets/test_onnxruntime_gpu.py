"""The real onnxruntime-gpu on a machine without a driver: it refuses with the reason, and prints nothing else.

`make gpu-check` runs this in an environment of its own.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blendmask_edge import MaskPredictor, RuntimeUnavailableError, available_runtimes
from blendmask_edge.bundle import write_bundle
from blendmask_edge.hardware import cuda
from blendmask_edge.runtimes.base import SessionOptions
from blendmask_edge.runtimes.registry import select
from tests.sdk.small_bundles import build_graph, describe

try:
    importlib.metadata.version("onnxruntime-gpu")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("onnxruntime-gpu is not installed: make gpu-check", allow_module_level=True)
if cuda.find_gpu() is not None:
    pytest.skip("there is a GPU here, so that nothing is refused", allow_module_level=True)

NAMES = ("onnxruntime-cuda", "onnxruntime-tensorrt")
NEW_GPU = cuda.Gpu("GeForce", "8.9", "13.1/590.1")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    graphs = dict.fromkeys(("cpu", "float", "tensorrt"), build_graph())
    return write_bundle(tmp_path / "m.bmz", describe(graphs), graphs)


@pytest.mark.parametrize("name", NAMES)
def test_missing_driver_is_named(name: str, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"(No NVIDIA driver|No usable GPU): .*onnxruntime"):
        MaskPredictor(bundle, runtime=name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_missing_library_of_cuda_is_named_with_the_package_that_has_it(
    name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What users meet who have a driver, but no CUDA; ONNX Runtime itself would go on on the CPU."""
    runtime: Any = select(name).load()
    monkeypatch.setattr(runtime, "first_gpu", lambda: NEW_GPU)
    provider = {"onnxruntime-cuda": "CUDA", "onnxruntime-tensorrt": "Tensorrt"}[name]
    reason = rf"cannot start {provider}ExecutionProvider on the GeForce: lib\w+\.so\.\d+: cannot open.*pip install"
    with pytest.raises(RuntimeUnavailableError, match=reason):
        runtime.load(build_graph(), SessionOptions())
    assert capfd.readouterr() == ("", "")


def test_auto_predicts_on_the_cpu(bundle: Path) -> None:
    with MaskPredictor(bundle) as predictor:
        assert len(predictor(np.full((32, 48, 3), 255, np.uint8))) == 3
        assert predictor.runtime == "onnxruntime"


def test_runtimes_are_listed_with_the_reason() -> None:
    listed = {runtime.name: runtime for runtime in available_runtimes()}
    for name in NAMES:
        assert listed[name].installed
        assert "GPU" in listed[name].reason
