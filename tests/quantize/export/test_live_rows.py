"""A graph that computes masks for its detections only gives what the one for all rows gives, however many there are."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blendmask_edge.bundle.tensors import OUTPUT_NAMES, constant_inputs
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.model.blendmask import Predictions
from tests.quantize.small_networks import ASSEMBLER, small_network
from tests.quantize.tiny import TINY

SIZE = (64, 96)
ROWS = 20
GRAYS = {"none": 0, "one": 30, "some": 60, "all": 110}
"""Brightness of an image that gives so many detections; each of the four happens, see the first test."""


class Planted(nn.Module):
    """Gives fixed predictions whose class logits rise with the brightness of the image."""

    def __init__(self, channels: int, bases: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for level, side in enumerate((8, 4, 2)):
            locations = (side, side * 3 // 2)
            self.register_buffer(
                f"logits{level}", 2 * torch.randn((1, TINY.num_classes, *locations), generator=generator) - 4
            )
            self.register_buffer(f"regression{level}", torch.rand((1, 4, *locations), generator=generator) * 3)
            self.register_buffer(f"towers{level}", torch.rand((1, channels, *locations), generator=generator))
            self.register_buffer(f"centerness{level}", torch.full((1, 1, *locations), 3.0))
        self.register_buffer("bases", torch.randn((1, bases, 16, 24), generator=generator))

    def forward(self, x: Tensor) -> Predictions:
        shift = 3 * x.mean((2, 3), keepdim=True)[:, :1]
        logits, regression, centerness, towers = (
            tuple(self.get_buffer(f"{name}{level}") for level in range(3))
            for name in ("logits", "regression", "centerness", "towers")
        )
        bases = self.bases + shift  # as in a network, they depend on the image
        return Predictions(tuple(part + shift for part in logits), regression, centerness, towers, bases, None)


def graph(config: object = TINY, *, live_rows: bool) -> DeployableGraph:
    model = small_network(config)  # type: ignore[arg-type]
    network = Planted(model.config.pyramid_width, model.config.bases.count)
    return DeployableGraph(model, network, SIZE, Bounds(detections=ROWS), live_rows=live_rows).eval()


def gray(value: int) -> NDArray[np.uint8]:
    return np.full((1, *SIZE, 3), value, np.uint8)


def expected(found: DeployableGraph, value: int) -> list[NDArray[np.generic]]:
    with torch.no_grad():
        return [output.numpy() for output in found(torch.from_numpy(gray(value)))]


def assert_same(ours: list[NDArray[np.generic]], theirs: list[NDArray[np.generic]]) -> None:
    rows = max(int((theirs[1] > 0).sum()), 1)
    assert [output.shape[1] for output in ours] == [rows] * 4
    np.testing.assert_array_equal(ours[2], theirs[2][:, :rows])
    live = theirs[1][0, :rows] > 0
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one[0, live], other[0, :rows][live], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def printed() -> io.StringIO:
    """What the export of `exported` prints."""
    return io.StringIO()


@pytest.fixture(scope="module")
def exported(printed: io.StringIO) -> onnx.ModelProto:
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        return export_onnx(graph(live_rows=True))


def test_the_images_give_no_detection_one_some_and_a_full_house() -> None:
    counts = {name: int((expected(graph(live_rows=False), value)[1] > 0).sum()) for name, value in GRAYS.items()}
    assert counts["none"] == 0
    assert counts["one"] == 1
    assert 2 < counts["some"] < ROWS
    assert counts["all"] == ROWS


@pytest.mark.parametrize("config", [TINY, ASSEMBLER], ids=lambda config: config.name)
@pytest.mark.parametrize("name", GRAYS)
def test_torch_graph_equals_the_one_of_all_rows(config: object, name: str) -> None:
    live, whole = graph(config, live_rows=True), graph(config, live_rows=False)
    assert_same(expected(live, GRAYS[name]), expected(whole, GRAYS[name]))


@pytest.mark.slow
def test_onnx_runtime_takes_each_count_after_each_other(exported: onnx.ModelProto) -> None:
    data, whole = exported.SerializeToString(), graph(live_rows=False)
    for session in (unoptimised_session(data), ort.InferenceSession(data, providers=["CPUExecutionProvider"])):
        for value in (*GRAYS.values(), *reversed(GRAYS.values())):
            assert_same(
                session.run(list(OUTPUT_NAMES), {"image": gray(value), **constant_inputs()}), expected(whole, value)
            )


@pytest.mark.slow
@pytest.mark.usefixtures("exported")
def test_export_needs_no_second_attempt_which_prints_the_whole_graph(printed: io.StringIO) -> None:
    assert printed.getvalue() == ""


@pytest.mark.slow
def test_rows_below_the_threshold_are_not_computed(exported: onnx.ModelProto) -> None:
    session, given = unoptimised_session(exported.SerializeToString()), {"image": gray(GRAYS["some"])}
    whole = session.run(list(OUTPUT_NAMES), {**given, **constant_inputs()})
    least = float(whole[1][0, 2])
    found = session.run(list(OUTPUT_NAMES), {**given, **constant_inputs(least)})
    count = int((whole[1] >= least).sum())
    assert 0 < count < (whole[1] > 0).sum()
    for one, other in zip(found, whole, strict=True):
        assert one.shape[1] == count
        np.testing.assert_allclose(one, other[:, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_openvino_takes_each_count_after_each_other(exported: onnx.ModelProto) -> None:
    openvino = pytest.importorskip("openvino")
    core, whole = openvino.Core(), graph(live_rows=False)
    read = core.read_model(io.BytesIO(exported.SerializeToString()))
    request = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    for value in (*GRAYS.values(), *reversed(GRAYS.values())):
        results = request.infer({"image": gray(value), **constant_inputs()})
        assert_same([results[name] for name in OUTPUT_NAMES], expected(whole, value))


@pytest.mark.slow
def test_rows_without_a_detection_are_not_computed(exported: onnx.ModelProto) -> None:
    """The products of the masks are of as many rows as there are detections."""
    opened = onnx.ModelProto()
    opened.CopyFrom(exported)
    (name,) = (node.output[0] for node in exported.graph.node if node.op_type == "Gemm")
    opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = unoptimised_session(opened.SerializeToString())
    for value in GRAYS.values():
        scores, vectors = session.run(["scores", name], {"image": gray(value), **constant_inputs()})
        assert len(vectors) == max((scores > 0).sum(), 1)
