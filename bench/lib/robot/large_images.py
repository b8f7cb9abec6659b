"""Mask AP of large images with small instances, in one call and in tiles."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate

LARGE_SIZE, CELLS, SCENES = (2160, 3840), (5, 7), 10
"""Of a large image: its size, how many scenes would fit in rows and columns, and how many it shows."""


def tile_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Mask AP of large images in one call and in tiles."""
    with (
        tempfile.TemporaryDirectory() as name,
        MaskPredictor(options.bundle, "onnxruntime", score_threshold=0) as predictor,
    ):
        folder = Path(name)
        _write_large_images(options.data, folder, options.images)
        images = AnnotatedImages.open(folder, folder / "large.json")
        size = predictor.manifest.input
        tiled = partial(predictor.predict_tiled, overlap=options.overlap)
        for name, predict in (("4k/single", predictor), ("4k/tiles", tiled)):
            metrics = evaluate(predict, images, lambda: print(".", end="", flush=True))
            yield {
                "name": name,
                "images": options.images,
                "tile_height": size.height,
                "tile_width": size.width,
                "overlap": options.overlap,
                **{key: round(value, 4) for key, value in metrics.items() if key in _METRICS},
            }


_METRICS = ("mask_ap", "mask_ap50", "mask_ap_small", "mask_ap_medium", "mask_ap_large")


def _write_large_images(data: Path, folder: Path, count: int) -> None:
    """Lay scenes of the held-out split into large gray images, with their annotations."""
    document = json.loads((data / "val.json").read_text(encoding="utf-8"))
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    scenes = iter(document["images"])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        canvas = np.full((*LARGE_SIZE, 3), 114, np.uint8)
        cells = np.random.default_rng(number).permutation(CELLS[0] * CELLS[1])[:SCENES]
        for cell in cells.tolist():
            scene = next(scenes)
            pixels = read_image(data / "val" / scene["file_name"])
            y, x = (cell // CELLS[1]) * LARGE_SIZE[0] // CELLS[0], (cell % CELLS[1]) * LARGE_SIZE[1] // CELLS[1]
            canvas[y : y + scene["height"], x : x + scene["width"]] = pixels[..., ::-1]
            annotations += [_moved(each, x, y, scene, number) for each in by_image.get(scene["id"], [])]
        file_name = f"{number:03}.png"
        cv2.imwrite(str(folder / file_name), canvas)
        images.append({"id": number, "file_name": file_name, "height": LARGE_SIZE[0], "width": LARGE_SIZE[1]})
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    large = {"images": images, "annotations": annotations, "categories": document["categories"]}
    (folder / "large.json").write_text(json.dumps(large), encoding="utf-8")


def _moved(annotation: dict[str, Any], x: int, y: int, scene: dict[str, Any], image_id: int) -> dict[str, Any]:
    """An annotation of a scene that lies at x, y of a large image."""
    rle: Any = annotation["segmentation"]
    if isinstance(rle, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(rle, scene["height"], scene["width"]))
    elif isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, scene["height"], scene["width"])
    mask = np.zeros(LARGE_SIZE, np.uint8, order="F")
    mask[y : y + scene["height"], x : x + scene["width"]] = coco_mask.decode(rle)
    packed = coco_mask.encode(mask)
    left, top, width, height = annotation["bbox"]
    return {
        **annotation,
        "image_id": image_id,
        "bbox": [left + x, top + y, width, height],
        "segmentation": {"size": list(LARGE_SIZE), "counts": packed["counts"].decode()},
    }
