"""Networks exported once a session, for every test that looks at the file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.variants import network_input, picture, size_of, variant


@dataclass(frozen=True)
class Exported:
    """A deployable graph in torch, its ONNX, and a picture to show both."""

    graph: DeployableGraph
    model: onnx.ModelProto
    picture: NDArray[np.uint8]


Export = Callable[[ModelConfig, str], Exported]


@functools.cache
def calibrated(config: ModelConfig) -> Calibrated:
    model = variant(config)
    traced = trace_network(model)
    inputs = [network_input(model, picture(seed, size_of(config))) for seed in range(2)]
    return Calibrated(traced, observe_ranges(traced, inputs, "max"))


@functools.cache
def exported(config: ModelConfig, flavour: str) -> Exported:
    size, start = size_of(config), calibrated(config)
    network = start.traced if flavour == "float" else start.render(flavour)
    graph = DeployableGraph(variant(config), network, size, Bounds(), live_rows=flavour == "cpu").eval()
    return Exported(graph, export_onnx(graph), picture(7, size))


@pytest.fixture(scope="session")
def export() -> Export:
    """The exported graph of a configuration in a flavour: "float", "cpu" or "tensorrt"."""
    return exported
