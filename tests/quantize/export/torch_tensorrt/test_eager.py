"""Eager PyTorch in half, which `verify-device` times on a GPU, scores instances as the float graph does; on a CPU."""

from __future__ import annotations

import numpy as np
import pytest

from blendmask_edge.bundle.tensors import OUTPUT_NAMES, constant_inputs
from blendmask_edge.errors import ClosedError
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.export.torch_tensorrt.eager import load
from tests.quantize.export.conftest import Export
from tests.quantize.tiny import TINY


def test_half_session_scores_as_the_float_graph(export: Export) -> None:
    case = export(TINY, "float")
    graph = case.model.SerializeToString()
    session = load(graph, "cpu")
    outputs = session.run(case.image)
    expected = dict(
        zip(OUTPUT_NAMES, unoptimised_session(graph).run(None, {"image": case.image, **constant_inputs()}), strict=True)
    )
    assert [(array.shape, array.dtype) for array in outputs] == [(a.shape, a.dtype) for a in expected.values()]
    assert outputs.scores.max() > 0
    np.testing.assert_allclose(outputs.scores, expected["scores"], atol=0.01)
    session.close()
    with pytest.raises(ClosedError):
        session.run(case.image)
