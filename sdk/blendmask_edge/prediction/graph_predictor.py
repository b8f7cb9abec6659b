"""Predict with one graph that is opened already: no choice among runtimes, no sharing, no streams."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable

from blendmask_edge.imaging import preprocess
from blendmask_edge.instances import Instances
from blendmask_edge.prediction.image_pipeline import Timings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import InputSpec
    from blendmask_edge.bundle.tensors import Outputs
    from blendmask_edge.labels import Labels


class GraphPredictor:
    """Predict instances with a function that runs a graph; `MaskPredictor` is what robots use.

    Attributes:
        timings: duration of the stages of the last call; zeros before the first.
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.uint8]], Outputs],
        input_spec: InputSpec,
        labels: Labels,
        score_threshold: float = 0.0,
    ) -> None:
        """Take an opened graph.

        Args:
            run: the outputs of the graph for a network input, uint8 [1, H, W, 3].
            input_spec: size and padding of the network input.
            labels: names and category ids of the classes.
            score_threshold: least score of an instance.
        """
        self.timings = Timings(0.0, 0.0, 0.0)
        self._run = run
        self._input = input_spec
        self._labels = labels
        self._score_threshold = score_threshold

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Return the instances of an image (H, W, 3) uint8 RGB."""
        start = time.perf_counter()
        preprocessed = preprocess(image, (self._input.height, self._input.width), self._input.pad_value)
        before_inference = time.perf_counter()
        outputs = self._run(preprocessed.image)
        after_inference = time.perf_counter()
        instances = Instances.from_outputs(outputs, preprocessed.transform, self._labels, self._score_threshold)
        end = time.perf_counter()
        self.timings = Timings(before_inference - start, after_inference - before_inference, end - after_inference)
        return instances
