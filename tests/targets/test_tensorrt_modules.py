"""Real modules of TensorRT have each name that the SDK uses, and their failure to start is one message.

`.ci/modules.sh` runs this in an environment of its own for each: 8.5.3, the release of JetPack 5.1, and the lean
runtime of 11.4. Names and signatures alone are looked at; nothing is run against an imitated driver.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge import MaskPredictor, RuntimeUnavailableError
from blendmask_edge.bundle import write_bundle
from blendmask_edge.hardware.architectures import load_architectures
from blendmask_edge.hardware.cuda import find_gpu
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions, build_arguments
from blendmask_edge.runtimes.tensorrt.log import start
from blendmask_edge.runtimes.tensorrt.versions import Version
from tests.sdk.runtimes.tensorrt_calls import BUILDING, INSPECTING, MEMBERS, RUNNING, problems
from tests.sdk.small_bundles import build_graph, describe

LEAN = "tensorrt_lean_bindings"


def real_module() -> Any:
    for name in ("tensorrt", LEAN):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("no TensorRT is installed: .ci/modules.sh", allow_module_level=True)
    return None


trt = real_module()
IS_LEAN = trt.__name__ == LEAN
without_gpu = pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here, so that TensorRT starts")


def test_calls_that_run_an_engine_are_there() -> None:
    assert problems(trt, RUNNING) == []


@pytest.mark.skipif(IS_LEAN, reason="a lean runtime builds and inspects nothing")
def test_calls_that_build_or_inspect_an_engine_are_there() -> None:
    assert problems(trt, {**BUILDING, **INSPECTING}) == []


@pytest.mark.parametrize("name", MEMBERS)
def test_values_are_there(name: str) -> None:
    holder = trt
    for part in name.split("."):
        holder = getattr(holder, part)
    assert set(holder.__members__) >= MEMBERS[name]


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("architecture", load_architectures(), ids=lambda row: row.sm)
def test_every_flag_that_a_build_would_set_is_there(precision: Any, half: bool, architecture: Any) -> None:
    arguments = build_arguments(Version.parse(trt.__version__), EngineOptions(precision), architecture, half)
    assert set(arguments.builder_flags) <= set(trt.BuilderFlag.__members__)
    if not IS_LEAN:
        assert set(arguments.network_flags) <= set(trt.NetworkDefinitionCreationFlag.__members__)


@without_gpu
@pytest.mark.parametrize("kind", ["Runtime"] if IS_LEAN else ["Builder", "Runtime"])
def test_cuda_that_does_not_start_is_told_with_its_reason(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        start(trt, kind)
    message = str(caught.value)
    assert message.startswith(f"TensorRT {trt.__version__} cannot start its {kind}: ")
    assert "CUDA initialization failure with error: 35" in message
    assert "nvidia-smi" in message
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_predictor_names_the_missing_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    graphs = dict.fromkeys(("cpu", "tensorrt"), build_graph())
    path = write_bundle(tmp_path / "m.bmz", describe(graphs), graphs)
    with pytest.raises(RuntimeUnavailableError, match=r"(No NVIDIA driver|No usable GPU): .*onnxruntime"):
        MaskPredictor(path, runtime="tensorrt")
