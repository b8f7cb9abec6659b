"""The `tensorrt` graphs of the shipped model and of RT_R_50, made once for all that look at them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from bench.lib.quantized_graphs import rt_r_50_graph, shipped_graph
from bench.lib.without_gpu import onnx_counts


@dataclass(frozen=True)
class Case:
    """A graph, and the number of its nodes by operator."""

    graph: bytes
    nodes: Counter[str]


@pytest.fixture(scope="session", params=[shipped_graph, rt_r_50_graph], ids=["shipped", "rt_r_50"])
def case(request: pytest.FixtureRequest) -> Case:
    graph = request.param()
    return Case(graph, onnx_counts(graph))
