"""Small annotated images: colored rectangles whose masks are known to the pixel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from blendmask_quantize.training.augment import Augmentation
from tests.quantize.tiny import LABELS

SIZE = (64, 96)
"""Height and width: the test size of the tiny network, so that augmented images of scale 1 show the image as it is."""

COLORS = {2: (200, 40, 40), 5: (40, 200, 40), 9: (40, 40, 200)}
PLAIN = Augmentation(
    crop=SIZE, scale=(1, 1), rotation=0, flip=0, brightness=0, contrast=0, saturation=0, white_balance=0, blur=0,
    motion=0, noise=0, paste=0,
)  # fmt: skip
"""Augmentation that changes nothing."""


@dataclass(frozen=True)
class Thing:
    """A rectangle x0 y0 x1 y1 of a category; its mask as "polygon", "rle" or "counts"."""

    category: int
    box: tuple[int, int, int, int]
    crowd: bool = False
    form: str = "polygon"

    @property
    def mask(self) -> NDArray[np.bool_]:
        x0, y0, x1, y1 = self.box
        mask = np.zeros(SIZE, bool)
        mask[y0:y1, x0:x1] = True
        return mask

    def segmentation(self) -> Any:
        x0, y0, x1, y1 = self.box
        if self.form == "polygon":
            return [[x0, y0, x1, y0, x1, y1, x0, y1]]
        if self.form == "rle":
            rle = rle_codec.encode(np.asfortranarray(self.mask, np.uint8))
            return {"size": list(SIZE), "counts": rle["counts"].decode()}
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.mask.T.ravel(), [0]])))
        return {"size": list(SIZE), "counts": np.diff(edges, prepend=0, append=self.mask.size).tolist()}

    def annotation(self, identity: int, image_id: int) -> dict[str, Any]:
        x0, y0, x1, y1 = self.box
        return {
            "id": identity, "image_id": image_id, "category_id": self.category, "iscrowd": int(self.crowd),
            "bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(self.mask.sum()), "segmentation": self.segmentation(),
        }  # fmt: skip


def paint(things: list[Thing]) -> NDArray[np.uint8]:
    """A gray image with the things painted in order."""
    pixels = np.full((*SIZE, 3), 100, np.uint8)
    for thing in things:
        pixels[thing.mask] = COLORS[thing.category]
    return pixels


def describe(images: list[list[Thing]]) -> dict[str, Any]:
    """COCO annotations; image i has id i + 1 and file name `i.png`."""
    entries = [{"id": i + 1, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(len(images))]
    pairs = [(i + 1, thing) for i, things in enumerate(images) for thing in things]
    annotations = [thing.annotation(n + 1, image_id) for n, (image_id, thing) in enumerate(pairs)]
    named = zip(LABELS.category_ids, LABELS.names, strict=True)
    # The order in the file is not that of the ids.
    categories = [{"id": identity, "name": name} for identity, name in named][::-1]
    return {"images": entries, "annotations": annotations, "categories": categories}


def write_images(folder: Path, images: list[list[Thing]]) -> Path:
    """Write `i.png` and `annotations.json` into the folder; returns the path of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, things in enumerate(images):
        cv2.imwrite(str(folder / f"{i}.png"), paint(things)[..., ::-1])
    return write_annotations(folder, describe(images))


def write_annotations(folder: Path, content: Any) -> Path:
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def some_images(count: int = 4, seed: int = 0) -> list[list[Thing]]:
    """Images with one to three rectangles at least 16 pixels wide."""
    rng = np.random.default_rng(seed)

    def thing() -> Thing:
        x, y = rng.integers(0, SIZE[1] - 16), rng.integers(0, SIZE[0] - 16)
        width, height = rng.integers(16, 48, 2)
        corner = (int(min(x + width, SIZE[1])), int(min(y + height, SIZE[0])))
        return Thing(int(rng.choice(list(COLORS))), (int(x), int(y), *corner))

    return [[thing() for _ in range(rng.integers(1, 4))] for _ in range(count)]
