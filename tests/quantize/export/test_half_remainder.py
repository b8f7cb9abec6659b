"""On real images nothing overflows in the half remainder of the shipped graph, and boxes stay exact."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bench.lib.quantized_graphs import shipped_graph
from bench.lib.scenes import CALIBRATION
from blendmask_edge import read_image
from blendmask_edge.imaging import preprocess
from blendmask_edge.runtimes.tensorrt.half import half_remainder

LARGEST = float(np.finfo(np.float16).max)
IMAGES = 3


@pytest.mark.slow
def test_nothing_overflows_on_images_and_boxes_are_exact() -> None:
    graph = shipped_graph()
    changed = onnx.load_from_string(half_remainder(graph))
    onnx.checker.check_model(changed, full_check=True)
    shapes = onnx.shape_inference.infer_shapes(changed, strict_mode=True).graph.value_info
    halves = [entry.name for entry in shapes if entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 50
    changed.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in halves)
    before, after = opened(graph), opened(changed.SerializeToString())
    height, width = before.get_inputs()[0].shape[1:3]
    for path in sorted(CALIBRATION.glob("*.jpg"))[:IMAGES]:
        image = preprocess(read_image(path), (height, width), (0, 0, 0)).image
        feed = {"image": image, "score_threshold": np.array([0.05], np.float32)}
        for name, array in zip(halves, after.run(halves, feed), strict=True):
            assert np.abs(array.astype(np.float32)).max(initial=0) < LARGEST / 16, name
        exact = [session.run(["boxes", "scores"], feed) for session in (after, before)]
        for found, expected in zip(*exact, strict=True):
            np.testing.assert_array_equal(found, expected)


def opened(graph: bytes) -> ort.InferenceSession:
    """Return a session without optimizations, in which every layer has the precision that the graph states."""
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    return ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
