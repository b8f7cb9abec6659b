"""Are red and blue where the network expects them? Its own scores say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_quantize.export.deployable import DeployableGraph

Scores = list[list[float]]
MOST = 24
"""Pictures that the question is put to."""


@torch.no_grad()
def scores_both_ways(
    graph: DeployableGraph, pictures: Sequence[NDArray[np.uint8]], on_picture: Callable[[], None]
) -> tuple[Scores, Scores]:
    """Scores of the objects found on the first pictures as they are, and with red and blue swapped.

    Args:
        graph: around the float network.
        pictures: uint8 (1, H, W, 3) RGB each; the first `MOST` of them are looked at.
        on_picture: called after each picture and order.
    """

    def scores(picture: NDArray[np.uint8]) -> list[float]:
        image = torch.from_numpy(np.ascontiguousarray(picture))
        found = graph.suppress(graph.select(graph.network(graph.normalise(image)))).score
        on_picture()
        return [float(score) for score in found[found > 0]]

    chosen = pictures[:MOST]
    return [scores(picture) for picture in chosen], [scores(picture[..., ::-1]) for picture in chosen]
