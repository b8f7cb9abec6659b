"""A network inside the deployable graph as a predictor, in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blendmask_edge.bundle.manifest import InputSpec
from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.labels import Labels
from blendmask_edge.prediction.graph_predictor import GraphPredictor
from blendmask_quantize.export.deployable import DeployableGraph

PredictorOf = Callable[[nn.Module], Predictor]
"""From a network, float or rendered, to a predictor that runs it as a bundle would."""


class NetworkPredictor(GraphPredictor):
    """Predict as a bundle would, with the same input size, bounds and padding.

    Args:
        graph: around a float or rendered network.
        labels: names and ids of its classes.
        pad_value: RGB gray levels of the padding.
    """

    def __init__(self, graph: DeployableGraph, labels: Labels, pad_value: tuple[int, int, int]) -> None:
        evaluated = graph.eval()

        @torch.no_grad()
        def run(image: NDArray[np.uint8]) -> Outputs:
            return Outputs(*(output.numpy() for output in evaluated(torch.from_numpy(image))))

        height, width = graph.size
        super().__init__(run, InputSpec(height=height, width=width, pad_value=pad_value), labels)
