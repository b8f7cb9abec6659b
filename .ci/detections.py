"""Print the detections of a bundle in images as JSON, or compare two such files.

detections.py BUNDLE IMAGE... > detections.json
detections.py --compare ONE OTHER
"""

import json
import sys
from pathlib import Path

import numpy as np

SCORE = 0.3
LEAST_IOU = 0.9


def detect(bundle, paths):
    """Return boxes and classes by image, from a score of `SCORE` on."""
    from blendmask_edge import MaskPredictor, read_image

    with MaskPredictor(bundle, runtime="onnxruntime", threads=1, score_threshold=SCORE) as predictor:
        detected = {path: predictor(read_image(path)) for path in paths}
    return {
        path: {"boxes": instances.boxes.tolist(), "classes": instances.class_ids.tolist()}
        for path, instances in detected.items()
    }


def overlaps(one, other):
    """Return the IoU (N, M) of boxes of the same class, 0 elsewhere."""
    first, second = (np.array(image["boxes"], np.float64).reshape(-1, 4) for image in (one, other))
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    same = np.array(one["classes"])[:, None] == np.array(other["classes"])
    return np.where(same, shared / (areas[0][:, None] + areas[1] - shared), 0)


def compare(one, other):
    """Print how many detections both have and how far their boxes overlap; return whether they agree."""
    ious = [overlaps(one[path], other[path]) for path in one]
    counts = [sum(len(image["classes"]) for image in images.values()) for images in (one, other)]
    best = [np.concatenate([table.max(axis=axis, initial=0) for table in ious]) for axis in (1, 0)]
    matched = min(int((row > 0.5).sum()) for row in best)
    mean = best[0][best[0] > 0.5].mean() if matched else 0.0
    print(f"{counts[0]} detections here, {counts[1]} there, {matched} in both, mean box IoU {mean:.3f}")
    return matched >= 0.95 * max(counts) and mean >= LEAST_IOU


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        one, other = (json.loads(Path(path).read_text()) for path in sys.argv[2:4])
        sys.exit(0 if compare(one, other) else "The detections do not agree.")
    print(json.dumps(detect(sys.argv[1], sys.argv[2:])))
