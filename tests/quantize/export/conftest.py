"""Networks exported once a session, for every test that looks at the file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from blendmask_edge.bundle.reader import Bundle
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.trace import trace_network
from tests.made_once import made_once
from tests.quantize.conftest import Made
from tests.quantize.small_networks import image, network_input, size_of, small_network
from tests.quantize.tiny import TINY


@dataclass(frozen=True)
class Exported:
    """An eager network, its deployable graph in torch, the ONNX of that, and an image (1, H, W, 3) to show them."""

    network: BlendMask
    graph: DeployableGraph
    model: onnx.ModelProto
    image: NDArray[np.uint8]


Export = Callable[[ModelConfig, str], Exported]


@functools.cache
def calibrated(config: ModelConfig) -> Calibrated:
    model = small_network(config)
    traced = trace_network(model)
    inputs = [network_input(model, image(seed, size_of(config))) for seed in range(2)]
    return Calibrated(traced, observe_ranges(traced, inputs, "max"))


def graph_of(config: ModelConfig, start: Calibrated, variant: str, bounds: Bounds) -> DeployableGraph:
    network = start.traced if variant == "float" else start.render(variant)
    model, live_rows = small_network(config), variant == "cpu"
    return DeployableGraph(model, network, size_of(config), bounds, live_rows=live_rows).eval()


@pytest.fixture(scope="session")
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The exported graph of a configuration in a variant: "float", "cpu" or "tensorrt".

    Those of the tiny network are the graphs of the bundle `made`.
    """

    @functools.cache
    def exported(config: ModelConfig, variant: str) -> Exported:
        if config is TINY:
            return shipped(request.getfixturevalue("made"), variant)
        graph = graph_of(config, calibrated(config), variant, Bounds())

        def make(folder: Path) -> None:
            onnx.save(export_onnx(graph), folder / "graph.onnx")

        folder = made_once(tmp_path_factory, f"export-{config.name}-{variant}", make)
        return Exported(small_network(config), graph, onnx.load(folder / "graph.onnx"), image(7, size_of(config)))

    return exported


def shipped(made: Made, variant: str) -> Exported:
    """A graph of the bundle `made`, and the network that it was exported from."""
    bundle = Bundle.open(made.path)
    start = calibrated(TINY) if variant == "float" else made.calibrated()
    graph = graph_of(TINY, start, variant, Bounds(detections=bundle.manifest.detections))
    model = onnx.load_from_string(bundle.graph(variant))
    return Exported(small_network(TINY), graph, model, image(7, size_of(TINY)))
