"""Every installed row of the table keeps the one protocol; what is missing is named with the command to install it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from blendmask_edge import ClosedError, ConfigError, InferenceError, RuntimeUnavailableError
from blendmask_edge.runtimes import RUNTIMES, RuntimeRow, SessionOptions, select

INSTALLED = [row for row in RUNTIMES if row.installed]
ROWS = pytest.mark.parametrize("row", INSTALLED, ids=lambda row: row.name)
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
def test_picture_of_another_size_is_refused(row: RuntimeRow, tiny_graph: bytes) -> None:
    session = row.load().load(tiny_graph, SessionOptions())
    with pytest.raises(InferenceError):
        session.run(RED[:, :16])


def test_auto_takes_the_first_installed() -> None:
    pytest.importorskip("onnxruntime")
    assert select("auto") is INSTALLED[0]


def test_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'tensorflow'.*auto, onnxruntime"):
        select("tensorflow")


def test_missing_runtime_is_named_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RuntimeUnavailableError, match=r'pip install "blendmask-edge\[cpu\]"'):
        select("auto")
    with pytest.raises(RuntimeUnavailableError, match=r'pip install "blendmask-edge\[cpu\]"'):
        select("onnxruntime").load()


def test_runtime_that_does_not_start_is_named() -> None:
    row = RuntimeRow("broken", "blendmask_edge.runtimes.broken", "sys", ("cpu",), "cpu")
    with pytest.raises(RuntimeUnavailableError, match="does not start"):
        row.load()


def run_python(code: str) -> Any:
    """Run code in a fresh interpreter and return what it printed."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


HEAVY = ["onnxruntime", "openvino", "tensorrt", "torch", "cv2", "typer", "rich", "pycocotools", "blendmask_quantize"]


def test_importing_the_package_loads_no_runtime_and_no_heavy_library() -> None:
    loaded = run_python(f"import sys, blendmask_edge; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_naming_the_public_classes_loads_no_runtime() -> None:
    code = "import sys; from blendmask_edge import MaskPredictor, Instances; print('onnxruntime' in sys.modules)"
    assert run_python(code) == "False"


def test_every_public_name_can_be_reached() -> None:
    import blendmask_edge

    for name in blendmask_edge.__all__:
        assert getattr(blendmask_edge, name)
    assert blendmask_edge.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="Mask"):
        blendmask_edge.Mask  # noqa: B018
