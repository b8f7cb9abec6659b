"""Calibration on several processes observes what one process does, to the last count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from blendmask_edge.execution.processes import ProcessExecutor
from blendmask_edge.execution.serial import SerialExecutor
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.pipeline.observed_images import Network, SentNetwork, observe_images
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import observe
from tests.quantize.small_networks import image, small_network
from tests.quantize.tiny import TINY


def as_values(histograms: Any) -> Any:
    return {name: (one.counts.tolist(), one.exponent, one.minimum, one.maximum) for name, one in histograms.items()}


@pytest.fixture(scope="module")
def sent() -> SentNetwork:
    height, width = image(0).shape[1:3]
    return SentNetwork(small_network(TINY), (), (height, width), Bounds(), threads=1)


@pytest.fixture(scope="module")
def network(sent: SentNetwork) -> Network:
    return sent.build()


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return [image(seed) for seed in range(5)]


def test_shards_add_up_to_one_pass(network: Network, images: list[NDArray[np.uint8]]) -> None:
    steps: list[int] = []
    histograms, counts = observe_images(network, images, SerialExecutor(), lambda: steps.append(1))
    expected = observe(network.traced, NetworkInputs(network.model, images))
    assert as_values(histograms) == as_values(expected)
    assert list(histograms) == list(expected)
    assert len(counts) == len(steps) == 5


@pytest.mark.slow
def test_several_processes_agree_with_one(sent: SentNetwork, network: Network, images: list[NDArray[np.uint8]]) -> None:
    before = torch.get_num_threads()
    here = observe_images(network, images, SerialExecutor(), lambda: None)
    there = observe_images(sent, images, ProcessExecutor(2), lambda: None)
    assert as_values(here[0]) == as_values(there[0])
    assert here[1] == there[1]
    assert torch.get_num_threads() == before
