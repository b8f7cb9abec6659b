"""The `tensorrt` graphs of the shipped model and of RT_R_50, made once for all that look at them.

They are made in the fixture, since some of these tests run in environments without torch.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Case:
    """A graph, and the number of its nodes by operator."""

    graph: bytes
    nodes: Counter[str]


@pytest.fixture(scope="session", params=["shipped_graph", "rt_r_50_graph"], ids=["shipped", "rt_r_50"])
def case(request: pytest.FixtureRequest) -> Case:
    graph = getattr(importlib.import_module("bench.lib.quantized_graphs"), request.param)()
    return Case(graph, importlib.import_module("bench.lib.without_gpu").onnx_counts(graph))
