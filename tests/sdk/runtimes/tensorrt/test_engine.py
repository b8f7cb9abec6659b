"""An engine is built once for all that it depends on."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, List

import pytest

from blendmask_edge import ConfigError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import Engine
from blendmask_edge.runtimes.tensorrt.arguments import EngineOptions
from blendmask_edge.runtimes.tensorrt.engine import Toolchain, compile_graph
from tests.sdk.devices.fake_tensorrt import make_tensorrt
from tests.sdk.devices.graphs import make_graph

ORIN = Gpu("Orin NX", "8.7", "12.6/540.3.0")
WORKSPACE = EngineOptions(workspace_bytes=64 * 2**20)


def tools(version: str = "10.3.0", gpu: Gpu = ORIN, **states: Any) -> Toolchain:
    """Return a stand-in for TensorRT and a GPU."""
    return Toolchain(make_tensorrt(version, **states), gpu)


def test_all_that_an_engine_depends_on_changes_its_file(tmp_path: Path) -> None:
    graph, other = make_graph(), make_graph(["Relu"])
    engines: List[Engine] = [
        compile_graph(graph, tools(), tmp_path),
        compile_graph(other, tools(), tmp_path),
        compile_graph(graph, tools("10.3.1"), tmp_path),
        compile_graph(graph, tools(gpu=dataclasses.replace(ORIN, sm="8.6")), tmp_path),
        compile_graph(graph, tools(gpu=dataclasses.replace(ORIN, driver="12.6/540.4.0")), tmp_path),
        compile_graph(graph, tools(), tmp_path, EngineOptions("fp16")),
        compile_graph(graph, tools(), tmp_path, WORKSPACE),
    ]
    assert len({engine.path for engine in engines}) == len(engines)
    assert not any(engine.reused for engine in engines)


def test_an_engine_built_with_a_workspace_is_found_by_who_asks_for_none(tmp_path: Path) -> None:
    graph = make_graph()
    built = compile_graph(graph, tools(), tmp_path, WORKSPACE)
    result = compile_graph(graph, tools(parses=False), tmp_path)
    assert (result.path, result.reused) == (built.path, True)
    other = compile_graph(graph, tools(), tmp_path, EngineOptions(workspace_bytes=128 * 2**20))
    assert not other.reused
    os.utime(built.path, ns=(0, 0))
    assert compile_graph(graph, tools(parses=False), tmp_path).path == other.path
    assert compile_graph(graph, tools(parses=False), tmp_path, WORKSPACE).path == built.path


def test_the_name_of_a_gpu_does_not_matter(tmp_path: Path) -> None:
    first = compile_graph(make_graph(), tools(), tmp_path)
    assert compile_graph(make_graph(), tools(gpu=dataclasses.replace(ORIN, name="Orin")), tmp_path).reused
    assert "sm87" in first.path.name
    assert "trt10.3.0" in first.path.name


def test_a_gpu_that_the_table_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"knows nothing of Tesla V100, SM 7\.0"):
        compile_graph(make_graph(), tools(gpu=Gpu("Tesla V100", "7.0", "12.2/535")), tmp_path)
