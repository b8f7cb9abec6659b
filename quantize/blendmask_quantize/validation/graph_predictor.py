"""A network inside the deployable graph as a predictor, in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.imaging import preprocess
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_quantize.export.deployable import DeployableGraph

PredictorOf = Callable[[nn.Module], Predictor]
"""From a network, float or rendered, to a predictor that runs it as a bundle would."""


class GraphPredictor:
    """Predict as a bundle would, with the same input size, bounds and padding.

    Args:
        graph: around a float or rendered network.
        labels: names and ids of its classes.
        pad_value: RGB gray levels of the padding.
    """

    def __init__(self, graph: DeployableGraph, labels: Labels, pad_value: Sequence[int]) -> None:
        self.graph, self.labels, self.pad_value = graph.eval(), labels, pad_value

    @torch.no_grad()
    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Instances in an image (H, W, 3) uint8 RGB."""
        prepared = preprocess(image, self.graph.size, self.pad_value)
        outputs = Outputs(*(output.numpy() for output in self.graph(torch.from_numpy(prepared.image))))
        return Instances.from_outputs(outputs, prepared.transform, self.labels)
