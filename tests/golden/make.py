"""Make a golden bundle of the schema version that this checkout writes: README.md beside this file says when.

    python -m tests.golden.make NAME

writes NAME.bmz, NAME_later.bmz, NAME.npz and their lines of SHA256SUMS. What exists is never overwritten.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from blendmask_edge import MaskPredictor
from blendmask_edge.bundle import (
    Calibration,
    CalibrationImage,
    GraphEntry,
    InputSpec,
    Manifest,
    Measurement,
    Nms,
    Recipe,
    write_bundle,
)
from blendmask_edge.bundle.manifest import Fidelity

FOLDER = Path(__file__).parent
SUMS = FOLDER / "SHA256SUMS"
HEIGHT, WIDTH, ROWS, CELLS = 32, 48, 4, 8
FUTURE = 1000
"""A schema version that no release will have."""
_LARGEST_WEIGHT = 63
"""Two products with 255 fit into 16 bits, so that processors without VNNI give the same sums."""


def main() -> None:
    """Make the files of the name that is given."""
    name = sys.argv[1]
    paths = [FOLDER / f"{name}{end}" for end in (".bmz", "_later.bmz", ".npz")]
    taken = [path.name for path in paths if path.exists()]
    if taken:
        sys.exit(f"error: {', '.join(taken)} exist, and golden files are never overwritten: give another name")
    graphs = {variant: network(variant).SerializeToString() for variant in ("cpu", "tensorrt", "float")}
    write_bundle(paths[0], manifest(graphs), graphs)
    rewrite(paths[0], paths[1], later)
    np.savez_compressed(paths[2], **expected(paths[0], list(graphs)))
    if not (FOLDER / "future.bmz").exists():
        rewrite(paths[0], FOLDER / "future.bmz", future)
        paths.append(FOLDER / "future.bmz")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    with SUMS.open("a", encoding="utf-8") as sums:
        sums.writelines(lines)


def network(variant: str) -> onnx.ModelProto:
    """One 3x3 convolution whose channels, pooled, are the masks, and, averaged, the scores of three classes."""
    boxes = np.array([[[2, 2, 22, 26], [20, 4, 46, 30], [-4, 10, 12, 40], [0, 0, 1, 1]]], np.float32)
    constants = {
        "full": np.array(255, np.float32), "gain": np.array(4, np.float32), "row": np.array([1, ROWS], np.int64),
        "box": boxes, "class": np.array([[0, 1, 2, -1]], np.int32), "used": np.array([[1, 1, 1, 0]], np.float32),
    }  # fmt: skip
    convolution, weights = float_convolution() if variant == "float" else int8_convolution(variant)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "full"], ["normalized"]),
        *convolution,
        helper.make_node("AveragePool", ["features"], ["cells"], kernel_shape=[4, 6], strides=[4, 6]),
        helper.make_node("Mul", ["cells", "gain"], ["mask_logits"]),
        helper.make_node("GlobalAveragePool", ["features"], ["means"]),
        helper.make_node("Reshape", ["means", "row"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("GreaterOrEqual", ["probabilities", "score_threshold"], ["is_wanted"]),
        helper.make_node("Cast", ["is_wanted"], ["wanted"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["probabilities", "used"], ["used_probabilities"]),
        helper.make_node("Mul", ["used_probabilities", "wanted"], ["scores"]),
        helper.make_node("Identity", ["box"], ["boxes"]),
        helper.make_node("Identity", ["class"], ["class_ids"]),
    ]
    values = [numpy_helper.from_array(array, name) for name, array in {**constants, **weights}.items()]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3]),
        helper.make_tensor_value_info("score_threshold", TensorProto.FLOAT, [1]),
    ]
    graph = helper.make_graph(nodes, "golden", inputs, outputs(), values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs() -> list[onnx.ValueInfoProto]:
    """Return the outputs of the contract."""
    return [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, ROWS, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, ROWS]),
        helper.make_tensor_value_info("class_ids", TensorProto.INT32, [1, ROWS]),
        helper.make_tensor_value_info("mask_logits", TensorProto.FLOAT, [1, ROWS, CELLS, CELLS]),
    ]


def kernel() -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights of the convolution and the scale of each channel."""
    limit = _LARGEST_WEIGHT
    integers = np.random.default_rng(7).integers(-limit, limit + 1, (ROWS, 3, 3, 3)).astype(np.int8)
    return integers, np.array([0.004, 0.006, 0.005, 0.003], np.float32)


def float_convolution() -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Return nodes from `normalised` to `features`, and their weights."""
    integers, scales = kernel()
    weights = {"kernel": integers * scales[:, None, None, None]}
    return [helper.make_node("Conv", ["normalized", "kernel"], ["features"], pads=[1, 1, 1, 1])], weights


def int8_convolution(variant: str) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Return the same with Q/DQ pairs: uint8 activations for `cpu`, int8 for `tensorrt`."""
    integers, scales = kernel()
    kind, step = (np.uint8, 1 / 255) if variant == "cpu" else (np.int8, 1 / 127)
    weights = {
        "integers": integers, "scales": scales, "zeros": np.zeros(ROWS, np.int8),
        "step": np.array(step, np.float32), "zero": np.array(0, kind),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["integers", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("QuantizeLinear", ["normalized", "step", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["rounded"]),
        helper.make_node("Conv", ["rounded", "kernel"], ["features"], pads=[1, 1, 1, 1]),
    ]
    return nodes, weights


def manifest(graphs: dict[str, bytes]) -> Manifest:
    """Return a manifest with every field at another value than its default."""
    images = [CalibrationImage(name=f"{i}.jpg", sha256=hashlib.sha256(bytes([i])).hexdigest()) for i in range(3)]
    entries = {
        name: GraphEntry.describe(name, data, opset=17, precision="float32" if name == "float" else "int8")
        for name, data in graphs.items()
    }
    result = Measurement(data="images (some.json)", images=5, metrics={"mask_ap": 0.25, "mask_ap/cup": 0.5})
    fidelity = Fidelity(
        images=2, matched=9, missed=1, spurious=2, score_drift=0.01, box_iou=0.98, mask_iou=0.96, mask_iou_low=0.9
    )
    return Manifest(
        model="GOLDEN",
        config={"name": "GOLDEN", "classes": 3},
        input=InputSpec(height=HEIGHT, width=WIDTH, pad_value=(127, 120, 99)),
        classes=["cup", "plate", "fork"],
        category_ids=[2, 5, 9],
        recipe=Recipe(name="ptq", version="1", options={"estimator": "max"}),
        calibration=Calibration(
            images=images[:2], seed=3, estimator="max", found=40, overrides=["few-images"], warnings=["grey"],
            held_out=images[2:], clipped={"backbone": 0.001},
        ),
        graphs=entries,
        ranges_sha256=hashlib.sha256(b"ranges").hexdigest(),
        nms=Nms(candidates=64, rounds=8, iou_threshold=0.6, per_level_top=32),
        score_threshold=0.2,
        threshold_input=True,
        display_threshold=0.4,
        display_measurement=Measurement(data="some.json", images=7, metrics={"f1": 0.5, "recall": 0.4}),
        detections=ROWS,
        mask_size=CELLS,
        metrics={name: [result] for name in graphs},
        fidelity={"cpu": fidelity, "tensorrt": fidelity},
        versions={"onnx": onnx.__version__},
        license="Apache-2.0",
        created="2026-11-24T00:00:00+00:00",
        generator="blendmask-edge 0.1.0",
    )  # fmt: skip


def image() -> NDArray[np.uint8]:
    """Return an image (45, 60, 3) of waves, which is resized and padded on its way into the network."""
    rows, columns = np.mgrid[0:45, 0:60]
    waves = [np.sin(rows / 7), np.cos(columns / 9), np.sin((rows + columns) / 11)]
    return np.stack([np.round(127 + 120 * wave) for wave in waves], axis=2).astype(np.uint8)


def expected(path: Path, variants: list[str]) -> dict[str, NDArray[Any]]:
    """Return the image, and boxes, scores, class ids and masks that each variant finds in ONNX Runtime."""
    arrays: dict[str, NDArray[Any]] = {"image": image()}
    for variant in variants:
        with MaskPredictor(path, "onnxruntime", threads=1, score_threshold=0, variant=variant) as predictor:
            result = predictor(arrays["image"])
        for name in ("boxes", "scores", "class_ids", "masks"):
            arrays[f"{variant}/{name}"] = getattr(result, name)
    return arrays


def later(document: dict[str, Any], members: dict[str, bytes]) -> None:
    """Add what a later release may add within the version: fields in every struct, members, a variant."""
    document["graphs"]["npu"] = {**document["graphs"]["cpu"], "file": "npu.onnx"}
    document["metrics"]["npu"] = document["metrics"]["cpu"]
    entries = [document["calibration"]["images"][0], document["metrics"]["cpu"][0], document["fidelity"]["cpu"]]
    structs = [document["input"], document["recipe"], document["calibration"], document["graphs"]["cpu"]]
    for struct in [document, *structs, *entries, document["nms"]]:
        struct["added_later"] = {"depth": [1, None, "two"]}
    members.update({"npu.onnx": members["cpu.onnx"], "signature": b"x" * 64, "notes.txt": b"later"})


def future(document: dict[str, Any], members: dict[str, bytes]) -> None:
    """Leave of a bundle what a version that is yet to come may have in common with ours: the version's number."""
    document.clear()
    document.update({"schema_version": FUTURE, "networks": [{"weights": "elsewhere"}]})
    members.clear()
    members["networks.bin"] = b"unknown"


def rewrite(source: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """Copy a bundle with manifest and members changed."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members["manifest.json"])
    change(document, members)
    members["manifest.json"] = msgspec.json.encode(document)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
