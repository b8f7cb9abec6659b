"""The real converters of Torch-TensorRT turn the whole quantized network into layers; nothing is left to torch.

`make targets-check` runs this in an environment of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.lib.without_gpu import FIRST_WITH_INT8_CONVOLUTIONS, LAYERS, convert, rtx_version, segments
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from tests.targets.conftest import Case

try:
    importlib.metadata.version("torch-tensorrt-rtx")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("Torch-TensorRT for TensorRT-RTX is not installed: make targets-check", allow_module_level=True)

SM = "8.6"
_FILL = """
import json, sys
from pathlib import Path
from bench.lib.without_gpu import convert, rtx_version
layers = convert(Path(sys.argv[1]).read_bytes(), sys.argv[2], build=False).layers
print(json.dumps([rtx_version(), layers]))
"""


def check(layers: Counter[str], nodes: Counter[str]) -> None:
    """Each rounding there and back is one layer of each kind, also of a weight, which is given as real numbers."""
    assert layers["QUANTIZE"] == layers["DEQUANTIZE"] == nodes["DequantizeLinear"] > 100
    assert layers["CONVOLUTION"] == nodes["Conv"]
    assert layers["TOPK"] == nodes["TopK"] == 3
    assert set(layers) <= LAYERS


def test_the_whole_program_is_one_segment(case: Case) -> None:
    assert segments(case.graph, SM) == ("_run_on_acc_0",)


@pytest.mark.skipif(rtx_version() < FIRST_WITH_INT8_CONVOLUTIONS, reason="this TensorRT-RTX builds no INT8 convolution")
def test_the_program_with_a_half_remainder_is_one_engine_with_the_same_rounding(case: Case) -> None:
    graph = half_remainder(case.graph)
    assert segments(graph, SM) == ("_run_on_acc_0",)
    network = convert(graph, SM, build=True)
    check(network.layers, case.nodes)
    assert network.plan_bytes > len(graph) / 4


@pytest.mark.skipif(rtx_version() < FIRST_WITH_INT8_CONVOLUTIONS, reason="this TensorRT-RTX builds no INT8 convolution")
def test_the_program_is_converted_and_built_whole(case: Case) -> None:
    network = convert(case.graph, SM, build=True)
    check(network.layers, case.nodes)
    assert network.plan_bytes > len(case.graph) / 4


def test_the_release_that_torch_tensorrt_is_made_for_is_filled_alike(case: Case, tmp_path: Path) -> None:
    """It stands behind a newer one on the path, so it is imported in a process of its own."""
    (tmp_path / "graph.onnx").write_bytes(case.graph)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _FILL, str(tmp_path / "graph.onnx"), SM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    version, layers = json.loads(done.stdout.splitlines()[-1])
    assert tuple(version) < FIRST_WITH_INT8_CONVOLUTIONS
    check(Counter(layers), case.nodes)
