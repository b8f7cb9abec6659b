"""On real images nothing overflows in the half remainder of the shipped graph, and boxes stay exact."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from bench.lib.quantized_graphs import shipped_graph
from bench.lib.scenes import CALIBRATION
from blendmask_edge import read_image
from blendmask_edge.imaging import preprocess
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.validation.gpu_arithmetic import emulated_half

LARGEST = float(np.finfo(np.float16).max)
IMAGES = 3


@pytest.mark.slow
def test_nothing_overflows_on_images_and_boxes_are_exact() -> None:
    graph = shipped_graph()
    emulated = onnx.load_from_string(emulated_half(half_remainder(graph)))
    onnx.checker.check_model(emulated, full_check=True)
    halves = [name for node in emulated.graph.node for name in node.output if name.endswith("/rounded")]
    assert len(halves) > 50
    emulated.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in halves)
    before, after = unoptimised_session(graph), unoptimised_session(emulated.SerializeToString())
    height, width = before.get_inputs()[0].shape[1:3]
    for path in sorted(CALIBRATION.glob("*.jpg"))[:IMAGES]:
        image = preprocess(read_image(path), (height, width), (0, 0, 0)).image
        feed = {"image": image, "score_threshold": np.array([0.05], np.float32)}
        for name, array in zip(halves, after.run(halves, feed), strict=True):
            assert np.abs(array.astype(np.float32)).max(initial=0) < LARGEST / 16, name
        exact = [session.run(["boxes", "scores"], feed) for session in (after, before)]
        for found, expected in zip(*exact, strict=True):
            np.testing.assert_array_equal(found, expected)
