"""Predict with any graph of the deployable contract, whichever tool made it, between the same first and last steps.

`MaskPredictor` refuses graphs with operators that this product does not export, as those of other tools may have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.lib.sessions import RunGraph
from blendmask_edge import Instances, Labels
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs, constant_inputs
from blendmask_edge.imaging import preprocess


@dataclass(frozen=True)
class InputForm:
    """Input size and padding of a graph, and the names of its classes.

    Attributes:
        size: height and width of the network input.
        pad_value: RGB of the padding.
        labels: of the classes.
    """

    size: tuple[int, int]
    pad_value: tuple[int, int, int]
    labels: Labels


@dataclass(frozen=True)
class GraphPredictor:
    """Image to instances through one graph.

    Attributes:
        run: the graph, as `open_graph` or a function of torch opens it.
        form: of its input.
        score_threshold: least score of an instance; 0 returns all that average precision needs.
    """

    run: RunGraph
    form: InputForm
    score_threshold: float = 0.0

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """The instances of an image, (H, W, 3) uint8 RGB."""
        preprocessed = preprocess(image, self.form.size, self.form.pad_value)
        results = self.run({INPUT_NAME: preprocessed.image, **constant_inputs(self.score_threshold)})
        outputs = Outputs(*(results[name] for name in OUTPUT_NAMES))
        return Instances.from_outputs(outputs, preprocessed.transform, self.form.labels, self.score_threshold)
