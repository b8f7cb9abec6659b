"""Where the reference values lie, beside the checkout; one thread, which small tensors are fastest with; one bundle of
the whole pipeline, for every test that looks at it."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from blendmask_calibration.estimators import Range
from blendmask_edge.benchmark.side_by_side import time_side_by_side
from blendmask_edge.bundle import reader, writer
from blendmask_edge.bundle.reader import Bundle
from blendmask_quantize import QuantizeOptions, quantize
from blendmask_quantize.checkpoints.checkpoint import save_checkpoint
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.latency import network as latency
from blendmask_quantize.latency import table
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.pipeline import calibration_set, comparison, run, stages
from blendmask_quantize.pipeline.candidate import Candidate
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.report import Report
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.quantizer import IntegerConv2d
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.validation import measure
from tests.made_once import made_once
from tests.quantize.images import some_images, write_images
from tests.quantize.tiny import LABELS, tiny_model
from tests.reference_values import PARITY

torch.set_num_threads(1)
UNRESTED = functools.partial(time_side_by_side, rounds=1, rest=0)
"""Timing that is over soon, for tests that look at other things."""

SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """Let all exports share the exporter's table of operators, which it makes anew for each in about a second."""
    make = functools.cache(ONNXRegistry.from_torchlib)

    def shared_registry(**options: int) -> ONNXRegistry:
        registry = copy.copy(make(**options))
        registry.functions = {target: list(entries) for target, entries in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(shared_registry))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of facts, reference values and tools."""
    if not SHARED.is_dir():
        pytest.skip("the reference values are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the reference's recorded numbers."""
    return PARITY


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 34 images that the calibration guard takes for sound; one lies in a subfolder."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    for index in range(34):
        coarse = np.random.default_rng(index).integers((40, 20, 0), (256, 236, 216), (6, 8, 3), dtype=np.uint8)
        path = folder / ("more" if index == 0 else ".") / f"{index:02d}.png"
        cv2.imwrite(str(path), cv2.resize(coarse, (128, 96))[..., ::-1])
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three images with `annotations.json` of the tiny network's classes."""
    folder = tmp_path_factory.mktemp("scenes")
    write_images(folder, some_images(3))
    return folder


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny network."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, tiny_model(), LABELS)
    return path


@dataclass(frozen=True)
class Made:
    """One run of `quantize` on the fixtures above.

    Attributes:
        report: what it reported.
        path: the bundle.
        stages: the steps of each stage that were done, and their number, as announced.
        weights, ranges: what the INT8 graphs were rendered from.
    """

    report: Report
    path: Path
    stages: dict[str, tuple[int, int]]
    weights: dict[str, torch.Tensor]
    ranges: dict[str, Range]

    def calibrated(self) -> Calibrated:
        """The same weights and ranges, ready to be rendered once more."""
        traced = trace_network(tiny_model())
        traced.load_state_dict(self.weights)
        return Calibrated(traced, self.ranges)


@pytest.fixture(scope="session")
def made(photographs: Path, scenes: Path, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of all three graphs."""

    def make(folder: Path) -> None:
        made = _quantize_all(checkpoint_path, photographs, scenes, folder / "tiny.bmz")
        (folder / "made.pickle").write_bytes(pickle.dumps(made))

    folder = made_once(tmp_path_factory, "made", make)
    done: Made = pickle.loads((folder / "made.pickle").read_bytes())
    path = folder / "tiny.bmz"
    return replace(done, path=path, report=replace(done.report, bundle=path))


def _quantize_all(checkpoint: Path, photographs: Path, scenes: Path, path: Path) -> Made:
    stages: dict[str, tuple[int, int]] = {}

    def stage(name: str, total: int) -> Callable[[], None]:
        stages[name] = (0, total)

        def step() -> None:
            stages[name] = (stages[name][0] + 1, total)

        return step

    kept: list[Calibrated] = []

    def watched(quantized: Quantized) -> Candidate:
        kept.append(quantized.calibrated)
        return comparison.compared(quantized)

    options = QuantizeOptions(
        count=33, seed=3, estimator="max", size=(64, 96), keep_float=True, detections=20, license="CC0-1.0",
        evaluation=(scenes, scenes / "annotations.json"),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "compared", watched)
        patch.setattr(comparison, "export_onnx", _exporter())
        patch.setattr(measure, "time_side_by_side", UNRESTED)
        report = quantize(checkpoint, photographs, path, options=options, progress=stage)
    return Made(report, path, stages, kept[0].traced.state_dict(), dict(kept[0].ranges))


def _exporter() -> Callable[[DeployableGraph], onnx.ModelProto]:
    """Export the float network once: the graph with live rows, which is timed and not shipped, is the static one here.

    Shapes that depend on the image take as long to export as everything else; that of `cpu` has them, too.
    """
    static: list[onnx.ModelProto] = []

    def export(graph: DeployableGraph) -> onnx.ModelProto:
        if any(isinstance(module, IntegerConv2d) for module in graph.network.modules()):
            return export_onnx(graph)
        if not static:
            shipped = copy.copy(graph)
            shipped.live_rows = False
            static.append(export_onnx(shipped))
        return static[0]

    return export


@pytest.fixture
def replayed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """See `replay`."""
    replay(made, monkeypatch)


def replay(made: Made, patch: pytest.MonkeyPatch) -> None:
    """Let `quantize` take the graphs of `made` instead of exporting and comparing its own, most of its time."""
    patch.setattr(calibration_set, "FRAMES", 2)
    patch.setattr(stages, "TO_COMPARE", calibration_set.HoldOut(2, 8, 1 / 8))
    for module in (reader, writer):
        patch.setattr(module, "check_graph", lambda _: None)  # which `made` passed
    patch.setattr(measure, "time_side_by_side", UNRESTED)
    graphs = [Bundle.open(made.path).graph(variant) for variant in ("float", "cpu", "tensorrt")]
    patch.setattr(comparison, "export_onnx", lambda _: onnx.load_from_string(graphs.pop(0)))
    patch.setattr(comparison, "check_parity", lambda *_: made.report.variants["cpu"].parity)


@pytest.fixture
def no_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where calibration or export begins."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("long work began")

    for module, name in ((stages, "observe_images"), (comparison, "export_onnx")):
        monkeypatch.setattr(module, name, fail)


@pytest.fixture
def timed_by_work(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the time of a network follow from its work, at a thousand multiply-accumulates a millisecond."""
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(latency, "time_network", lambda model, size, _runtime: count_macs(model, size) / 1000)
    monkeypatch.setattr(table, "_DISTURBED", {})  # what other tests of this process timed
