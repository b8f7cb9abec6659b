"""Are red and blue where the network expects them? Its own scores say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_quantize.export.deployable import DeployableGraph

Scores = list[list[float]]
MOST = 24
"""Images that the question is put to."""


@torch.no_grad()
def scores_both_ways(
    graph: DeployableGraph, images: Sequence[NDArray[np.uint8]], on_image: Callable[[], None]
) -> tuple[Scores, Scores]:
    """Scores of the instances found on the first images as they are, and with red and blue swapped.

    Args:
        graph: around the float network.
        images: uint8 (1, H, W, 3) RGB each; the first `MOST` of them are looked at.
        on_image: called after each image and order.
    """

    def scores(pixels: NDArray[np.uint8]) -> list[float]:
        image = torch.from_numpy(np.ascontiguousarray(pixels))
        found = graph.suppress(graph.select(graph.network(graph.normalize(image)))).score
        on_image()
        return [float(score) for score in found[found > 0]]

    chosen = images[:MOST]
    return [scores(image) for image in chosen], [scores(image[..., ::-1]) for image in chosen]
