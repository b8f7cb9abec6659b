"""The deployable graph: the names and shapes that exporter, runtimes and predictor agree on.

Input `image` is uint8 [1, H, W, 3], RGB, resized and padded at the right and bottom with the pixel mean; normalization
lies inside the graph. The outputs are described by `Outputs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INPUT_NAME = "image"
EMPTY_CLASS = -1


class Outputs(NamedTuple):
    """What the graph returns for one image, K rows of which the unused ones are empty.

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
