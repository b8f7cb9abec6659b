"""A graph that is not as the manifest states is refused when it is loaded, and so is a value that no instance has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from blendmask_edge import InferenceError, MaskPredictor
from blendmask_edge.bundle import InputSpec, Manifest, Outputs, write_bundle
from blendmask_edge.runtimes.base import Signature, TensorType
from blendmask_edge.runtimes.contract import Contract
from blendmask_edge.runtimes.registry import RUNTIMES
from tests.sdk.small_bundles import BOXES, CELLS

RUNNABLE = [row.name for row in RUNTIMES if row.installed and row.name in ("onnxruntime", "openvino")]
LOGITS = np.zeros((1, 4, CELLS, CELLS), np.float32)
SOUND: Dict[str, Any] = {
    "boxes": np.array([BOXES], np.float32),
    "scores": np.array([[0.9, 0.5, 0.25, 0]], np.float32),
    "class_ids": np.array([[2, 1, 0, -1]], np.int32),
    "mask_logits": LOGITS,
}


@pytest.fixture
def contract(make_manifest: Callable[..., Manifest]) -> Contract:
    return Contract.of(make_manifest({"cpu": b"graph"}))


def changed(name: str, index: Any, value: Any) -> Outputs:
    """Return sound outputs with one value replaced."""
    arrays = {key: array.copy() for key, array in SOUND.items()}
    arrays[name][index] = value
    return Outputs(**arrays)


@pytest.mark.parametrize(
    "name, index, value, message",
    [
        ("scores", (0, 1), 1.5, r"the score 1\.5 in row 1, expected 0 to 1"),
        ("scores", (0, 0), -0.25, r"score -0\.25 in row 0"),
        ("scores", (0, 2), np.nan, "score nan in row 2"),
        ("class_ids", (0, 1), 3, "class id 3 in row 1, expected -1 to 2"),
        ("class_ids", (0, 3), -2, "class id -2 in row 3"),
        ("boxes", (0, 0, 2), np.inf, r"box \[4\.0, 4\.0, inf, 20\.0\] in row 0, expected finite"),
        ("boxes", (0, 2, 0), np.nan, r"box \[nan, .* in row 2"),
        ("mask_logits", (0, 1, 3, 4), np.nan, "mask logits nan in row 1"),
    ],
)
def test_values_that_no_instance_has_are_named(
    contract: Contract, name: str, index: Any, value: float, message: str
) -> None:
    contract.check_outputs(Outputs(**SOUND))
    with pytest.raises(InferenceError, match=message):
        contract.check_outputs(changed(name, index, value))


@pytest.mark.parametrize("name, index", [("boxes", (0, 3)), ("mask_logits", (0, 3)), ("scores", (0, 3))])
def test_empty_rows_may_hold_anything(contract: Contract, name: str, index: Any) -> None:
    contract.check_outputs(changed(name, index, np.nan))


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_a_graph_may_return_only_the_rows_in_use(contract: Contract, rows: int) -> None:
    contract.check_outputs(Outputs(*(array[:, :rows] for array in Outputs(**SOUND))))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": np.zeros((1, 4, 5), np.float32)}, r"boxes as float32 \[1, 4, 5\]"),
        ({"boxes": np.zeros((1, 3, 4), np.float32)}, r"boxes as float32 \[1, 3, 4\]"),
        ({"scores": np.zeros((1, 4), np.float16)}, r"scores as float16 \[1, 4\], the manifest states float32 \[1, 4\]"),
        ({"scores": np.zeros(4, np.float32)}, r"scores as float32 \[4\]"),
        ({"class_ids": np.zeros((1, 4), np.int64)}, "class_ids as int64"),
        ({"mask_logits": np.zeros((1, 4, 28, 28), np.float32)}, r"mask_logits as float32 \[1, 4, 28, 28\]"),
        ({name: np.repeat(array, 2, axis=1) for name, array in SOUND.items()}, r"\[1, 8, 4\], .* \[1, 4, 4\]"),
    ],
)
def test_arrays_of_another_type_are_refused(contract: Contract, change: Any, message: str) -> None:
    with pytest.raises(InferenceError, match=message):
        contract.check_outputs(Outputs(**{**SOUND, **change}))


class Loaded:
    """A session that only has a signature."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature


@pytest.mark.parametrize(
    "name, shape, is_sound",
    [
        ("boxes", (1, None, 4), True),
        ("mask_logits", (1, None, CELLS, CELLS), True),
        ("boxes", (None, 4, 4), False),
        ("boxes", (1, 4, None), False),
        ("boxes", (4, 4), False),
        ("image", (1, None, 48, 3), False),
    ],
)
def test_only_the_rows_may_be_dynamic(contract: Contract, name: str, shape: Any, is_sound: bool) -> None:
    inputs, outputs = dict(contract.signature.inputs), dict(contract.signature.outputs)
    types = inputs if name == "image" else outputs
    types[name] = TensorType(types[name].dtype, shape)
    session: Any = Loaded(Signature(inputs, outputs))
    if is_sound:
        contract.check_session(session)
        return
    with pytest.raises(InferenceError, match=rf"{name} as .*\?|boxes as float32 \[4, 4\]"):
        contract.check_session(session)


@pytest.mark.parametrize("runtime", RUNNABLE)
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input": InputSpec(height=64, width=48, pad_value=(0, 0, 0))}, r"image as uint8 \[1, 32, 48, 3\], .* 64, 48"),
        ({"detections": 100}, r"boxes as float32 \[1, 4, 4\], .* \[1, 100, 4\]"),
        ({"mask_size": 28}, r"mask_logits as float32 \[1, 4, 56, 56\], .* 28, 28\]"),
    ],
)
def test_manifest_of_another_graph_is_refused_when_it_is_loaded(
    runtime: str, changes: Any, message: str, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs, **changes), graphs)
    with pytest.raises(InferenceError, match=message):
        MaskPredictor(path, runtime)


@pytest.mark.parametrize("runtime", RUNNABLE)
@pytest.mark.parametrize("is_stated", [True, False])
def test_threshold_input_that_the_manifest_states_otherwise_is_refused(
    runtime: str, is_stated: bool, tmp_path: Path, tiny_graph: bytes, threshold_graph: bytes,
    make_manifest: Callable[..., Manifest],
) -> None:  # fmt: skip
    graphs = {"cpu": tiny_graph if is_stated else threshold_graph}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs, threshold_input=is_stated), graphs)
    with pytest.raises(InferenceError, match=r"has inputs \['image'.*\], the manifest states \['image'"):
        MaskPredictor(path, runtime)


@pytest.mark.parametrize("runtime", RUNNABLE)
def test_class_id_without_a_name_is_named(
    runtime: str, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph}
    manifest = make_manifest(graphs, classes=["red", "green"], category_ids=[1, 2])
    path = write_bundle(tmp_path / "a.bmz", manifest, graphs)
    with MaskPredictor(path, runtime) as predictor, pytest.raises(InferenceError, match="class id 2 in row 2"):
        predictor(np.zeros((32, 48, 3), np.uint8))


def test_the_own_format_of_onnx_runtime_is_refused(tmp_path: Path, tiny_graph: bytes) -> None:
    ort = pytest.importorskip("onnxruntime")
    settings = ort.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "a.ort")
    settings.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(tiny_graph, settings, providers=["CPUExecutionProvider"])
    own = (tmp_path / "a.ort").read_bytes()
    assert own[4:8] == b"ORTM"
    from blendmask_edge.runtimes.registry import SessionOptions, select

    with pytest.raises(InferenceError, match="refuses the graph"):
        select("onnxruntime").load().load(own, SessionOptions())
