"""A graph of a bundle as a predictor that computes each operator by itself, as it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs, constant_inputs
from blendmask_edge.labels import Labels
from blendmask_edge.prediction.graph_predictor import GraphPredictor
from blendmask_quantize.export.parity import unoptimised_session


class AsWritten(GraphPredictor):
    """Predict with a graph in ONNX Runtime without optimizations.

    Args:
        manifest: of the bundle of the graph.
        graph: the ONNX file.
        session: another one of the graph, with ONNX Runtime's `run`.
    """

    def __init__(self, manifest: Manifest, graph: bytes, session: Any = None) -> None:
        opened = session or unoptimised_session(graph)

        def run(image: NDArray[np.uint8]) -> Outputs:
            return Outputs(*opened.run(list(OUTPUT_NAMES), {INPUT_NAME: image, **constant_inputs()}))

        labels = Labels(manifest.classes, manifest.category_ids)
        super().__init__(run, manifest.input, labels, manifest.score_threshold)
