"""Every row of the table that can run here keeps the one protocol."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest

from blendmask_edge import ClosedError, InferenceError
from blendmask_edge.runtimes.registry import RUNTIMES, RuntimeRow, SessionOptions

# A Torch-TensorRT program is made from the network, not from a graph, so it needs a test of its own.
RUNNABLE = [row for row in RUNTIMES if row.installed and row.ready("") and row.name != "torch_tensorrt"]
ROWS = pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.name)
RED = np.zeros((1, 32, 48, 3), np.uint8)
RED[..., 0] = 255


@ROWS
def test_session_returns_the_outputs_of_the_contract(row: RuntimeRow, tiny_graph: bytes) -> None:
    session = row.load().load(tiny_graph, SessionOptions(threads=1))
    outputs = session.run(RED)
    assert (outputs.boxes.shape, outputs.boxes.dtype) == ((1, 4, 4), np.float32)
    assert (outputs.class_ids.tolist(), outputs.class_ids.dtype) == ([[0, 1, 2, -1]], np.int32)
    assert (outputs.mask_logits.shape, outputs.mask_logits.dtype) == ((1, 4, 56, 56), np.float32)
    np.testing.assert_allclose(outputs.scores, [[1, 0, 0, 0]])


@ROWS
@pytest.mark.parametrize("least, expected", [(0.0, [1, 0.4, 0, 0]), (0.5, [1, 0, 0, 0]), (1.0, [1, 0, 0, 0])])
def test_the_threshold_of_the_options_reaches_the_graph(
    row: RuntimeRow, least: float, expected: List[float], threshold_graph: bytes
) -> None:
    session = row.load().load(threshold_graph, SessionOptions(threads=1, score_threshold=least))
    orange = RED.copy()
    orange[..., 1] = 102
    for _ in range(2):
        np.testing.assert_allclose(session.run(orange).scores, [expected], rtol=1e-5)


@ROWS
def test_outputs_outlive_the_next_run(row: RuntimeRow, tiny_graph: bytes) -> None:
    session = row.load().load(tiny_graph, SessionOptions(threads=1))
    red = session.run(RED)
    session.run(np.zeros_like(RED))
    session.close()
    np.testing.assert_allclose(red.scores, [[1, 0, 0, 0]])


@ROWS
def test_closed_session_refuses(row: RuntimeRow, tiny_graph: bytes) -> None:
    session = row.load().load(tiny_graph, SessionOptions())
    session.close()
    session.close()
    with pytest.raises(ClosedError):
        session.run(RED)


@ROWS
@pytest.mark.parametrize("graph", [b"", b"no graph", bytes(1000)])
def test_bytes_that_are_no_graph_are_refused(row: RuntimeRow, graph: bytes) -> None:
    with pytest.raises(InferenceError):
        row.load().load(graph, SessionOptions())


@ROWS
def test_graph_of_another_contract_is_refused(row: RuntimeRow, tiny_graph: bytes) -> None:
    renamed = tiny_graph.replace(b"mask_logits", b"mask_scores")
    with pytest.raises(InferenceError, match="mask_logits"):
        row.load().load(renamed, SessionOptions())


@ROWS
def test_image_of_another_size_is_refused(row: RuntimeRow, tiny_graph: bytes) -> None:
    session = row.load().load(tiny_graph, SessionOptions())
    with pytest.raises(InferenceError):
        session.run(RED[:, :16])
