"""A bundle whose network takes almost no time, or a few milliseconds, with images and annotations for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.manifest import GraphEntry, InputSpec, Manifest, Nms, Recipe

SIZE = (48, 64)
CLASSES = ("red", "green", "blue")
_ROWS, _MASK, _CHANNELS, _SOURCES = 8, 56, 32, 32


def write_tiny_bundle(path: Path, layers: int = 0) -> Path:
    """Write a bundle that detects eight ellipses in every image, with scores that follow from its mean color.

    Args:
        path: the .bmz file.
        layers: convolutions before, of about 28 million multiply-accumulates each, which take most of the time.
    """
    graph = _graph(layers)
    manifest = Manifest(
        model="TINY", config={}, input=InputSpec(height=SIZE[0], width=SIZE[1], pad_value=(0, 0, 0)),
        classes=list(CLASSES), category_ids=[1, 2, 3], recipe=Recipe(name="ptq", version="1"),
        graphs={"cpu": GraphEntry.describe("cpu", graph, opset=17, precision="fp32")},
        nms=Nms(candidates=64, rounds=8, iou_threshold=0.6, per_level_top=64), score_threshold=0.05,
        display_threshold=0.5, detections=_ROWS, mask_size=_MASK, license="Apache-2.0",
        created="2026-01-01T00:00:00Z", generator="bench",
    )  # fmt: skip
    return write_bundle(path, manifest, {"cpu": graph})


def write_tiny_images(folder: Path, count: int) -> tuple[Path, Path]:
    """Write images that are links to a few, and annotations of them, and return both paths.

    Args:
        folder: an empty folder.
        count: number of images.
    """
    rng = np.random.default_rng(0)
    sources, images = folder / "sources", folder / "images"
    sources.mkdir()
    images.mkdir()
    for number in range(_SOURCES):
        cv2.imwrite(str(sources / f"{number}.png"), rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    for number in range(count):
        (images / f"{number:06d}.png").symlink_to(Path("..") / "sources" / f"{number % _SOURCES}.png")
    height, width = SIZE
    entries = [{"id": n, "file_name": f"{n:06d}.png", "height": height, "width": width} for n in range(count)]
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    document = {"images": entries, "annotations": _annotations(rng, count), "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))
    return images, folder / "annotations.json"


def _annotations(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Return two rectangles for each image."""
    boxes = np.concatenate([rng.integers(0, 24, (2 * count, 2)), rng.integers(8, 24, (2 * count, 2))], axis=1).tolist()
    return [
        {
            "id": number + 1, "image_id": number // 2, "category_id": number % len(CLASSES) + 1, "iscrowd": 0,
            "bbox": [x, y, w, h], "area": w * h, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for number, (x, y, w, h) in enumerate(boxes)
    ]  # fmt: skip


def _graph(layers: int) -> bytes:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 24, (1, _ROWS, 2))
    along = (np.arange(_MASK) + 0.5) / _MASK * 2 - 1
    ellipse = 8 * (1 - along[:, None] ** 2 - along**2)
    constants = {
        "boxes": np.concatenate([corner, corner + rng.uniform(8, 24, (1, _ROWS, 2))], axis=2).astype(np.float32),
        "class_ids": np.arange(_ROWS, dtype=np.int32)[None] % len(CLASSES),
        "mask_logits": np.repeat(ellipse[None, None], _ROWS, axis=1).astype(np.float32),
        "white": np.float32(255),
        **{f"kernel_{n}": _kernel(rng, _CHANNELS if n else 3) for n in range(layers)},
        "mix": rng.uniform(0, 1 / 3, (_CHANNELS if layers else 3, _ROWS)).astype(np.float32),
    }
    outputs = {"boxes": [1, _ROWS, 4], "class_ids": [1, _ROWS], "mask_logits": [1, _ROWS, _MASK, _MASK]}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["shares_0"]),
        helper.make_node("Transpose", ["shares_0"], ["features_0"], perm=[0, 3, 1, 2]),
        *(
            helper.make_node("Conv", [f"features_{n}", f"kernel_{n}"], [f"features_{n + 1}"], pads=[1] * 4)
            for n in range(layers)
        ),
        helper.make_node("ReduceMean", [f"features_{layers}"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Abs", ["means"], ["shares"]),
        helper.make_node("MatMul", ["shares", "mix"], ["scores"]),
        *(helper.make_node("Identity", [f"constant_{name}"], [name]) for name in outputs),
    ]
    weights = [
        numpy_helper.from_array(np.asarray(v), f"constant_{n}" if n in outputs else n) for n, v in constants.items()
    ]
    kinds = {"class_ids": TensorProto.INT32}
    infos = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
        for name, shape in {**outputs, "scores": [1, _ROWS]}.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SIZE, 3])
    graph = helper.make_graph(nodes, "tiny", [image], sorted(infos, key=lambda info: _ORDER.index(info.name)), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _kernel(rng: np.random.Generator, inputs: int) -> NDArray[np.float32]:
    """Random weights whose results keep the size of what they are applied to."""
    return (rng.uniform(-1, 1, (_CHANNELS, inputs, 3, 3)) / (9 * inputs)).astype(np.float32)


_ORDER = ("boxes", "scores", "class_ids", "mask_logits")
