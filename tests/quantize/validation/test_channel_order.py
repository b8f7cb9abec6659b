"""The float network is shown images both ways round, a few of them and each once."""

from __future__ import annotations

import numpy as np
import torch

from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.validation.channel_order import MOST, scores_both_ways
from tests.quantize.images import SIZE, paint, some_images
from tests.quantize.tiny import tiny_model


def test_scores_are_those_of_the_graph_on_the_image_and_on_its_swapped_copy() -> None:
    model = tiny_model()
    graph = DeployableGraph(model, model, SIZE, Bounds(detections=10)).eval()
    images = [paint(things)[None] for things in some_images(2)]
    steps: list[None] = []
    given, swapped = scores_both_ways(graph, images, lambda: steps.append(None))
    assert len(steps) == 4
    for image, before, after in zip(images, given, swapped, strict=True):
        with torch.no_grad():
            both_scores = [graph(torch.from_numpy(p.copy())).scores[0] for p in (image, image[..., ::-1])]
        np.testing.assert_allclose(before, both_scores[0][both_scores[0] > 0], atol=1e-6)
        np.testing.assert_allclose(after, both_scores[1][both_scores[1] > 0], atol=1e-6)
        assert before != after


def test_no_more_than_a_few_images_are_looked_at() -> None:
    model = tiny_model()
    graph = DeployableGraph(model, model, (32, 32), Bounds(detections=1)).eval()
    given, swapped = scores_both_ways(graph, [np.zeros((1, 32, 32, 3), np.uint8)] * (MOST + 5), lambda: None)
    assert len(given) == len(swapped) == MOST
