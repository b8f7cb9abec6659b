"""The deployable graph: the names and shapes that exporter, runtimes and predictor agree on.

Input `image` is uint8 [1, H, W, 3], RGB, resized and padded at the right and bottom with the pixel mean; normalization
lies inside the graph. Input `score_threshold` is float32 [1]: rows that score less are empty, and a graph may leave out
the work for them. Graphs of bundles of schema 1 and 2 lack it. The outputs are described by `Outputs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT_NAME = "image"
THRESHOLD_NAME = "score_threshold"
EMPTY_CLASS = -1


class Outputs(NamedTuple):
    """The outputs of the graph for one image, K rows of which the unused ones are empty.

    boxes: float32 [1, K, 4], x0 y0 x1 y1 in pixels of the network input, not clipped.
    scores: float32 [1, K], sqrt(class probability x centerness), 0 in empty rows.
    class_ids: int32 [1, K], contiguous class, -1 in empty rows.
    mask_logits: float32 [1, K, R, R], blended mask before the sigmoid.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    mask_logits: NDArray[np.float32]


OUTPUT_NAMES = Outputs._fields


def constant_inputs(score_threshold: float = 0.0) -> Dict[str, NDArray[Any]]:
    """Return the inputs of a graph that are the same for each image, by name.

    Args:
        score_threshold: least final score of a row, 0 to 1; where it is below the graph's own, that one counts.
    """
    return {THRESHOLD_NAME: np.array([score_threshold], np.float32)}
