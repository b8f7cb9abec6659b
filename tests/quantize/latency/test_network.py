"""Predicted latency: every layer is timed in the form it is exported in, and pruning to a share of it meets the share.

Nothing here depends on a clock: what times a layer is replaced by a count of its work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from blendmask_edge.errors import ConfigError, RuntimeUnavailableError
from blendmask_edge.runtimes.registry import RuntimeRow
from blendmask_quantize import prune
from blendmask_quantize.latency import network, table
from blendmask_quantize.latency.layer_graph import INPUT, layer_graph
from blendmask_quantize.latency.network import LatencyModel
from blendmask_quantize.latency.shapes import conv_shapes
from blendmask_quantize.latency.table import LatencyTable
from blendmask_quantize.latency.timing import time_layer
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.macs import count_macs, macs_by_layer
from blendmask_quantize.pruning.budget import TOLERANCE
from blendmask_quantize.pruning.channel_pruning import check_ratio, prune_network, total_cost
from blendmask_quantize.pruning.options import PruneOptions
from tests.quantize.latency.work import work
from tests.quantize.prunable import SMALL
from tests.quantize.small_networks import FIVE_LEVELS, LITE, size_of, small_network
from tests.quantize.tiny import tiny_model

SIZE = (64, 96)
OPTIONS = PruneOptions(target="latency", importance="magnitude", ratio=0.6)


@pytest.fixture
def latency() -> LatencyModel:
    model = tiny_model(SMALL)
    return LatencyModel(10.0, conv_shapes(model, SIZE), LatencyTable("onnxruntime", work))


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL, LITE, FIVE_LEVELS], ids=lambda config: config.name)
def test_every_convolution_that_runs_is_timed(config: ModelConfig) -> None:
    model = small_network(config)
    size = size_of(config)
    assert set(conv_shapes(model, size)) == set(macs_by_layer(model, size)) - {"top_layer"}


def test_graphs_of_layers_run_and_have_the_shape_of_the_layer() -> None:
    ort = pytest.importorskip("onnxruntime")
    calls = [call for calls in conv_shapes(small_network(LITE), size_of(LITE)).values() for call in calls]
    chosen = {(call.kernel, call.stride, call.depthwise, call.quantized): call for call in calls}
    assert {call.depthwise for call in chosen.values()} == {call.quantized for call in chosen.values()} == {True, False}
    for call in chosen.values():
        graph = layer_graph(call)
        onnx.checker.check_model(onnx.load_from_string(graph))
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        dtype = np.uint8 if call.quantized else np.float32
        (result,) = session.run(None, {INPUT: np.ones((1, call.height, call.width, call.inputs), dtype)})
        assert result.dtype == dtype
        high = (
            call.height + call.padding[0] + call.padding[2] - call.dilation[0] * (call.kernel[0] - 1) - 1
        ) // call.stride[0] + 1
        assert result.shape[1] == high
        assert result.shape[3] == call.outputs


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_layer_is_timed_in_each_runtime(runtime: str) -> None:
    pytest.importorskip(runtime)
    call = next(iter(conv_shapes(small_network(LITE), size_of(LITE)).values()))[0]
    assert time_layer(layer_graph(call), runtime) > 0


@pytest.mark.slow
def test_pruning_meets_the_share_of_the_predicted_latency(latency: LatencyModel) -> None:
    model = tiny_model(SMALL)
    pruned = prune_network(model, 0.6, (), options=OPTIONS, cost_of=latency.cost)
    before, after = (total_cost(each, OPTIONS, latency.cost) for each in (model, pruned))
    assert before == pytest.approx(10)
    assert after / before == pytest.approx(0.6, rel=TOLERANCE)
    assert count_macs(pruned) < count_macs(model)


def test_work_that_no_layer_does_is_never_saved(latency: LatencyModel) -> None:
    model = tiny_model(SMALL)
    with pytest.raises(ConfigError, match=r"0\.05 of the latency cannot be reached: .* Ask for 0\.\d+ or more"):
        check_ratio(model, PruneOptions(target="latency", ratio=0.05), SIZE, latency.cost)


@pytest.mark.parametrize("block, multiple", [(1, 8), (16, 16), (32, 32)])
def test_the_multiple_is_the_smallest_that_saves_time(block: int, multiple: int) -> None:
    blocks = LatencyTable("onnxruntime", lambda graph, runtime: work(graph, runtime, block))
    assert blocks.multiple() == multiple


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """An empty cache, and what is said of other work: nothing until it is called with a sign of it."""

    def say(sign: str) -> None:
        for module in (network, table):
            monkeypatch.setattr(module, "other_work", lambda *_: sign)
        monkeypatch.setattr(table, "_DISTURBED", {})

    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "cache"))
    say("")
    return say


@pytest.mark.usefixtures("quiet")
def test_times_are_measured_once_a_machine() -> None:
    calls = [call for calls in conv_shapes(tiny_model(SMALL), SIZE).values() for call in calls]
    first = LatencyTable.of_machine("onnxruntime")
    first.measure = work
    first.measure_all(calls)
    second = LatencyTable.of_machine("onnxruntime")
    second.measure = lambda *_: pytest.fail("measured again")
    second.measure_all(calls)
    assert [second.milliseconds(call) for call in calls] == [first.milliseconds(call) for call in calls]
    assert LatencyTable.of_machine("openvino").entries == {}


def test_disturbed_times_of_layers_are_told_and_kept_for_this_process_alone(
    quiet: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    calls = [call for calls in conv_shapes(tiny_model(SMALL), SIZE).values() for call in calls]
    quiet("Others took 40%.")
    first = LatencyTable.of_machine("onnxruntime")
    first.measure = work
    first.measure_all(calls)
    assert caplog.text.count("Others took 40%. Times of layers measured meanwhile") == 1
    again = LatencyTable.of_machine("onnxruntime")
    assert again.entries == first.entries != {}
    quiet("")
    assert LatencyTable.of_machine("onnxruntime").entries == {}, "another process"
    first.add({"undisturbed": 1.0}, "")
    assert LatencyTable.of_machine("onnxruntime").entries == {"undisturbed": 1.0}


@pytest.mark.slow
def test_a_disturbed_time_of_a_network_is_told_and_kept_for_this_process_alone(
    quiet: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(SMALL)
    monkeypatch.setattr(network, "time_network", lambda *_: 5.0)
    quiet("Others took 40%.")
    assert network.latency_model(model, SIZE, "onnxruntime").network_ms == 5
    assert "Others took 40%. The latency is predicted from 5.0 ms" in caplog.text
    monkeypatch.setattr(network, "time_network", lambda *_: pytest.fail("measured again in the same process"))
    assert network.latency_model(model, SIZE, "onnxruntime").network_ms == 5
    quiet("")
    monkeypatch.setattr(network, "time_network", lambda *_: 4.0)
    for _ in range(2):
        assert network.latency_model(model, SIZE, "onnxruntime").network_ms == 4
        monkeypatch.setattr(network, "time_network", lambda *_: pytest.fail("measured again"))


def test_a_runtime_that_is_not_installed_is_one_message(
    checkpoint_path: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RuntimeRow, "installed", False)
    with pytest.raises(RuntimeUnavailableError, match=r"'openvino' is not installed. Type: pip install"):
        prune(
            checkpoint_path, scenes, scenes / "annotations.json", tmp_path / "p.safetensors", latency=0.5,
            runtime="openvino",
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
