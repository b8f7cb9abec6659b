"""Quantized networks and their `tensorrt` graphs, made once for all that look at them.

They are made in the fixture, since some of these tests run in environments without torch.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from blendmask_quantize.export.deployable import DeployableGraph

PARSED_LAYERS = {"shipped": 1462, "rt_r_50": 1610, "dla_34": 1994}
"""TensorRT layers that the parser made of each graph when this was last changed."""
CONVERTED_LAYERS = {"shipped": 1296, "rt_r_50": 1211, "dla_34": 1695}
"""Those that the converters of Torch-TensorRT made of the program from the graph."""
STRAIGHT_LAYERS = {"shipped": 1294, "rt_r_50": 1200, "dla_34": 1441}
"""Those that they made of the program straight from the network.

A graph that grows fails. Lower a number where a change saves layers; raise one only with the reason in the commit.
"""


@dataclass(frozen=True)
class Case:
    """A quantized network, the graph that a bundle would carry, and the number of its nodes by operator."""

    name: str
    network: DeployableGraph
    graph: bytes
    nodes: Counter[str]


@pytest.fixture(scope="session", params=PARSED_LAYERS)
def case(request: pytest.FixtureRequest) -> Case:
    graphs = importlib.import_module("bench.lib.quantized_graphs")
    network = getattr(graphs, f"{request.param}_network")()
    graph = graphs.as_onnx(network)
    return Case(request.param, network, graph, importlib.import_module("bench.lib.without_gpu").onnx_counts(graph))
