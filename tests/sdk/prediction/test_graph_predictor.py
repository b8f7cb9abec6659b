"""A graph that is opened already gives the instances that `MaskPredictor` gives of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blendmask_edge import Bundle, Labels, MaskPredictor
from blendmask_edge.prediction.graph_predictor import GraphPredictor
from blendmask_edge.runtimes.base import SessionOptions

onnxruntime = pytest.importorskip("blendmask_edge.runtimes.onnxruntime")


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_it_agrees_with_a_mask_predictor_and_times_its_stages(bundle_path: Path, threshold: float) -> None:
    bundle, image = Bundle.open(bundle_path), np.full((64, 96, 3), (200, 100, 160), np.uint8)
    session = onnxruntime.load(bundle.graph("cpu"), SessionOptions(1))
    labels = Labels(bundle.manifest.classes, bundle.manifest.category_ids)
    predictor = GraphPredictor(session.run, bundle.manifest.input, labels, threshold)
    assert predictor.timings == (0, 0, 0)
    instances = predictor(image)
    assert min(predictor.timings) > 0
    with MaskPredictor(bundle_path, "onnxruntime", 1, threshold) as expected:
        assert instances.to_coco(1) == expected(image).to_coco(1)
    assert len(instances) == (3 if threshold == 0 else 2)
