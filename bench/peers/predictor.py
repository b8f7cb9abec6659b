"""Predict with any graph of the deployable contract, whichever tool made it, between the same first and last steps.

`MaskPredictor` refuses graphs with operators that this product does not export, as those of other tools may have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.lib.sessions import RunGraph
from blendmask_edge import Labels
from blendmask_edge.bundle.manifest import InputSpec
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs, constant_inputs
from blendmask_edge.prediction.graph_predictor import GraphPredictor


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


def graph_predictor(run: RunGraph, form: InputForm, score_threshold: float = 0.0) -> GraphPredictor:
    """The SDK's predictor for one graph.

    Args:
        run: the graph, as `open_graph` or a function of torch opens it.
        form: of its input.
        score_threshold: least score of an instance; 0 returns all that average precision needs.
    """

    def outputs(image: NDArray[np.uint8]) -> Outputs:
        found = run({INPUT_NAME: image, **constant_inputs(score_threshold)})
        return Outputs(*(found[name] for name in OUTPUT_NAMES))

    spec = InputSpec(height=form.size[0], width=form.size[1], pad_value=form.pad_value)
    return GraphPredictor(outputs, spec, form.labels, score_threshold)
