"""The real converters of Torch-TensorRT turn the whole quantized network into layers; nothing is left to torch.

`make targets-check` runs this in an environment of its own. Programs come by two routes: straight from the network, and
from the graph of a bundle.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.lib.without_gpu import FIRST_WITH_INT8_CONVOLUTIONS, LAYERS, convert, rtx_version, segments
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from tests.targets.conftest import CONVERTED_LAYERS, STRAIGHT_LAYERS, Case

try:
    importlib.metadata.version("torch-tensorrt-rtx")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("Torch-TensorRT for TensorRT-RTX is not installed: make targets-check", allow_module_level=True)

if TYPE_CHECKING:
    import torch

SM = "8.6"
SMS = (SM, "12.0")
_FILL = """
import json, sys
from pathlib import Path
from bench.lib.without_gpu import convert, rtx_version
from blendmask_quantize.export.torch_tensorrt.program import from_bytes
layers = convert(from_bytes(Path(sys.argv[1]).read_bytes()), sys.argv[2], build=False).layers
print(json.dumps([rtx_version(), layers]))
"""


def from_network(case: Case, half: bool = False) -> torch.export.ExportedProgram:
    return _programs().export_network(case.network, half=half)


def from_graph(case: Case, half: bool = False) -> torch.export.ExportedProgram:
    return _programs().export_program(half_remainder(case.graph) if half else case.graph)


Route = Callable[..., Any]
ROUTES: dict[Route, dict[str, int]] = {from_network: STRAIGHT_LAYERS, from_graph: CONVERTED_LAYERS}
routes = pytest.mark.parametrize("route", ROUTES)
builds_int8 = pytest.mark.skipif(
    rtx_version() < FIRST_WITH_INT8_CONVOLUTIONS, reason="this TensorRT-RTX builds no INT8 convolution"
)


def _programs() -> Any:
    return importlib.import_module("blendmask_quantize.export.torch_tensorrt.program")


def check(layers: Counter[str], nodes: Counter[str]) -> None:
    """Each rounding there and back is one layer of each kind, also of a weight, which is given as real numbers."""
    assert layers["QUANTIZE"] == layers["DEQUANTIZE"] == nodes["DequantizeLinear"] > 100
    assert layers["CONVOLUTION"] == nodes["Conv"]
    assert layers["TOPK"] == nodes["TopK"]
    assert set(layers) <= LAYERS


@routes
@pytest.mark.parametrize("sm", SMS)
def test_the_program_has_no_more_layers_than_before(case: Case, sm: str, route: Route) -> None:
    network = convert(route(case), sm, build=False)
    check(network.layers, case.nodes)
    assert network.layers.total() <= ROUTES[route][case.name], dict(network.layers)


@routes
@pytest.mark.parametrize("sm", SMS)
def test_the_whole_program_is_one_segment(case: Case, sm: str, route: Route) -> None:
    assert segments(route(case), sm) == ("_run_on_acc_0",)


@routes
@builds_int8
def test_the_program_with_a_half_remainder_is_one_engine_with_the_same_rounding(case: Case, route: Route) -> None:
    assert segments(route(case, half=True), SM) == ("_run_on_acc_0",)
    network = convert(route(case, half=True), SM, build=True)
    check(network.layers, case.nodes)
    assert network.plan_bytes > len(case.graph) / 4


@routes
@builds_int8
def test_the_program_is_converted_and_built_whole(case: Case, route: Route) -> None:
    network = convert(route(case), SM, build=True)
    check(network.layers, case.nodes)
    assert network.plan_bytes > len(case.graph) / 4


def test_programs_of_both_routes_compute_the_same(case: Case) -> None:
    """What Torch-TensorRT is given, run by torch on a CPU, its rounding operator included."""
    torch = importlib.import_module("torch")
    height, width = case.network.size
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    inputs = (torch.from_numpy(image), torch.zeros(1))
    with torch.no_grad():
        straight, detour = (route(case).module()(*inputs) for route in ROUTES)
    for ours, theirs in zip(straight, detour, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@routes
def test_the_release_that_torch_tensorrt_is_made_for_is_filled_alike(case: Case, tmp_path: Path, route: Route) -> None:
    """It stands behind a newer one on the path, so it is imported in a process of its own."""
    (tmp_path / "program.pt2").write_bytes(_programs().to_bytes(route(case)))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", _FILL, str(tmp_path / "program.pt2"), SM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    version, layers = json.loads(done.stdout.splitlines()[-1])
    assert tuple(version) < FIRST_WITH_INT8_CONVOLUTIONS
    check(Counter(layers), case.nodes)
