"""Small graphs and bundles: an honest network of arithmetic, so that what comes out follows from the image."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict

import msgspec
import numpy as np
import pytest

from blendmask_edge.bundle import GraphEntry, InputSpec, Manifest, Measurement, Nms, Recipe, write_bundle
from blendmask_edge.bundle.manifest import Fidelity

HEIGHT, WIDTH, CELLS = 32, 48, 56
NAMES = ["red", "green", "blue"]
BOXES = [[4.0, 4.0, 20.0, 20.0], [8.0, 2.0, 40.0, 30.0], [-8.0, 10.0, 12.0, 60.0], [1.0, 1.0, 9.0, 9.0]]


def build_graph(height: int = HEIGHT, width: int = WIDTH, threshold_input: bool = False) -> bytes:
    """Four rows: the mean of red, of green and of blue over 255 as scores of classes 0, 1, 2, and an empty row.

    With a threshold as input, scores below it are 0.
    """
    onnx = pytest.importorskip("onnx")
    helper, tensor = onnx.helper, onnx.TensorProto

    def constant(name: str, array: np.ndarray) -> Any:
        return onnx.numpy_helper.from_array(array, name)

    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=tensor.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["means", "white"], ["shares"]),
        helper.make_node("Concat", ["shares", "nothing"], ["all" if threshold_input else "scores"], axis=1),
        helper.make_node("Identity", ["box"], ["boxes"]),
        helper.make_node("Identity", ["class"], ["class_ids"]),
        helper.make_node("Identity", ["logits"], ["mask_logits"]),
    ]
    if threshold_input:
        nodes += [
            helper.make_node("GreaterOrEqual", ["all", "score_threshold"], ["is_wanted"]),
            helper.make_node("Cast", ["is_wanted"], ["wanted"], to=tensor.FLOAT),
            helper.make_node("Mul", ["all", "wanted"], ["scores"]),
        ]
    logits = np.random.default_rng(0).normal(1.0, 3.0, (1, 4, CELLS, CELLS)).astype(np.float32)
    weights = [
        constant("white", np.array(255, np.float32)),
        constant("nothing", np.zeros((1, 1), np.float32)),
        constant("box", np.array([BOXES], np.float32)),
        constant("class", np.array([[0, 1, 2, -1]], np.int32)),
        constant("logits", logits),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", tensor.FLOAT, [1, 4, 4]),
        helper.make_tensor_value_info("scores", tensor.FLOAT, [1, 4]),
        helper.make_tensor_value_info("class_ids", tensor.INT32, [1, 4]),
        helper.make_tensor_value_info("mask_logits", tensor.FLOAT, [1, 4, CELLS, CELLS]),
    ]
    inputs = [helper.make_tensor_value_info("image", tensor.UINT8, [1, height, width, 3])]
    if threshold_input:
        inputs.append(helper.make_tensor_value_info("score_threshold", tensor.FLOAT, [1]))
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def describe(graphs: Dict[str, bytes], **changes: Any) -> Manifest:
    """Return a manifest of `graphs` with some fields changed."""
    entries = {name: GraphEntry.describe(name, data, opset=17, precision="int8") for name, data in graphs.items()}
    manifest = Manifest(
        model="TINY",
        config={"fpn_width": 8},
        input=InputSpec(height=HEIGHT, width=WIDTH, pad_value=(0, 0, 0)),
        classes=NAMES,
        category_ids=[10, 20, 35],
        recipe=Recipe(name="ptq", version="1"),
        graphs=entries,
        nms=Nms(candidates=64, rounds=8, iou_threshold=0.6, per_level_top=32),
        score_threshold=0.2,
        display_threshold=0.2,
        detections=4,
        mask_size=CELLS,
        metrics={"cpu": [Measurement(data="val", images=5, metrics={"mask_ap": 0.25})]},
        fidelity={"cpu": Fidelity(images=5, matched=20, missed=1, spurious=2, score_drift=0.01, mask_iou=0.95)},
        license="Apache-2.0",
        created="2026-01-01T00:00:00Z",
        generator="blendmask-edge 0",
    )
    return msgspec.structs.replace(manifest, **changes)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test out of the user's cache folder, and return the one it has instead."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BLENDMASK_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_graph() -> bytes:
    """Return the graph of `build_graph` at 32 x 48."""
    return build_graph()


@pytest.fixture(scope="session")
def threshold_graph() -> bytes:
    """Return the graph of `build_graph` with a threshold as input."""
    return build_graph(threshold_input=True)


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., Manifest]:
    """Return `describe`."""
    return describe


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, tiny_graph: bytes) -> Path:
    """Return a sound bundle with a cpu and a float graph."""
    graphs = {"cpu": tiny_graph, "float": tiny_graph}
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bmz", describe(graphs), graphs)


@pytest.fixture
def overlapping_bundle(tmp_path: Path, tiny_graph: bytes) -> Path:
    """Return a bundle whose instances of three classes have one and the same box."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_graph)
    boxes = next(weight for weight in model.graph.initializer if weight.name == "box")
    boxes.CopyFrom(onnx.numpy_helper.from_array(np.array([[[4, 4, 20, 20]] * 4], np.float32), "box"))
    graphs = {"cpu": model.SerializeToString()}
    return write_bundle(tmp_path / "same.bmz", describe(graphs), graphs)


@pytest.fixture
def rewrite(bundle_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the bundle with members replaced, added or (None) left out."""

    def rewritten(changes: Dict[str, Any], method: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "changed.bmz"
        with zipfile.ZipFile(bundle_path) as source, zipfile.ZipFile(path, "w", method) as target:
            members = {name: source.read(name) for name in source.namelist()}
            for name, data in {**members, **changes}.items():
                if data is not None:
                    target.writestr(name, data)
        return path

    return rewritten


@pytest.fixture
def manifest_json(bundle_path: Path) -> Dict[str, Any]:
    """Return the sound manifest as a dictionary to spoil."""
    with zipfile.ZipFile(bundle_path) as archive:
        return dict(json.loads(archive.read("manifest.json")))
