"""Scores of the float network on calibration images, as they are and with red and blue swapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.runs.progress import OnStep

Scores = list[list[float]]
MOST = 24
"""Images that are looked at."""


def detection_scores(graph: DeployableGraph, predictions: Predictions) -> list[float]:
    """Scores of the instances in one image, without computing their masks.

    Args:
        graph: selects and suppresses.
        predictions: of the float network.
    """
    scores = graph.suppress(graph.select(predictions)).score
    return [float(score) for score in scores[scores > 0]]


@torch.no_grad()
def scores_both_ways(
    graph: DeployableGraph, images: Sequence[NDArray[np.uint8]], on_image: OnStep
) -> tuple[Scores, Scores]:
    """Scores of the instances in the first images as they are, and with red and blue swapped.

    Args:
        graph: around the float network.
        images: uint8 (1, H, W, 3) RGB each; the first `MOST` of them are looked at.
        on_image: called after each image and order.
    """

    def scores(pixels: NDArray[np.uint8]) -> list[float]:
        image = torch.from_numpy(np.ascontiguousarray(pixels))
        detected = detection_scores(graph, graph.network(graph.normalize(image)))
        on_image()
        return detected

    chosen = images[:MOST]
    return [scores(image) for image in chosen], [scores(image[..., ::-1]) for image in chosen]
