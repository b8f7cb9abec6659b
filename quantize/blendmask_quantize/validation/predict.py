"""One loop over images for everything here that predicts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.evaluation.average_precision import Predictor
from blendmask_edge.instances import Instances
from blendmask_quantize.runs.progress import OnStep, ignore


def predict_all(predict: Predictor, images: Iterable[NDArray[np.uint8]], on_image: OnStep = ignore) -> list[Instances]:
    """Instances of each image.

    Args:
        predict: image to instances.
        images: (H, W, 3) uint8 RGB.
        on_image: called after each image.
    """
    results = []
    for image in images:
        results.append(predict(image))
        on_image()
    return results
