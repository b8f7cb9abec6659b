"""What COCO's matching says of made-up detections."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as rle_codec

from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_edge.evaluation.pseudo_labels import pseudo_labels
from tests.quantize.tiny import LABELS

_SIDE = 16


def detecting(*counts: int) -> Matches:
    """Matches on images of two instances each, `counts` of which are detected; one count stands for two images."""
    per_image = counts if len(counts) > 1 else counts * 2
    ids = range(1, len(per_image) + 1)
    results = [_result(number, row) for number in ids for row in range(2)]
    entries = [{"id": number, "file_name": str(number), "height": _SIDE, "width": _SIDE} for number in ids]
    coco = pseudo_labels(results, entries, LABELS, 0.5)
    detected = [one for one in results if one["row"] < per_image[one["image_id"] - 1]]
    return Matches.of(coco, detected, ids)


def _result(image: int, row: int) -> dict[str, object]:
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    mask[8 * row : 8 * row + 6, 2:8] = 1
    return {
        "image_id": image, "category_id": LABELS.category_ids[0], "bbox": [2, 8 * row, 6, 6], "score": 0.9, "row": row,
        "segmentation": rle_codec.encode(np.asfortranarray(mask)),
    }  # fmt: skip
