"""On annotations as COCO 2017 and people have them, average precision is that of pycocotools to the last digit.

One generated set has every oddity: category ids with holes and one never shown, crowds, images that show nothing or are
found to show nothing, masks as polygons of several parts and as both kinds of run lengths, areas that are not those of
the masks and lie on the borders between small, medium and large, ids out of order, equal scores, more than a hundred
detections, doubles, empty masks, and objects that leave the image.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import IOU_TYPES, evaluate
from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_edge.evaluation.predictions import predict_annotated
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels

SIZES = [(480, 640), (640, 427), (375, 500), (640, 640), (333, 500), (52, 59), (640, 478), (426, 640)]
"""Heights and widths of COCO 2017, its smallest image among them."""
CATEGORIES = {1: "person", 3: "car", 13: "stop sign", 44: "bottle", 84: "book", 90: "toothbrush", 67: "never shown"}
LABELS = Labels(list(CATEGORIES.values()), list(CATEGORIES))
SHOWN = (1, 3, 13, 44, 84, 90)
SUFFIXES = ("", "50", "75", "_small", "_medium", "_large")
CROWDED, EMPTY, CROWD_ALONE, UNFOUND = 0, 1, 2, 3
"""Images with more than a hundred detections, without annotations, with a crowd only, and without detections."""
ROUND = np.float32(6 * (1 - np.linspace(-1, 1, 28)[:, None] ** 2 - np.linspace(-1, 1, 28)[None] ** 2))
BOX = np.full((28, 28), 3, np.float32)


def segmentation(rng: np.random.Generator, mask: np.ndarray, form: int) -> Any:
    """Return a mask as compressed or plain run lengths, or what is about it as polygons."""
    rle = coco_mask.encode(np.asfortranarray(mask))
    if form == 0:
        return {"size": rle["size"], "counts": rle["counts"].decode()}
    if form == 1:
        flat = np.concatenate([[0], mask.flatten(order="F"), [2]])
        edges = np.flatnonzero(np.diff(flat[:-1])).tolist()
        ends = [*edges, mask.size]
        return {"size": list(mask.shape), "counts": [end - start for start, end in zip([0, *edges], ends)]}
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    parts = [[x, y, x + width / 2, y, x + width / 2, y + height, x, y + height]]
    if form == 3:
        parts.append([x + width * 0.6, y, x + width, y + height * 0.3, x + width * 0.7, y + float(rng.uniform(1, 9))])
    return parts


def annotations_of(rng: np.random.Generator) -> Dict[str, Any]:
    images = [
        {
            "id": 139 + 7919 * ((5 * place) % len(SIZES)),
            "file_name": f"{place:012}.png",
            "height": height,
            "width": width,
        }
        for place, (height, width) in enumerate(SIZES)
    ]
    annotations: List[Dict[str, Any]] = []
    for place, image in enumerate(images):
        count = {CROWDED: 30, EMPTY: 0, CROWD_ALONE: 1}.get(place, 9)
        for number in range(count):
            height, width = image["height"], image["width"]
            side = rng.uniform(4, [height / 2, width / 2])
            y, x = (rng.uniform(0, [height, width]) - side / 4).clip(0, [height - 4, width - 4]).astype(int)
            mask = np.zeros((height, width), np.uint8)
            mask[y : y + int(side[0]), x : x + int(side[1])] = 1
            crowd = int(place == CROWD_ALONE or number % 7 == 6)
            shape = segmentation(rng, mask, int(rng.integers(0, 2)) if crowd else int(rng.integers(0, 4)))
            area = float(rng.choice([mask.sum(), 32**2, 96**2, 500.5, 5000.25, 20000]))
            box = [x, y, min(int(side[1]), width - x), min(int(side[0]), height - y)]
            annotations.append(
                {
                    "id": 900_100 - 37 * len(annotations),
                    "image_id": image["id"],
                    "category_id": int(rng.choice(SHOWN)),
                    "iscrowd": crowd,
                    "area": area,
                    "bbox": [float(value) for value in box],
                    "segmentation": shape,
                }
            )
    order = rng.permutation(len(annotations))
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in CATEGORIES.items()]
    return {
        "info": {}, "licenses": [], "images": images, "annotations": [annotations[i] for i in order],
        "categories": categories,
    }  # fmt: skip


def detections_of(rng: np.random.Generator, document: Dict[str, Any], place: int) -> Instances:
    """Return detections near the annotations of an image, and many that are wrong."""
    image = document["images"][place]
    known = [entry for entry in document["annotations"] if entry["image_id"] == image["id"]]
    size = image["height"], image["width"]
    count = {CROWDED: 130, UNFOUND: 0}.get(place, 25)
    boxes, classes = np.zeros((count, 4), np.float32), np.zeros(count, np.int64)
    for row in range(count):
        if known and row % 3:
            x, y, width, height = known[row % len(known)]["bbox"]
            near = rng.normal(0, 0.06, 4) * [width, height, width, height] if row % 5 else np.zeros(4)
            boxes[row] = np.array([x, y, x + width, y + height]) + near
            classes[row] = LABELS.category_ids.index(known[row % len(known)]["category_id"])
        else:
            low = rng.uniform(-20, [size[1], size[0]])
            boxes[row] = [*low, *(low + rng.uniform(1, 150, 2))]
            classes[row] = rng.integers(0, len(CATEGORIES))
    scores = np.sort(rng.choice(np.float32([0, 0.05, 0.3, 0.3, 0.5, 0.7, 0.9, 1]), count))[::-1].astype(np.float32)
    logits = np.array([(BOX, ROUND, -BOX)[min(2, row % 11 // 5)] for row in range(count)], np.float32)
    return Instances(boxes, scores, classes, size, LABELS, logits.reshape(count, 28, 28))


def by_pycocotools(path: Path, results: List[Dict[str, Any]], task: str) -> Dict[str, float]:
    """Return the summary of pycocotools by our names, and AP of each category."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        # with a box, pycocotools takes the size of a mask from it; detectron2 leaves it out, and so do we
        kept = [{k: v for k, v in result.items() if task == "box" or k != "bbox"} for result in results]
        evaluation = COCOeval(coco, coco.loadRes(kept), IOU_TYPES[task])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    summary = {f"{task}_ap{s}": v for s, v in zip(SUFFIXES, evaluation.stats.tolist()) if v > -1}
    precision = evaluation.eval["precision"][..., 0, -1]
    for index, category in enumerate(evaluation.params.catIds):
        values = precision[..., index]
        if (values > -1).any():
            summary[f"{task}_ap/{CATEGORIES[category]}"] = float(values[values > -1].mean())
    return summary


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_oddity_scores_as_pycocotools_scores_it(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    document = annotations_of(rng)
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    answers = {}
    for place, image in enumerate(document["images"]):
        pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
        pixels[0, 0, 0] = place
        cv2.imwrite(str(tmp_path / image["file_name"]), pixels[..., ::-1])
        answers[place] = detections_of(rng, document, place)
    images = AnnotatedImages.open(tmp_path, path, LABELS)

    def predict(image: np.ndarray) -> Instances:
        return answers[int(image[0, 0, 0])]

    found = evaluate(predict, images)
    results = predict_annotated(predict, images)
    assert len(results) == sum(map(len, answers.values())) > 250
    for task in IOU_TYPES:
        expected = by_pycocotools(path, results, task)
        assert {name: value for name, value in found.items() if name.startswith(task)} == expected
        assert 0 < expected[f"{task}_ap"] < 1
        assert {f"{task}_ap{suffix}" for suffix in SUFFIXES} <= set(expected)
        assert f"{task}_ap/never shown" not in expected
        once = Matches.of(images.coco, results, images.ids, task).metrics(np.ones(len(images.ids), np.int64))
        assert once == expected
