"""`quantize` compiles the network that it quantized for the GPU of this machine, straight from torch."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.compilation import toolchain
from blendmask_edge.errors import ConfigError, InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import program_cache, program_name
from blendmask_quantize import QuantizeOptions, explain, quantize
from blendmask_quantize.export.deployable import DeployableGraph

AMPERE = Gpu("RTX 3090", "8.6", "13.1/590.1")
OPTIONS = QuantizeOptions(
    count=4, allow=("few-images",), estimator="max", size=(64, 96), detections=20, steps=(), torch_tensorrt="rtx-30"
)


class Compiler:
    """Stands for `export.torch_tensorrt.program`, which tests of its own run."""

    def __init__(self) -> None:
        self.exported: list[DeployableGraph] = []
        self.failure = ""

    def export_here(self, graph: DeployableGraph) -> bytes:
        self.exported.append(graph)
        return b"program"

    def compile_exported(self, program: bytes) -> bytes:
        if self.failure:
            raise InferenceError(self.failure)
        return b"compiled " + program


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    """An RTX 3090 with Torch-TensorRT, and a cache of the test's own."""
    compiler: Any = Compiler()
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "blendmask_quantize.export.torch_tensorrt.program", compiler)
    for name, version in (("torch_tensorrt", "2.14.0"), ("tensorrt", "11.1.0")):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(__version__=version))
    monkeypatch.setattr(toolchain, "find_gpu", lambda: AMPERE)
    return compiler


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_the_program_lies_where_the_runtime_looks_for_that_of_the_bundle(
    gpu: Compiler, checkpoint_path: Path, photographs: Path, tmp_path: Path
) -> None:
    stages = []

    def progress(name: str, _: int) -> Callable[[], None]:
        stages.append(name)
        return lambda: None

    report = quantize(checkpoint_path, photographs, tmp_path / "m.bmz", options=OPTIONS, progress=progress)
    graph = Bundle.open(report.bundle).manifest.graphs["tensorrt"].sha256
    assert report.program is not None
    assert report.program.name == program_name(graph, AMPERE)
    assert program_cache().read(report.program.name) == b"compiled program"
    (exported,) = gpu.exported
    assert not exported.live_rows
    assert (stages[-1], report.not_compiled) == ("compiling", "")


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_a_compiler_that_refuses_does_not_cost_the_bundle(
    gpu: Compiler, checkpoint_path: Path, photographs: Path, tmp_path: Path
) -> None:
    gpu.failure = "no converter for aten.fancy"
    report = quantize(checkpoint_path, photographs, tmp_path / "m.bmz", options=OPTIONS)
    assert (report.program, report.not_compiled) == (None, "no converter for aten.fancy")
    assert set(Bundle.open(report.bundle).manifest.graphs) == {"cpu", "tensorrt"}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "target, message",
    [("rtx-31", "rtx-30"), ("ada", r"RTX 3090, SM 8\.6; .* has SM 8\.9"), ("x86", "needs no engine")],
)
def test_another_device_is_refused_before_long_work(
    target: str, message: str, checkpoint_path: Path, photographs: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        quantize(checkpoint_path, photographs, tmp_path / "m.bmz", options=OPTIONS, torch_tensorrt=target)
    assert not (tmp_path / "m.bmz").exists()


def test_a_machine_without_a_gpu_is_told_what_is_missing(
    checkpoint_path: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "find_gpu", lambda: None)
    message = r"the CUDA driver shows no GPU.*blendmask compile m\.bmz --target rtx-30 --runtime torch_tensorrt"
    with pytest.raises(RuntimeUnavailableError, match=message):
        quantize(checkpoint_path, photographs, tmp_path / "m.bmz", options=OPTIONS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("timed_by_work")
def test_the_plan_names_the_device(gpu: Compiler, checkpoint_path: Path, photographs: Path, tmp_path: Path) -> None:
    plan = explain(checkpoint_path, photographs, tmp_path / "m.bmz", options=OPTIONS)
    assert plan.device is not None
    assert "30" in plan.device
    assert gpu.exported == []
